"""The algebra of claims: a quantity's value, seed by seed, from records."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import ValidationError

from harness.judging.statistics import Estimate, estimate, share_difference
from harness.records import Measured, Record, Series
from harness.specs.claims import (
    Difference,
    Monotonic,
    Operand,
    Quantity,
    Ratio,
    RelativeChange,
    Share,
    Slope,
)
from harness.specs.schema import Metric

if TYPE_CHECKING:
    import numpy as np

BySeed = dict[int, Measured]


class Unmeasured(LookupError):
    """The records do not hold what the quantity needs; the message says what is missing."""


class Measurements:
    """Finished records of one paper and tier, by variant and dataset.

    Args:
        records: of any status; failed ones only explain why something is missing.
        metrics: scale and unit of each metric.
        folds: how many folds each dataset has; a seed counts when all of them are there.
    """

    def __init__(
        self, records: Iterable[Record], metrics: Mapping[str, Metric], folds: Mapping[str, int]
    ) -> None:
        self.metrics = metrics
        self.folds = folds
        self.done: dict[tuple[str, str], dict[int, list[Record]]] = {}
        self.broken: dict[tuple[str, str], list[Record]] = defaultdict(list)
        for record in records:
            cell = (record.variant, record.dataset)
            if record.status == "done":
                self.done.setdefault(cell, {}).setdefault(record.seed, []).append(record)
            else:
                self.broken[cell].append(record)

    @property
    def datasets(self) -> list[str]:
        """Datasets with at least one record, in the order of their names."""
        return sorted({dataset for _, dataset in [*self.done, *self.broken]})

    def cell(self, variant: str, dataset: str) -> dict[int, list[Record]]:
        """Whole seeds of a variant on a dataset.

        Raises:
            Unmeasured: there is none.
        """
        need = self.folds.get(dataset, 1)
        found = self.done.get((variant, dataset), {})
        whole = {seed: records for seed, records in found.items() if len(records) >= need}
        if whole:
            return whole
        broken = self.broken.get((variant, dataset), [])
        if broken and broken[0].error:
            raise Unmeasured(f"{variant} on {dataset} failed: {broken[0].error.type}")
        missing = "not all folds of" if found else "no trial of"
        raise Unmeasured(f"{missing} {variant} on {dataset}")

    def mixed(self, cells: Iterable[tuple[str, str]]) -> str:
        """Which versions or machines the records of these variants and datasets differ in."""
        found: dict[str, set[str]] = defaultdict(set)
        for cell in cells:
            for records in self.done.get(cell, {}).values():
                for record in records:
                    for name, value in record.made_with.items():
                        found[name].add(value or "none")
        return ", ".join(f"{n} {' and '.join(sorted(v))}" for n, v in found.items() if len(v) > 1)

    def scale(self, metric: str) -> float:
        return self.metrics[metric].scale if metric in self.metrics else 1.0

    def by_seed(self, operand: Operand, metric: str, dataset: str) -> BySeed:
        """The metric of an operand per seed (the mean over folds), in the shown unit."""
        name, where = operand.metric or metric, operand.on or dataset
        scale = self.scale(name)

        def read(record: Record) -> Measured:
            if name not in record.metrics:
                raise Unmeasured(f"{record.variant} does not report {name}")
            found = record.metrics[name]
            stderr = None if found.stderr is None else found.stderr * abs(scale)
            return Measured(value=found.value * scale, stderr=stderr, exact=found.exact)

        return self._over_folds(operand.variant, where, read)

    def series_by_seed(
        self, operand: Operand, metric: str, dataset: str, reduce: Callable[[Series], Measured]
    ) -> BySeed:
        """A number computed from a series, per seed (the mean over folds)."""
        name, where = operand.metric or metric, operand.on or dataset

        def read(record: Record) -> Measured:
            if name not in record.series:
                raise Unmeasured(f"{record.variant} does not report the series {name}")
            return reduce(record.series[name])

        return self._over_folds(operand.variant, where, read)

    def _over_folds(self, variant: str, dataset: str, read: Callable[[Record], Measured]) -> BySeed:
        seeds = self.cell(variant, dataset)
        return {seed: _mean([read(r) for r in records]) for seed, records in sorted(seeds.items())}


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
    return result


def _measure(quantity: Quantity, datasets: Sequence[str], found: Measurements) -> Estimate:
    metric, rule = quantity.metric, quantity.over_seeds
    if isinstance(quantity, (Difference, Ratio, RelativeChange)) and rule != "mean":
        return _of_summaries(quantity, datasets, found)
    per_dataset = [_per_seed(quantity, metric, dataset, found) for dataset in datasets]
    seeds = set.intersection(*(set(values) for values in per_dataset))
    if not seeds:
        raise Unmeasured("the variants have no seed in common")
    values = [_mean([values[seed] for values in per_dataset]) for seed in sorted(seeds)]
    if isinstance(quantity, (Slope, Monotonic)) and len(values) > 1:
        values = [Measured(value=v.value) for v in values]
    return estimate(values, rule)


def _per_seed(quantity: Quantity, metric: str, dataset: str, found: Measurements) -> BySeed:
    if isinstance(quantity, Slope):
        slope = lambda series: fit_slope(series, quantity.axes)  # noqa: E731
        return found.series_by_seed(quantity.of, metric, dataset, slope)
    if isinstance(quantity, Monotonic):
        return found.series_by_seed(quantity.of, metric, dataset, rank_correlation)
    sides = [found.by_seed(operand, metric, dataset) for operand in quantity.operands]
    if len(sides) == 1:
        return sides[0]
    first, second = _broadcast(*sides)
    return {seed: _combine(quantity, first[seed], second[seed]) for seed in first if seed in second}


def _broadcast(first: BySeed, second: BySeed) -> tuple[BySeed, BySeed]:
    """Give an exact side, which has one seed, to every seed of the other side."""
    if len(first) == 1 and next(iter(first.values())).exact:
        first = dict.fromkeys(second, next(iter(first.values())))
    elif len(second) == 1 and next(iter(second.values())).exact:
        second = dict.fromkeys(first, next(iter(second.values())))
    return first, second


def _combine(quantity: Quantity, first: Measured, second: Measured) -> Measured:
    """of − from, of / to, or the relative change in %, with errors propagated to first order."""
    a, b = first.value, second.value
    ea, eb = first.stderr or 0.0, second.stderr or 0.0
    exact = first.exact and second.exact
    if isinstance(quantity, Difference):
        value, stderr = a - b, math.hypot(ea, eb)
    else:
        if b == 0:
            raise Unmeasured("a ratio to zero")
        value = a / b
        stderr = math.hypot(ea / b, a * eb / b**2)
        if isinstance(quantity, RelativeChange):
            value, stderr = 100 * (a - b) / abs(b), 100 * stderr
    return Measured(value=value, stderr=stderr or None, exact=exact)


def _of_summaries(
    quantity: Difference | Ratio | RelativeChange, datasets: Sequence[str], found: Measurements
) -> Estimate:
    """Best − best, share − share and the like: each side over all its seeds, unpaired."""
    if len(datasets) != 1:
        raise Unmeasured("best, worst, median and share are not averaged over datasets")
    sides = [
        list(found.by_seed(operand, quantity.metric, datasets[0]).values())
        for operand in quantity.operands
    ]
    rule = quantity.over_seeds
    if isinstance(rule, Share) and isinstance(quantity, Difference):
        first, second = ([v.value for v in side] for side in sides)
        return share_difference(first, second, rule)
    ends = [estimate(side, rule) for side in sides]
    value = _combine(quantity, *(Measured(value=end.value) for end in ends)).value
    return Estimate(value, None, None, min(len(side) for side in sides), f"of {ends[0].note}")


def _mean(values: Sequence[Measured]) -> Measured:
    if len(values) == 1:
        return values[0]
    n = len(values)
    stderr = math.sqrt(math.fsum((v.stderr or 0.0) ** 2 for v in values)) / n
    value = math.fsum(v.value for v in values) / n
    return Measured(value=value, stderr=stderr or None, exact=all(v.exact for v in values))


def fit_slope(series: Series, axes: str = "linear") -> Measured:
    """Least-squares slope with its standard error; points that a log axis excludes are left out.

    Raises:
        Unmeasured: fewer than three usable points.
    """
    log_x, log_y = axes in ("log-log", "log-x"), axes in ("log-log", "log-y")
    points = [
        (math.log(x) if log_x else x, math.log(y) if log_y else y)
        for x, y in zip(series.x, series.y, strict=True)
        if (x > 0 or not log_x) and (y > 0 or not log_y)
    ]
    if len(points) < 3 or len({x for x, _ in points}) < 2:
        raise Unmeasured("a slope needs three points")
    return _regression(points)


def _regression(points: Sequence[tuple[float, float]]) -> Measured:
    """What ``scipy.stats.linregress`` gives, which takes half a second to import."""
    import numpy as np

    x, y = zip(*points, strict=True)
    (xx, xy), (_, yy) = np.cov(x, y, bias=True)
    r = np.clip(xy / math.sqrt(xx * yy), -1.0, 1.0) if yy > 0 else 0.0
    stderr = math.sqrt((1 - r**2) * yy / xx / (len(points) - 2))
    return Measured(value=float(xy / xx), stderr=stderr or None)


def rank_correlation(series: Series) -> Measured:
    """Spearman's rank correlation with the swept variable; 0 for a constant series.

    Raises:
        Unmeasured: fewer than three points.
    """
    import numpy as np

    if len(series.x) < 3:
        raise Unmeasured("a rank correlation needs three points")
    if len(set(series.y)) == 1:
        return Measured(value=0.0)
    return Measured(value=float(np.corrcoef(_ranks(series.x), _ranks(series.y))[0, 1]))


def _ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks from 1; equal values share the mean of theirs."""
    import numpy as np

    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (np.cumsum(count) - (count - 1) / 2)[place]
    return ranks
