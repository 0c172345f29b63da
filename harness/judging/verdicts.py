"""Claims meet records: for each claim, what was measured, how comparable it is, and whether it
held."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from harness import plan
from harness.judging import guards
from harness.judging.criteria import (
    as_judged,
    describe_criterion,
    describe_quantity,
    is_ordering,
    no_effect,
)
from harness.judging.decisions import JUDGEMENTS as JUDGEMENTS
from harness.judging.decisions import Decision, Reached, decide
from harness.judging.decisions import Judgement as Judgement
from harness.judging.effects import Proportion, relative_size, same_unit
from harness.judging.guards import Controlled, Scene
from harness.judging.quantities import Measurements, Unmeasured, cells, measure
from harness.judging.sequential import Look, Looks, judged_on, seeds_may_decide
from harness.judging.statistics import Estimate
from harness.records import Record
from harness.specs.claims import Claim, Quantity, Share
from harness.specs.schema import Paper
from harness.specs.types import Evidence

HALF, DOUBLE = 0.5, 2.0  # an effect beyond these multiples of the reported one: direction only
_STRENGTH: dict[Evidence, int] = {"paper": 2, "reduced": 1, "stand-in": 0}


@dataclass(frozen=True)
class Verdict:
    """One claim on one dataset.

    ``measured``, ``ci_low``, ``ci_high`` and ``reported`` are in ``unit``; an open end of the
    interval is ``None``. ``n`` counts the seeds measured or is ``exact``, ``failed`` those that
    failed. ``control`` says how the control behaved; ``stale`` that code changed since.

    Marks beside the verdict: ``direction_only`` of an ordering that held with an effect outside
    half to twice the reported one, ``at_reduced`` of an absolute figure under a reduced protocol.
    ``size`` is the measured as a multiple of the reported effect. ``runs_met`` counts the runs
    that meet the criterion where runs, not their mean, were judged, and ``share_low`` and
    ``share_high`` are the interval of their share. ``effect_left`` is the effect with the control
    in the operand's place and ``removed`` the share of the effect that the control takes away.
    ``by`` says whose claim it is and ``seen`` how its source was seen.

    ``p`` belongs to a claim that is ``reproduced``: the one-sided error at the criterion's edge.
    Where seeds are added until claims are decided, ``look`` is the number of seeds at which this
    one was judged, ``path`` what was seen at each look, and ``undecided`` that more may decide it.
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
    failed: int = 0
    direction_only: bool = False
    at_reduced: Reached = ""
    size: float | None = None
    size_low: float | None = None
    size_high: float | None = None
    runs_met: int | None = None
    share_low: float | None = None
    share_high: float | None = None
    effect_left: float | None = None
    removed: float | None = None
    removed_low: float | None = None
    removed_high: float | None = None
    mechanism: bool = False
    by: str = "paper"
    seen: str = ""
    traceable: bool = True
    p: float | None = None
    look: int | None = None
    path: tuple[Look, ...] = ()
    undecided: bool = False


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
    measurements = Measurements(records, paper.metrics, folds, *plan.certainties(paper))
    measured_on = measurements.datasets
    scope = [d for d in (datasets or measured_on) if d in measured_on]
    stale = {
        (c.record.variant, c.record.dataset) for c in found if c.stale and c.record.status == "done"
    }
    judge_claim = _Judge(paper, tier, measurements, stale, records)
    return [v for claim in paper.claims for v in judge_claim(claim, scope)]


