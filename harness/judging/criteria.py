"""What a criterion accepts, where a measurement lies relative to it, and both in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from harness.judging.replication import Prediction, prediction
from harness.judging.statistics import SAME, Estimate, clopper_pearson
from harness.specs.claims import Claim, Criterion, Extreme, OverSeeds, Quantity
from harness.specs.schema import Paper

Place = Literal["inside", "outside", "across"]
ORDERINGS = ("at_least", "at_most", "greater_than", "less_than")


def as_judged(paper: Paper, claim: Claim, datasets: Sequence[str]) -> Claim:
    """The claim with the figures of the data sets it names that these are, or stand in for.

    It has no criterion where they stand in for several whose figures differ.
    """
    named = claim.quantity.datasets if claim.quantity else []
    known = [paper.datasets[name] for name in datasets if name in paper.datasets]
    meant = {*datasets, *(name for dataset in known for name in dataset.stands_in_for)}
    return claim.at([name for name in named if name in meant] or named)


def is_absolute(claim: Claim) -> bool:
    """Whether the claim is a figure tied to its data, rather than an ordering or an effect."""
    assert claim.quantity is not None and claim.criterion is not None
    tied = claim.criterion.of_reported or claim.criterion.kind == "between"
    return tied or claim.quantity.kind == "value"


def is_ordering(claim: Claim) -> bool:
    """Whether the claim says which of two is more, rather than how much."""
    assert claim.criterion is not None
    return claim.criterion.kind in ORDERINGS and not is_absolute(claim)


def no_effect(quantity: Quantity) -> float:
    """The value of a quantity where nothing has an effect: 1 for a ratio, else 0."""
    return 1.0 if quantity.kind == "ratio" else 0.0


def accepted(claim: Claim) -> tuple[float, float]:
    """The values that a criterion accepts, as an interval, whatever was measured.

    Of ``replicates`` it is what a replication of infinitely many runs would give.
    """
    criterion, reported = claim.criterion, claim.reported.value
    assert criterion is not None and claim.quantity is not None
    value = getattr(criterion, criterion.kind)
    if criterion.kind in ("within", "within_percent"):
        assert reported is not None
        margin = value if criterion.kind == "within" else abs(reported) * value / 100
        return reported - margin, reported + margin
    if criterion.kind == "replicates":
        expected = prediction(claim.reported, math.inf)
        return expected.low, expected.high
    if criterion.kind == "between":
        return float(value[0]), float(value[1])
    if criterion.kind == "equivalent":
        centre = no_effect(claim.quantity)
        return centre - value, centre + value
    if criterion.kind in ("at_least", "greater_than"):
        return float(value), math.inf
    return -math.inf, float(value)


def position(claim: Claim, measured: Estimate) -> Place:
    """Where the interval (or, without one, the value) lies relative to what is accepted.

    An open end reaches to infinity. Figures that agree to a relative 1e-9 are equal, so that
    0.57 × 100 is at least 57.
    """
    assert claim.criterion is not None
    low, high = accepted(claim)
    if measured.low is None and measured.high is None:
        bottom = top = measured.value
    else:
        bottom = -math.inf if measured.low is None else measured.low
        top = math.inf if measured.high is None else measured.high
    if claim.reported.error is not None:  # the reading's error moves both ends apart
        bottom, top = bottom - claim.reported.error, top + claim.reported.error
    strict = claim.criterion.kind.endswith("than")
    if _above(bottom, low, strict) and _above(-top, -high, strict):
        return "inside"
    if _above(low, top, not strict) or _above(-high, -bottom, not strict):
        return "outside"
    return "across"


def _above(x: float, edge: float, strict: bool) -> bool:
    """Whether ``x`` is above the edge or, unless that is strict, on it."""
    if math.isinf(edge) and edge < 0:
        return True
    same = math.isclose(x, edge, rel_tol=SAME)
    return not strict if same else x > edge


def place_of(claim: Claim, measured: Estimate) -> Place:
    """Where a measurement lies, by whatever the criterion and its shape ask for."""
    if measured.k_of_n:
        return k_of_n(claim, measured)[0]
    assert claim.criterion is not None
    if claim.criterion.replicates:
        return replicated(claim, measured)[0]
    return position(claim, measured)


def replicated(claim: Claim, measured: Estimate) -> tuple[Place, Prediction]:
    """Whether the mean is one that a replication gives; inside too wide an interval it may be."""
    runs = measured.n if isinstance(measured.n, int) else math.inf
    expected = prediction(claim.reported, runs)
    if not expected.low <= measured.value <= expected.high:
        return "outside", expected
    return ("across" if expected.too_wide else "inside"), expected


def met(claim: Claim, value: float) -> bool:
    """Whether one run's value meets the criterion."""
    return position(claim, Estimate(value, None, None, 1)) == "inside"


def k_of_n(claim: Claim, measured: Estimate) -> tuple[Place, int, int, tuple[float, float]]:
    """Judge the typical run: whether more or less than half of all runs meet the criterion.

    Failed runs do not meet it.

    Returns:
        the position of that share's interval relative to one half, how many of how many runs
        met the criterion, and the interval (Clopper-Pearson).
    """
    hits = sum(met(claim, value) for value in measured.values)
    n = len(measured.values) + measured.failed
    low, high = clopper_pearson(hits, n, measured.confidence)
    place: Place = "inside" if low > 0.5 else "outside" if high < 0.5 else "across"
    return place, hits, n, (low, high)


def describe_criterion(claim: Claim) -> str:
    """The criterion in words, with numbers."""
    criterion: Criterion | None = claim.criterion
    if claim.each:
        return ", ".join(f"{describe_criterion(claim.at([name]))} on {name}" for name in claim.each)
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
    if criterion.kind == "replicates":
        spread = f"{digits(reported)} ± {digits(claim.reported.std)} of {claim.reported.n} runs"
        return f"what a replication of {spread} would give"
    words = {"equivalent": "no effect beyond ±", "at_least": "at least ", "at_most": "at most "}
    return f"{words.get(criterion.kind, criterion.kind.replace('_', ' ') + ' ')}{digits(value)}"


def digits(value: float | None) -> str:
    """A number that an author wrote down, with every digit: 1040902, not 1.0409e+06."""
    return "—" if value is None else f"{value:.15g}"


def describe_quantity(quantity: Quantity) -> str:
    """The quantity as a short formula."""
    names = [str(operand) for operand in quantity.operands]
    sign = {"difference": " − ", "ratio": " / ", "relative_change": " relative to "}
    over = _over_seeds(quantity.over_seeds)
    prefix = "" if over == "mean" else f"{over} "
    body = sign.get(quantity.kind, "").join(names)
    if quantity.kind in ("slope", "monotonic"):
        prefix = f"{quantity.kind.replace('monotonic', 'rank correlation')} of "
    return f"{prefix}{quantity.metric}: {body}"


def _over_seeds(rule: OverSeeds) -> str:
    if isinstance(rule, Extreme):
        return f"best of {rule.best}" if rule.best else f"worst of {rule.worst}"
    return rule if isinstance(rule, str) else "share"
