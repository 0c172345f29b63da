"""The algebra of claims: a quantity's value, seed by seed, from records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from pydantic import ValidationError

from harness.judging.extremes import between
from harness.judging.measurements import BySeed as BySeed
from harness.judging.measurements import Measurements as Measurements
from harness.judging.measurements import broadcast as broadcast
from harness.judging.measurements import combined, mean, paired
from harness.judging.series import Unmeasured as Unmeasured
from harness.judging.series import fit_slope as fit_slope
from harness.judging.series import rank_correlation as rank_correlation
from harness.judging.statistics import (
    Better,
    Estimate,
    estimate,
    hits_of,
    quantile,
    share_difference,
)
from harness.records import Measured
from harness.specs.claims import (
    Difference,
    Monotonic,
    Quantity,
    Ratio,
    RelativeChange,
    Share,
    Slope,
)


def measure(quantity: Quantity, datasets: Sequence[str], found: Measurements) -> Estimate:
    """Estimate a quantity on one dataset, or on the mean over several.

    Raises:
        Unmeasured: a variant, seed or metric is missing, or the result is no finite number.
    """
    try:
        result = _measure(quantity, datasets, found)
    except (ArithmeticError, ValidationError):
        raise Unmeasured("the figures are out of the range of numbers") from None
    ends = (result.value, result.low, result.high)
    if not all(end is None or math.isfinite(end) for end in ends):
        raise Unmeasured("the figures are out of the range of numbers")
    return replace(result, confidence=found.confidence)


def cells(quantity: Quantity, datasets: Sequence[str]) -> list[tuple[str, str]]:
    """The variants and datasets that a quantity is computed from."""
    found = [cell for o in quantity.operands for d in datasets for cell in o.cells(d)]
    return list(dict.fromkeys(found))


def _measure(quantity: Quantity, datasets: Sequence[str], found: Measurements) -> Estimate:
    rule, failed = quantity.over_seeds, found.failed(cells(quantity, datasets))
    if isinstance(quantity, (Difference, Ratio, RelativeChange)) and rule != "mean":
        return _of_summaries(quantity, datasets, found)
    better = found.better(quantity.of.metric or quantity.metric)
    values = _values(quantity, datasets, found, failed)
    overlap = max((found.overlap.get(place, 0.0) for _, place in cells(quantity, datasets)))
    try:
        return estimate(
            *(values, rule),
            better=better,
            failed=failed,
            overlap=overlap,
            confidence=found.confidence,
        )
    except ValueError as error:
        raise Unmeasured(str(error)) from None


def _values(
    quantity: Quantity, datasets: Sequence[str], found: Measurements, failed: int
) -> list[Measured]:
    """One value per seed; none where all failed and a share of runs is asked for."""
    try:
        return list(per_seed(quantity, datasets, found).values())
    except Unmeasured:
        if isinstance(quantity.over_seeds, Share) and failed:
            return []
        raise


def per_seed(quantity: Quantity, datasets: Sequence[str], found: Measurements) -> BySeed:
    """The quantity seed by seed, each the mean over the datasets.

    Raises:
        Unmeasured: a variant or metric is missing, or no seed is common to all.
    """
    per_dataset = [_per_seed(quantity, quantity.metric, one, found) for one in datasets]
    seeds = set.intersection(*(set(values) for values in per_dataset))
    if not seeds:
        raise Unmeasured("the variants have no seed in common")
    return {seed: mean([values[seed] for values in per_dataset]) for seed in sorted(seeds)}


def _per_seed(quantity: Quantity, metric: str, dataset: str, found: Measurements) -> BySeed:
    if isinstance(quantity, Slope):
        slope = lambda series: fit_slope(series, quantity.axes)  # noqa: E731
        return found.series_by_seed(quantity.of, metric, dataset, slope)
    if isinstance(quantity, Monotonic):
        return found.series_by_seed(quantity.of, metric, dataset, rank_correlation)
    sides = [found.by_seed(operand, metric, dataset) for operand in quantity.operands]
    if len(sides) == 1:
        return sides[0]
    return paired(quantity.kind, *sides)


def _of_summaries(
    quantity: Difference | Ratio | RelativeChange, datasets: Sequence[str], found: Measurements
) -> Estimate:
    """Best − best, share − share and the like: each side over all its seeds, unpaired."""
    if len(datasets) != 1:
        raise Unmeasured("best, worst, median and share are not averaged over datasets")
    sides, failures = [], []
    for operand in quantity.operands:
        failures.append(found.failed(operand.cells(datasets[0])))
        values = found.by_seed(operand, quantity.metric, datasets[0]).values()
        sides.append([value.value for value in values])
    better = found.better(quantity.of.metric or quantity.metric)
    if isinstance(quantity.over_seeds, Share):
        if not isinstance(quantity, Difference):
            raise Unmeasured("shares of runs are compared by their difference")
        runs = zip(sides, failures, strict=True)
        first, second = (hits_of(s, quantity.over_seeds, better, failed) for s, failed in runs)
        return replace(share_difference(first, second, found.confidence), failed=sum(failures))
    return _of_quantiles(quantity, sides, failures, better, found.confidence)


def _of_quantiles(
    quantity: Difference | Ratio | RelativeChange,
    sides: Sequence[Sequence[float]],
    failures: Sequence[int],
    better: Better | None,
    confidence: float,
) -> Estimate:
    """Best against best of as many runs, median against median."""
    rule = quantity.over_seeds
    try:
        first, second = (
            quantile(side, rule, better, failed, confidence)
            for side, failed in zip(sides, failures, strict=True)
        )
    except ValueError as error:
        raise Unmeasured(str(error)) from None
    value = combined(quantity.kind, Measured(value=first.value), Measured(value=second.value)).value
    low, high = between(quantity.kind, first, second)
    note = first.note if first.note == second.note else f"{first.note} against {second.note}"
    runs = [len(side) + failed for side, failed in zip(sides, failures, strict=True)]
    if rule in ("best", "worst") and runs[0] != runs[1]:
        low, high = None, None
        note = f"{rule} of {runs[0]} runs against {rule} of {runs[1]}"
    if isinstance(quantity, RelativeChange):
        low, high = (None if end is None else 100 * (end - 1) for end in (low, high))
    n = min(len(side) for side in sides)
    return Estimate(value, low, high, n, note, sum(failures))