def measured_on(paper: Paper, quantity: Quantity, scope: Sequence[str]) -> list[list[str]]:
    """The datasets of each row of a claim: those it names and those that stand in for them.

    Args:
        scope: the datasets that there are.
    """
    named = quantity.datasets
    datasets = paper.datasets
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
        rows = measured_on(self.paper, claim.quantity, scope)
        if not rows:
            wanted = " or ".join(claim.quantity.datasets)
            return [self._blank(claim, wanted, f"no measurement on {wanted} at this tier")]
        return [self._judge(claim, claim.quantity, datasets) for datasets in rows]

    def _judge(self, stated: Claim, quantity: Quantity, datasets: list[str]) -> Verdict:
        where = " + ".join(datasets)
        claim = as_judged(self.paper, stated, datasets)
        looks = Looks.of(self.paper, self.tier, self.found, judged_on(claim, datasets))
        if looks.schedule and looks.reached is None:
            blank = self._blank(claim, where, looks.remark)
            return replace(blank, verdict="inconclusive", undecided=True)
        found = looks.at()
        try:
            measured = measure(quantity, datasets, found)
        except Unmeasured as missing:
            return self._blank(claim, where, str(missing))
        evidence = self._evidence(quantity, datasets)
        if claim.criterion is None:
            blank = self._blank(stated, where, "stands in for data sets whose figures differ")
            known = _measured(measured)
            return replace(blank, verdict="not comparable", evidence=evidence, **known)
        scene = Scene(claim, quantity, datasets, found, self._unit(quantity))
        controlled = guards.control(scene, measured, self._unit_of_distance(claim, quantity))
        decision = decide(claim, measured, evidence)
        undecided = seeds_may_decide(claim, measured, evidence, decision, controlled)
        if decision.verdict == "reproduced":
            decision = self._guarded(scene, measured, evidence, controlled, decision)
        places = cells(quantity, datasets)
        mixed = found.mixed(places)
        versions = f"records made with {mixed} (--same-versions takes the newest kind)"
        reason = "; ".join(filter(None, [decision.reason, looks.remark, versions if mixed else ""]))
        comparable = decision.verdict != "not comparable"
        size = self._size(claim, quantity, measured) if comparable else None
        held = decision.verdict == "reproduced" and is_ordering(claim)
        return replace(
            self._blank(claim, where, reason),
            verdict=decision.verdict,
            evidence=evidence,
            **_measured(measured, bool(claim.reported.read_from)),
            stale=any(place in self.stale for place in places),
            direction_only=held and size is not None and not HALF <= size.value <= DOUBLE,
            at_reduced=decision.at_reduced,
            runs_met=decision.runs_met,
            **_ends("share", decision.share),
            **_proportion("size", size),
            **_controlled(controlled),
            p=looks.error(claim, measured, datasets) if decision.verdict == "reproduced" else None,
            look=looks.reached,
            path=looks.path(quantity, datasets),
            undecided=undecided and not looks.exhausted,
        )

    def _guarded(
        self,
        scene: Scene,
        measured: Estimate,
        evidence: Evidence,
        controlled: Controlled | None,
        decision: Decision,
    ) -> Decision:
        """What keeps a criterion that is met from showing what the claim says."""
        if controlled is not None and not controlled.behaves:
            return replace(decision, verdict="inconclusive", reason=controlled.words)
        why = ""
        if scene.claim.mechanism and controlled is not None and controlled.met is not False:
            variant = scene.claim.control.variant if scene.claim.control else ""
            why = f"the criterion is still met with {variant} in the operand's place"
            if controlled.met is None:
                why = f"{variant} was not measured in the operand's place"
        why = why or guards.null_that_passes(scene)
        why = why or guards.operand_that_misses(scene, self.paper, measured, evidence)
        return replace(decision, verdict="inconclusive", reason=why) if why else decision

    def _size(self, claim: Claim, quantity: Quantity, measured: Estimate) -> Proportion | None:
        """Measured as a multiple of reported, where both are in one unit."""
        reported, unit = claim.reported, self._unit(quantity)
        if reported.value is None or not same_unit(reported.unit, unit):
            return None
        return relative_size(measured, reported.value, no_effect(quantity))

    def _evidence(self, quantity: Quantity, datasets: list[str]) -> Evidence:
        """The weakest evidence among everything that enters the quantity."""
        kinds = [
            plan.evidence(self.paper, dataset, self.protocols.get((variant, dataset), "reduced"))
            for variant, dataset in cells(quantity, datasets)
        ]
        return min(kinds, key=_STRENGTH.__getitem__)

    def _unit_of_distance(self, claim: Claim, quantity: Quantity) -> str:
        """The unit in which the control lies apart."""
        name = (claim.control.metric if claim.control else None) or quantity.of.metric
        metric = self.paper.metrics.get(name or quantity.metric)
        return "points" if metric and metric.unit == "%" else metric.unit if metric else ""

    def _unit(self, quantity: Quantity) -> str:
        metric = self.paper.metrics.get(quantity.of.metric or quantity.metric)
        unit = metric.unit if metric else ""
        if isinstance(quantity.over_seeds, Share):
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
            control=_uncontrolled(claim),
            mechanism=claim.mechanism,
            by=claim.by,
            seen=claim.source.how or "",
            traceable=not claim.source.untraceable,
        )


def _uncontrolled(claim: Claim) -> str:
    return f"no control: {claim.no_control}" if claim.no_control else ""


def _measured(found: Estimate, read: bool = False) -> dict[str, Any]:
    """The fields of a verdict that say what was measured; beside a reading nothing is exact."""
    n = 1 if found.n == "exact" and read else found.n
    ends = {"ci_low": found.low, "ci_high": found.high}
    return {"measured": found.value, **ends, "n": n, "failed": found.failed}


def _ends(name: str, ends: tuple[float | None, float | None] | None) -> dict[str, Any]:
    low, high = ends or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def _proportion(name: str, found: Proportion | None) -> dict[str, Any]:
    """The three fields of a verdict that hold a proportion."""
    if found is None:
        return {}
    return {name: found.value, **_ends(name, (found.low, found.high))}


def _controlled(found: Controlled | None) -> dict[str, Any]:
    """The fields of a verdict that say how the control behaved."""
    if found is None:
        return {}
    left = {"control": found.words, "effect_left": found.left}
    return {**left, **_proportion("removed", found.share)}
