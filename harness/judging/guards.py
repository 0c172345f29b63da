"""What else must hold before a claim is reproduced: its control, its null models, its operands.

All of them ask whether the criterion shows what it seems to: whether it fails where the mechanism
is destroyed or the idea is missing, and whether both sides of a difference are what they should be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.judging.criteria import digits, k_of_n, met, no_effect, place_of
from harness.judging.effects import Proportion, removed
from harness.judging.quantities import (
    BySeed,
    Measurements,
    Unmeasured,
    broadcast,
    measure,
    per_seed,
)
from harness.judging.rounding import INTERVAL_DIGITS, figure, half_width
from harness.judging.statistics import Estimate, clopper_pearson, estimate
from harness.records import Measured
from harness.specs.claims import Claim, Difference, Operand, Quantity, Share
from harness.specs.schema import Paper
from harness.specs.types import Evidence

COMPARISONS = ("difference", "ratio", "relative_change")


@dataclass(frozen=True)
class Controlled:
    """How a control behaved (``None``: not clearly).

    ``met`` says whether the criterion still holds with the control in the operand's place
    (``None``: not measured), ``left`` how large the effect then is, and ``share`` how much of it
    the control takes away.
    """

    behaves: bool | None
    words: str
    met: bool | None = None
    left: float | None = None
    share: Proportion | None = None


@dataclass(frozen=True)
class Scene:
    """A claim with the measurements it is judged on."""

    claim: Claim
    quantity: Quantity
    datasets: list[str]
    found: Measurements
    unit: str

    def measure(self, quantity: Quantity) -> Estimate:
        return measure(quantity, self.datasets, self.found)


def in_place(quantity: Quantity, variant: str) -> Quantity:
    """The quantity with another variant wherever that of ``of`` stands."""
    swapped = {}
    for name in ("of", "from_", "to"):
        operand = getattr(quantity, name, None)
        if operand is not None:
            swapped[name] = _swapped(operand, quantity.of.variants, variant)
    return quantity.model_copy(update=swapped)


def _swapped(operand: Operand, those: list[str], variant: str) -> Operand:
    change: dict[str, Any] = {"minus": operand.minus and _swapped(operand.minus, those, variant)}
    if operand.variants == those:
        change |= {"variant": variant, "best_of": [], "by": ""}
    return operand.model_copy(update=change)


def control(scene: Scene, measured: Estimate, unit: str) -> Controlled | None:
    """Whether the control behaves, and what it leaves of the effect.

    Args:
        measured: the claim's own quantity.
        unit: of the control's distance.
    """
    claim = scene.claim
    if claim.control is None:
        return None
    behaves, words = _distance(scene, unit)
    swapped = in_place(scene.quantity, claim.control.variant)
    try:
        left = scene.measure(swapped)
    except Unmeasured as missing:
        return Controlled(behaves, f"{words}; with it in place: {missing}")
    held = _fulfils(claim, left) == "inside"
    share = _removed(scene, swapped)
    without = claim.control.without
    how = f"without {without}" if without else f"with {claim.control.variant}"
    return Controlled(
        behaves,
        f"{words}; {_left(scene, measured, left, share, held, how)}",
        held,
        left.value,
        share,
    )


def _left(
    scene: Scene, measured: Estimate, left: Estimate, share: Proportion | None, held: bool, how: str
) -> str:
    """``the effect survives: 30.8 of 33.6 points without order (8 % removed [2, 15])``."""
    if share is None:
        fate = "is still met" if held else "fails"
        return f"the criterion {fate} {how}: {_shown(left.value, left)} {scene.unit}".rstrip()
    none = no_effect(scene.quantity)
    whole, rest = measured.value - none, left.value - none
    kept, all_of_it = _shown(rest, left), _shown(whole, measured)
    if share.low is not None and share.low > 1:
        return f"the effect is reversed {how}: {kept} instead of {all_of_it} {scene.unit}".rstrip()
    amount = f"{kept} of {all_of_it} {scene.unit}".rstrip()
    fate = "the effect survives" if held else "what is left of the effect"
    text = f"{fate}: {amount} {how} ({100 * share.value:.0f} % removed"
    if share.low is not None and share.high is not None:
        text += f" [{100 * share.low:.0f}, {100 * share.high:.0f}]"
    return text + ")"


def _shown(value: float, measured: Estimate) -> str:
    """A figure with the digits of the interval that it belongs to."""
    error = half_width(measured.value, measured.low, measured.high)
    return figure(value, error, INTERVAL_DIGITS)


def _removed(scene: Scene, swapped: Quantity) -> Proportion | None:
    """The share of the effect that is gone, of seeds that both have."""
    if scene.quantity.kind not in COMPARISONS or scene.quantity.over_seeds != "mean":
        return None
    if scene.claim.criterion and scene.claim.criterion.equivalent:
        return None
    none = no_effect(scene.quantity)
    whole, rest = _both(scene, swapped)
    seeds = [seed for seed in whole if seed in rest]
    if not seeds:
        return None
    return removed([whole[s].value - none for s in seeds], [rest[s].value - none for s in seeds])


def _both(scene: Scene, swapped: Quantity) -> tuple[BySeed, BySeed]:
    """Both quantities seed by seed; an exact one is compared with every seed of the other."""
    whole = per_seed(scene.quantity, scene.datasets, scene.found)
    return broadcast(whole, per_seed(swapped, scene.datasets, scene.found))


def _distance(scene: Scene, unit: str) -> tuple[bool | None, str]:
    """Whether the control's metric is lower (higher; ``None``: not clearly), and by how much."""
    control, quantity = scene.claim.control, scene.quantity
    assert control is not None
    metric = control.metric or quantity.of.metric or quantity.metric
    place = None if control.metric else quantity.operands[0].at
    own = quantity.of.model_copy(update={"metric": None, "at": place, "minus": None})
    there = Operand(variant=control.variant, on=quantity.of.on, at=place)
    gap = {"difference": metric, "of": own, "from": there, "on": quantity.on}
    try:
        found = scene.measure(Difference.model_validate(gap))
    except Unmeasured as missing:
        return False, f"the control was not measured: {missing}"
    shown = _gap_in_words(control.variant, found, unit)
    sign = 1.0 if control.must_be == "lower" else -1.0
    ends = [sign * end for end in (found.low, found.high) if end is not None]
    if found.k_of_n:
        hits = sum(sign * value > control.by for value in found.values)
        low, high = clopper_pearson(hits, len(found.values), found.confidence)
        unclear = high > 0.5
        if low > 0.5:
            return True, f"control: {shown} ({found.note})"
    else:
        unclear = bool(ends) and max(ends) > control.by
        if len(ends) == 2 and min(ends) > control.by:
            return True, f"control: {shown}"
    if not ends:
        judged = None if found.k_of_n and unclear else False
        return judged, f"the control cannot be judged ({found.note}): {shown}"
    margin = f" by more than {digits(control.by)}" if control.by else ""
    words = f"the control is not clearly {control.must_be}{margin}: {shown}"
    return (None if unclear else False), words


