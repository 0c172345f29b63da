"""The algebra of claims: a quantity's value, seed by seed, from records."""

from __future__ import annotations

import copy
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from pydantic import ValidationError

from harness.judging.extremes import between
from harness.judging.statistics import (
    CONFIDENCE,
    Better,
    Estimate,
    estimate,
    hits_of,
    quantile,
    share_difference,
)
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
        deterministic: variants whose only error is that of the measurement itself.
        overlap: test ÷ training examples of datasets whose splits share training examples.
        confidence: of the intervals estimated from them.
    """

    def __init__(
        self,
        records: Iterable[Record],
        metrics: Mapping[str, Metric],
        folds: Mapping[str, int],
        deterministic: Collection[str] = (),
        overlap: Mapping[str, float] | None = None,
        confidence: float = CONFIDENCE,
    ) -> None:
        self.metrics = metrics
        self.folds = folds
        self.deterministic = deterministic
        self.overlap = overlap or {}
        self.confidence = confidence
        self.done: dict[tuple[str, str], dict[int, list[Record]]] = {}
        self.broken: dict[tuple[str, str], list[Record]] = defaultdict(list)
        for record in records:
            cell = (record.variant, record.dataset)
            if record.status == "done":
                self.done.setdefault(cell, {}).setdefault(record.seed, []).append(record)
            else:
                self.broken[cell].append(record)

    def at(self, confidence: float, seeds: int | None = None) -> Measurements:
        """These measurements judged at another confidence, of the first seeds alone."""
        view = copy.copy(self)
        view.confidence = confidence
        if seeds is not None:
            view.done = {
                cell: {seed: found for seed, found in by_seed.items() if seed < seeds}
                for cell, by_seed in self.done.items()
            }
            view.broken = defaultdict(list)
            for cell, records in self.broken.items():
                view.broken[cell] = [r for r in records if r.seed < seeds]
        return view

    def tried(self, variant: str, dataset: str) -> int:
        """How many seeds from 0 on have a trial of every fold, whatever became of it."""
        cell = (variant, dataset)
        records = [r for group in self.done.get(cell, {}).values() for r in group]
        trials = Counter(r.seed for r in [*records, *self.broken.get(cell, [])])
        need = self.folds.get(dataset, 1)
        return next(seed for seed in count() if trials[seed] < need)

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

    def failed(self, cells: Iterable[tuple[str, str]]) -> int:
        """How many seeds of these variants and datasets failed, diverged or timed out."""
        seeds: set[int] = set()
        for variant, dataset in cells:
            need, whole = self.folds.get(dataset, 1), self.done.get((variant, dataset), {})
            broken = {record.seed for record in self.broken.get((variant, dataset), [])}
            seeds |= {seed for seed in broken if len(whole.get(seed, [])) < need}
        return len(seeds)

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

    def better(self, metric: str) -> Better | None:
        return self.metrics[metric].better if metric in self.metrics else None

    def by_seed(self, operand: Operand, metric: str, dataset: str) -> BySeed:
        """The metric of an operand per seed (the mean over folds), in the shown unit.

        Where folds overlap, each of them counts for itself, seed × folds + fold.
        """
        name, where = operand.metric or metric, operand.on or dataset
        scale = self.scale(name)

        def read(record: Record) -> Measured:
            found = record.measured(name)
            if found is None:
                raise Unmeasured(f"{record.variant} does not report {name}")
            known = operand.variant in self.deterministic or found.df is not None
            stderr = found.stderr * abs(scale) if known and found.stderr is not None else None
            return found.model_copy(update={"value": found.value * scale, "stderr": stderr})

        return self._over_folds(operand.variant, where, read)

    def series_by_seed(
        self, operand: Operand, metric: str, dataset: str, reduce: Callable[[Series], Measured]
    ) -> BySeed:
        """A number computed from a series in the shown unit, per seed (the mean over folds)."""
        name, where = operand.metric or metric, operand.on or dataset
        scale = self.scale(name)

        def read(record: Record) -> Measured:
            if name not in record.series:
                raise Unmeasured(f"{record.variant} does not report the series {name}")
            found = record.series[name]
            shown = found.model_copy(update={"y": [scale * y for y in found.y]})
            known = operand.variant in self.deterministic
            reduced = reduce(shown)
            return reduced if known else reduced.model_copy(update={"stderr": None})

        return self._over_folds(operand.variant, where, read)

    def _over_folds(self, variant: str, dataset: str, read: Callable[[Record], Measured]) -> BySeed:
        seeds = sorted(self.cell(variant, dataset).items())
        folds = self.folds.get(dataset, 1)
        if folds == 1 or dataset not in self.overlap:
            return {seed: _mean([read(r) for r in records]) for seed, records in seeds}
        return {
            seed * folds + index: read(record)
            for seed, records in seeds
            for index, record in enumerate(sorted(records, key=lambda r: str(r.fold)))
        }


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
    return [(o.variant, o.on or d) for o in quantity.operands for d in datasets]


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
    return {seed: _mean([values[seed] for values in per_dataset]) for seed in sorted(seeds)}


def _per_seed(quantity: Quantity, metric: str, dataset: str, found: Measurements) -> BySeed:
    if isinstance(quantity, Slope):
        slope = lambda series: fit_slope(series, quantity.axes)  # noqa: E731
        return found.series_by_seed(quantity.of, metric, dataset, slope)
    if isinstance(quantity, Monotonic):
        return found.series_by_seed(quantity.of, metric, dataset, rank_correlation)
    sides = [found.by_seed(operand, metric, dataset) for operand in quantity.operands]
    if len(sides) == 1:
        return sides[0]
    first, second = broadcast(*sides)
    return {seed: _combine(quantity, first[seed], second[seed]) for seed in first if seed in second}


def broadcast(first: BySeed, second: BySeed) -> tuple[BySeed, BySeed]:
    """Give an exact side, which has one seed, to every seed of the other side."""
    if len(first) == 1 and next(iter(first.values())).exact:
        first = dict.fromkeys(second, next(iter(first.values())))
    elif len(second) == 1 and next(iter(second.values())).exact:
        second = dict.fromkeys(first, next(iter(second.values())))
    return first, second


def _combine(quantity: Quantity, first: Measured, second: Measured) -> Measured:
    """of − from, of / to, or the relative change in %, with errors propagated to first order."""
    a, b = first.value, second.value
    known = all(side.exact or side.stderr is not None for side in (first, second))
    ea, eb = first.stderr or 0.0, second.stderr or 0.0
    exact = first.exact and second.exact
    if isinstance(quantity, Difference):
        value = a - b
    else:
        if b == 0:
            raise Unmeasured("a ratio to zero")
        value, ea, eb = a / b, ea / abs(b), abs(a) * eb / b**2
        if isinstance(quantity, RelativeChange):
            value, ea, eb = 100 * (a - b) / abs(b), 100 * ea, 100 * eb
    stderr = math.hypot(ea, eb) if known else 0.0
    df = _satterthwaite([(ea, first.df), (eb, second.df)])
    return Measured(value=value, stderr=stderr or None, exact=exact, df=df)


def _satterthwaite(errors: Sequence[tuple[float, float | None]]) -> float | None:
    """Degrees of freedom of a sum of independent errors (Welch-Satterthwaite)."""
    total = math.fsum(error**2 for error, _ in errors)
    spent = math.fsum(error**4 / df for error, df in errors if df is not None)
    return total**2 / spent if spent > 0 else None


def _of_summaries(
    quantity: Difference | Ratio | RelativeChange, datasets: Sequence[str], found: Measurements
) -> Estimate:
    """Best − best, share − share and the like: each side over all its seeds, unpaired."""
    if len(datasets) != 1:
        raise Unmeasured("best, worst, median and share are not averaged over datasets")
    sides, failures = [], []
    for operand in quantity.operands:
        failures.append(found.failed([(operand.variant, operand.on or datasets[0])]))
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
    value = _combine(quantity, Measured(value=first.value), Measured(value=second.value)).value
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


def _mean(values: Sequence[Measured]) -> Measured:
    if len(values) == 1:
        return values[0]
    n = len(values)
    known = all(v.exact or v.stderr is not None for v in values)
    errors = [((v.stderr or 0.0) / n, v.df) for v in values]
    stderr = math.sqrt(math.fsum(error**2 for error, _ in errors)) if known else 0.0
    value, exact = math.fsum(v.value for v in values) / n, all(v.exact for v in values)
    return Measured(value=value, stderr=stderr or None, exact=exact, df=_satterthwaite(errors))


def fit_slope(series: Series, axes: str = "linear") -> Measured:
    """Least-squares slope, its standard error and degrees of freedom (points − 2).

    Points that a log axis excludes are left out.

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
    df = len(points) - 2 if stderr else None
    return Measured(value=float(xy / xx), stderr=stderr or None, df=df)


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
