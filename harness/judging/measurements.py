"""What was measured of one paper at one tier, seed by seed."""

from __future__ import annotations

import copy
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import count

from harness.judging.series import Unmeasured, value_at
from harness.judging.statistics import CONFIDENCE, Better
from harness.records import Measured, Record, Series
from harness.specs.claims import Operand
from harness.specs.schema import Metric

BySeed = dict[int, Measured]


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
        if operand.best_of:
            return self._best_of(operand, metric, dataset)
        found = self._by_seed(operand, metric, dataset)
        if operand.minus is None:
            return found
        return paired("difference", found, self.by_seed(operand.minus, metric, dataset))

    def _best_of(self, operand: Operand, metric: str, dataset: str) -> BySeed:
        """For each seed the variant that is best by another metric: what a validation chooses."""
        sign = -1.0 if self.better(operand.by) == "lower" else 1.0
        marks, values = [], []
        for variant in operand.best_of:
            one = operand.model_copy(update={"variant": variant, "best_of": []})
            values.append(self.by_seed(one, metric, dataset))
            mark = one.model_copy(update={"metric": operand.by, "at": None})
            marks.append(self._by_seed(mark, metric, dataset))
        chosen: BySeed = {}
        for seed in sorted(set.intersection(*map(set, [*marks, *values]))):
            ranked = [sign * mark[seed].value for mark in marks]
            chosen[seed] = values[ranked.index(max(ranked))][seed]
        return chosen

    def _by_seed(self, operand: Operand, metric: str, dataset: str) -> BySeed:
        if operand.at is not None:
            place = operand.at
            return self.series_by_seed(operand, metric, dataset, lambda s: value_at(s, place))
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
            return {seed: mean([read(r) for r in records]) for seed, records in seeds}
        return {
            seed * folds + index: read(record)
            for seed, records in seeds
            for index, record in enumerate(sorted(records, key=lambda r: str(r.fold)))
        }


def broadcast(first: BySeed, second: BySeed) -> tuple[BySeed, BySeed]:
    """Give an exact side, which has one seed, to every seed of the other side."""
    if len(first) == 1 and next(iter(first.values())).exact:
        first = dict.fromkeys(second, next(iter(first.values())))
    elif len(second) == 1 and next(iter(second.values())).exact:
        second = dict.fromkeys(first, next(iter(second.values())))
    return first, second


def paired(kind: str, first: BySeed, second: BySeed) -> BySeed:
    """Two sides combined seed by seed, for those that both have."""
    first, second = broadcast(first, second)
    return {seed: combined(kind, first[seed], second[seed]) for seed in first if seed in second}


def combined(kind: str, first: Measured, second: Measured) -> Measured:
    """of − from, of / to, or the relative change in %, with errors propagated to first order."""
    a, b = first.value, second.value
    known = all(side.exact or side.stderr is not None for side in (first, second))
    ea, eb = first.stderr or 0.0, second.stderr or 0.0
    exact = first.exact and second.exact
    if kind == "difference":
        value = a - b
    else:
        if b == 0:
            raise Unmeasured("a ratio to zero")
        value, ea, eb = a / b, ea / abs(b), abs(a) * eb / b**2
        if kind == "relative_change":
            value, ea, eb = 100 * (a - b) / abs(b), 100 * ea, 100 * eb
    stderr = math.hypot(ea, eb) if known else 0.0
    df = _satterthwaite([(ea, first.df), (eb, second.df)])
    return Measured(value=value, stderr=stderr or None, exact=exact, df=df)


def mean(values: Sequence[Measured]) -> Measured:
    """The mean, its error that of independent values."""
    if len(values) == 1:
        return values[0]
    n = len(values)
    known = all(v.exact or v.stderr is not None for v in values)
    errors = [((v.stderr or 0.0) / n, v.df) for v in values]
    stderr = math.sqrt(math.fsum(error**2 for error, _ in errors)) if known else 0.0
    value, exact = math.fsum(v.value for v in values) / n, all(v.exact for v in values)
    return Measured(value=value, stderr=stderr or None, exact=exact, df=_satterthwaite(errors))


def _satterthwaite(errors: Sequence[tuple[float, float | None]]) -> float | None:
    """Degrees of freedom of a sum of independent errors (Welch-Satterthwaite)."""
    total = math.fsum(error**2 for error, _ in errors)
    spent = math.fsum(error**4 / df for error, df in errors if df is not None)
    return total**2 / spent if spent > 0 else None