def _gap_in_words(control: str, gap: Estimate, unit: str) -> str:
    """How far the control lies below or above what it controls, both ends in that direction."""
    below, error = gap.value > 0, half_width(gap.value, gap.low, gap.high)
    size = figure(abs(gap.value), error, INTERVAL_DIGITS)
    text = f"{control} is {size} {unit} ".replace("  ", " ") + ("lower" if below else "higher")
    if gap.low is not None and gap.high is not None and error:
        low, high = (gap.low, gap.high) if below else (-gap.high, -gap.low)
        text += f" [{figure(low, error, INTERVAL_DIGITS)}, {figure(high, error, INTERVAL_DIGITS)}]"
    return text


def null_that_passes(scene: Scene) -> str:
    """Why the criterion shows nothing: a null model that meets it; empty where all fail.

    A null model fails where its interval lies outside the criterion, or where the interval
    reaches across and the claim's own quantity is clearly another one, seed by seed.
    """
    for variant in scene.claim.null:
        swapped = in_place(scene.quantity, variant)
        try:
            null = scene.measure(swapped)
            place = _fulfils(scene.claim, null)
            if place == "inside":
                return (
                    f"the criterion is met by the null model {variant} ({_shown(null.value, null)})"
                )
            if place == "across" and not _told_apart(scene, swapped):
                return f"the null model {variant} does not clearly fail the criterion"
        except Unmeasured as missing:
            return f"the null model {variant} was not measured: {missing}"
    return ""


