"""Claims meet records: for each claim, what was measured, how comparable it is, and whether it
held."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from harness import plan
from harness.judging.quantities import Measurements, Unmeasured, measure
from harness.judging.statistics import Estimate
from harness.records import Record
from harness.specs.claims import Claim, Criterion, Difference, Quantity
from harness.specs.schema import Paper
from harness.specs.types import Evidence

Judgement = Literal["reproduced", "not reproduced", "inconclusive", "not comparable", "not run"]
JUDGEMENTS: tuple[Judgement, ...] = (
    "reproduced",
    "not reproduced",
    "inconclusive",
    "not comparable",
    "not run",
)
_STRENGTH: dict[Evidence, int] = {"paper": 2, "reduced": 1, "stand-in": 0}


@dataclass(frozen=True)
class Verdict:
    """One claim on one dataset.

    ``measured``, ``ci_low``, ``ci_high`` and ``reported`` are in ``unit``; ``n`` counts seeds or
    is ``exact``. ``control`` says how the control behaved; ``stale`` that code changed since.
    """

    paper: str
    claim: str
    statement: str
    dataset: str
    tier: str
    verdict: Judgement
    reason: str
    unit: str
    reported: float | None
    reported_text: str
    source: str
    evidence: Evidence | None = None
    measured: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int | Literal["exact"] | None = None
    criterion: str = ""
    quantity: str = ""
    control: str = ""
    stale: bool = False


@dataclass(frozen=True)
class Current:
    """A record that the spec still asks for; ``stale`` if its code or data changed since."""

    record: Record
    stale: bool


def current(paper: Paper, tier: str, records: Iterable[Record]) -> list[Current]:
    """Those records of a tier that still belong to the spec."""
    trial_of = plan.planner(paper)
    pairs = ((r, trial_of(r)) for r in records if r.tier == tier)
    return [Current(r, plan.outdated(t, r)) for r, t in pairs if t is not None]


def judge(
    paper: Paper, tier: str, records: Iterable[Record], datasets: Sequence[str] | None = None
) -> list[Verdict]:
    """Judge every claim of a paper at a tier.

    Args:
        records: of the paper; those that no longer belong to the spec are left out.
        datasets: only these; default all that were measured.
    """
    return judge_current(paper, tier, current(paper, tier, records), datasets)


def judge_current(
    paper: Paper, tier: str, found: Iterable[Current], datasets: Sequence[str] | None = None
) -> list[Verdict]:
    """Like :func:`judge`, of records that are known to belong to the spec."""
    found = list(found)
    folds = {name: len(plan.folds(paper, name)) for name in paper.datasets}
    records = [c.record for c in found]
    measurements = Measurements(records, paper.metrics, folds)
    measured_on = measurements.datasets
    scope = [d for d in (datasets or measured_on) if d in measured_on]
    stale = {
        (c.record.variant, c.record.dataset) for c in found if c.stale and c.record.status == "done"
    }
    judge_claim = _Judge(paper, tier, measurements, stale, records)
    return [v for claim in paper.claims for v in judge_claim(claim, scope)]


class _Judge:
    """Holds what every claim of one paper and tier is judged with."""

    def __init__(
        self,
        paper: Paper,
        tier: str,
        found: Measurements,
        stale: set[tuple[str, str]],
        records: Sequence[Record],
    ) -> None:
        self.paper = paper
        self.tier = tier
        self.found = found
        self.stale = stale
        self.protocols = {(r.variant, r.dataset): r.protocol for r in records}

    def __call__(self, claim: Claim, scope: Sequence[str]) -> list[Verdict]:
        if claim.quantity is None:
            return [self._blank(claim, "—", claim.not_run)]
        rows = self._measured_on(claim.quantity, scope)
        if not rows:
            wanted = " or ".join(claim.quantity.datasets)
            return [self._blank(claim, wanted, f"no measurement on {wanted} at this tier")]
        return [self._judge(claim, claim.quantity, datasets) for datasets in rows]

    def _measured_on(self, quantity: Quantity, scope: Sequence[str]) -> list[list[str]]:
        """The datasets of each row: those the claim names and those that stand in for them."""
        named = quantity.datasets
        datasets = self.paper.datasets
        able = [d for d in scope if d in named or set(named) & set(datasets[d].stands_in_for)]
        if quantity.across == "each":
            return [[d] for d in able]
        picked = []
        for name in named:
            for_it = [d for d in able if d == name or name in datasets[d].stands_in_for]
            if not for_it:
                return []
            picked.append(name if name in for_it else for_it[0])
        return [list(dict.fromkeys(picked))] if picked else []

    def _judge(self, claim: Claim, quantity: Quantity, datasets: list[str]) -> Verdict:
        where = " + ".join(datasets)
        try:
            measured = measure(quantity, datasets, self.found)
        except Unmeasured as missing:
            return self._blank(claim, where, str(missing))
        evidence = self._evidence(quantity, datasets)
        assert claim.criterion is not None
        verdict, reason = decide(claim, measured, evidence)
        cells = [(o.variant, o.on or d) for o in quantity.operands for d in datasets]
        if mixed := self.found.mixed(cells):
            reason = f"{reason}; records made with {mixed} (--same-versions takes the newest kind)"
        control = self._control(claim, quantity, datasets)
        if control is not None and not control[0] and verdict == "reproduced":
            verdict, reason = "inconclusive", control[1]
        return replace(
            self._blank(claim, where, reason),
            verdict=verdict,
            evidence=evidence,
            measured=measured.value,
            ci_low=measured.low,
            ci_high=measured.high,
            n=measured.n,
            control=control[1] if control else "",
            stale=any(
                (o.variant, o.on or d) in self.stale for o in quantity.operands for d in datasets
            ),
        )

    def _evidence(self, quantity: Quantity, datasets: list[str]) -> Evidence:
        """The weakest evidence among everything that enters the quantity."""
        cells = [(o.variant, o.on or d) for o in quantity.operands for d in datasets]
        kinds = [
            plan.evidence(self.paper, dataset, self.protocols.get((variant, dataset), "reduced"))
            for variant, dataset in cells
        ]
        return min(kinds, key=_STRENGTH.__getitem__)

    def _control(
        self, claim: Claim, quantity: Quantity, datasets: list[str]
    ) -> tuple[bool, str] | None:
        """Whether the control behaved, and what it measured."""
        control = claim.control
        if control is None:
            return None
        metric = control.metric or quantity.of.metric or quantity.metric
        gap = Difference.model_validate(
            {
                "difference": metric,
                "of": quantity.of.variant,
                "from": control.variant,
                "on": quantity.on,
            }
        )
        try:
            found = measure(gap, datasets, self.found)
        except Unmeasured as missing:
            return False, f"the control was not measured: {missing}"
        sign = 1.0 if control.must_be == "lower" else -1.0
        ends = [sign * end for end in (found.low, found.high) if end is not None]
        shown = _gap_in_words(control.variant, found, self._unit(gap))
        behaves = bool(ends) and min(ends) > control.by
        if behaves:
            return True, f"control: {shown}"
        if found.low is None:
            return False, f"the control cannot be judged ({found.note}): {shown}"
        margin = f" by more than {digits(control.by)}" if control.by else ""
        return False, f"the control is not clearly {control.must_be}{margin}: {shown}"

    def _unit(self, quantity: Quantity) -> str:
        metric = self.paper.metrics.get(quantity.of.metric or quantity.metric)
        unit = metric.unit if metric else ""
        if not isinstance(quantity.over_seeds, str):
            return "of runs"
        if quantity.kind == "difference":
            return "points" if unit == "%" else unit
        return {"ratio": "×", "relative_change": "%", "slope": "", "monotonic": ""}.get(
            quantity.kind, unit
        )

    def _blank(self, claim: Claim, dataset: str, reason: str) -> Verdict:
        return Verdict(
            paper=self.paper.key,
            claim=claim.id,
            statement=claim.statement,
            dataset=dataset,
            tier=self.tier,
            verdict="not run",
            reason=reason,
            unit=self._unit(claim.quantity) if claim.quantity else claim.reported.unit,
            reported=claim.reported.value,
            reported_text=claim.reported.text,
            source=f"{claim.source.where}; {claim.source.seen_in}",
            criterion=describe_criterion(claim),
            quantity=describe_quantity(claim.quantity) if claim.quantity else "",
        )


def _gap_in_words(control: str, gap: Estimate, unit: str) -> str:
    """How far the control lies below or above what it controls, both ends in that direction."""
    below = gap.value > 0
    text = f"{control} is {abs(gap.value):.3g} {unit} ".replace("  ", " ")
    text += "lower" if below else "higher"
    if gap.low is not None and gap.high is not None:
        low, high = (gap.low, gap.high) if below else (-gap.high, -gap.low)
        text += f" [{low:.3g}, {high:.3g}]"
    return text


def decide(claim: Claim, measured: Estimate, evidence: Evidence) -> tuple[Judgement, str]:
    """The verdict on a measured quantity, and why."""
    assert claim.quantity is not None and claim.criterion is not None
    if evidence == "stand-in" and is_absolute(claim):
        return "not comparable", "an absolute figure, measured on stand-in data"
    low, high = accepted(claim)
    holds = _position(measured, low, high, strict=claim.criterion.kind.endswith("than"))
    shown = describe_criterion(claim)
    if measured.low is None and measured.note == "single seed":
        side = "meets" if holds == "inside" else "misses"
        return "inconclusive", f"single seed, no interval (the value {side}: {shown})"
    suffix = f" ({measured.note})" if measured.low is None else ""
    if holds == "inside":
        return "reproduced", f"inside: {shown}{suffix}"
    if holds == "across":
        return "inconclusive", f"the interval reaches across: {shown}{suffix}"
    if evidence == "reduced" and is_absolute(claim):
        return "inconclusive", f"misses {shown}, but the protocol was reduced{suffix}"
    return "not reproduced", f"outside: {shown}{suffix}"


def is_absolute(claim: Claim) -> bool:
    """Whether the claim is a figure tied to its data, rather than an ordering or an effect."""
    assert claim.quantity is not None and claim.criterion is not None
    tied = claim.criterion.kind in ("within", "within_percent", "between")
    return tied or claim.quantity.kind == "value"


def accepted(claim: Claim) -> tuple[float, float]:
    """The values that a criterion accepts, as an interval."""
    criterion, reported = claim.criterion, claim.reported.value
    assert criterion is not None and claim.quantity is not None
    value = getattr(criterion, criterion.kind)
    if criterion.kind in ("within", "within_percent"):
        assert reported is not None
        margin = value if criterion.kind == "within" else abs(reported) * value / 100
        return reported - margin, reported + margin
    if criterion.kind == "between":
        return float(value[0]), float(value[1])
    if criterion.kind == "equivalent":
        centre = 1.0 if claim.quantity.kind == "ratio" else 0.0
        return centre - value, centre + value
    if criterion.kind in ("at_least", "greater_than"):
        return float(value), math.inf
    return -math.inf, float(value)


def _position(
    measured: Estimate, low: float, high: float, strict: bool
) -> Literal["inside", "outside", "across"]:
    """Where the interval (or, without one, the value) lies relative to what is accepted."""
    bottom = measured.value if measured.low is None else measured.low
    top = measured.value if measured.high is None else measured.high
    if (low < bottom and top < high) or (not strict and low <= bottom and top <= high):
        return "inside"
    if top < low or bottom > high or (strict and (top <= low or bottom >= high)):
        return "outside"
    return "across"


def describe_criterion(claim: Claim) -> str:
    """The criterion in words, with numbers."""
    criterion: Criterion | None = claim.criterion
    if criterion is None:
        return ""
    value = getattr(criterion, criterion.kind)
    reported = claim.reported.value
    if criterion.kind == "within":
        return f"within {digits(value)} of {digits(reported)}"
    if criterion.kind == "within_percent":
        return f"within {digits(value)} % of {digits(reported)}"
    if criterion.kind == "between":
        return f"between {digits(value[0])} and {digits(value[1])}"
    words = {"equivalent": "no effect beyond ±", "at_least": "at least ", "at_most": "at most "}
    words_before = words.get(criterion.kind, criterion.kind.replace("_", " ") + " ")
    return f"{words_before}{digits(value)}"


def digits(value: float | None) -> str:
    """A number that an author wrote down, with every digit: 1040902, not 1.0409e+06."""
    return "—" if value is None else f"{value:.15g}"


def describe_quantity(quantity: Quantity) -> str:
    """The quantity as a short formula."""
    names = [o.variant + (f" ({o.metric})" if o.metric else "") for o in quantity.operands]
    sign = {"difference": " − ", "ratio": " / ", "relative_change": " relative to "}
    over = quantity.over_seeds if isinstance(quantity.over_seeds, str) else "share"
    prefix = "" if over == "mean" else f"{over} "
    body = sign.get(quantity.kind, "").join(names)
    if quantity.kind in ("slope", "monotonic"):
        prefix = f"{quantity.kind.replace('monotonic', 'rank correlation')} of "
    return f"{prefix}{quantity.metric}: {body}"