def _told_apart(scene: Scene, swapped: Quantity) -> bool:
    if isinstance(scene.quantity.over_seeds, Share):
        return False
    own, null = _both(scene, swapped)
    gaps = [Measured(value=own[s].value - null[s].value) for s in own if s in null]
    found = estimate(gaps, confidence=scene.found.confidence) if gaps else None
    if found is None or found.low is None or found.high is None:
        return False
    return found.low > 0 or found.high < 0


def _fulfils(claim: Claim, measured: Estimate) -> str:
    """Like :func:`place_of`; of outcomes that are judged run by run, what most of them do."""
    if not measured.k_of_n:
        if measured.low is None and measured.high is None:
            return "across"
        return place_of(claim, measured)
    _, hits, n, _ = k_of_n(claim, measured)
    return "inside" if 2 * hits > n else "across" if hits else "outside"


def operand_that_misses(scene: Scene, paper: Paper, measured: Estimate, evidence: Evidence) -> str:
    """Which operand clearly misses the figure that the paper reports of it; empty if none.

    The figures are those of the spec's other claims: a ``value`` of the operand's variant in the
    same unit, on the same data. Under the paper's protocol its interval lies outside what that
    claim accepts. Under a reduced one all figures shift, and only a miss by more than half of the
    measured difference counts, also where one end of its interval is open: then the miss may be
    the difference.
    """
    if scene.quantity.kind not in COMPARISONS:
        return ""
    for operand in scene.quantity.operands:
        if operand.at is not None:  # figures of claims are those of whole metrics
            continue
        metric = operand.metric or scene.quantity.metric
        for dataset in scene.datasets:
            place = operand.on or dataset
            for claim in _figures(paper, operand.variant, metric, place):
                if text := _misses(scene, claim, place, measured, evidence):
                    return text
    return ""


def _figures(paper: Paper, variant: str, metric: str, dataset: str) -> list[Claim]:
    """Claims that give a figure of this variant on this data, in the metric's unit."""

    def unit(name: str) -> str | None:
        return paper.metrics[name].unit if name in paper.metrics else None

    found = []
    for stated in paper.claims:
        claim = stated.at([dataset]) if dataset in stated.each else stated
        quantity = claim.quantity
        if quantity is None or quantity.kind != "value" or claim.reported.value is None:
            continue
        own = quantity.of
        same = own.variant == variant and dataset in ([own.on] if own.on else quantity.datasets)
        if same and unit(own.metric or quantity.metric) == unit(metric) and _tied(claim):
            found.append(claim)
    return found


def _tied(claim: Claim) -> bool:
    assert claim.criterion is not None
    return claim.criterion.of_reported or claim.criterion.kind == "between"


def _misses(
    scene: Scene, claim: Claim, dataset: str, measured: Estimate, evidence: Evidence
) -> str:
    assert claim.quantity is not None and claim.reported.value is not None
    try:
        own = measure(claim.quantity, [dataset], scene.found)
    except Unmeasured:
        return ""
    missed = place_of(claim, own) == "outside"
    if evidence != "paper":
        off = abs(own.value - claim.reported.value)
        open_end = None in (own.low, own.high)
        missed = missed or (open_end and not met(claim, own.value))
        missed = missed and scene.quantity.kind == "difference" and off > abs(measured.value) / 2
    if not missed:
        return ""
    shown = f"{_shown(own.value, own)} where {digits(claim.reported.value)} is reported"
    return f"{claim.quantity.of.variant} misses its own figure: {shown} ({claim.id})"
