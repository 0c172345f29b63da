"""Series of single trials become curves over seeds, bounded in number and length."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.judging.statistics import t_quantile
from harness.needs import Needs
from harness.records import Record, Series
from harness.specs.schema import Paper

MAX_PANELS = 12
DRAWN = 8  # lines of a panel, unless a reader chooses others
OFFERED = 32
MAX_POINTS = 60
MAX_RUNS = 10  # seeds of a line that can be looked at one by one


@dataclass(frozen=True)
class Line:
    """One variant: the mean over seeds and its 95 % t-interval (the mean itself for one seed).

    ``runs`` are the first seeds' own values at the same places.
    """

    variant: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    seeds: int
    runs: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Panel:
    """One series on one dataset, in the metric's unit.

    What claims compare comes first among the lines; ``left_out`` counts variants beyond those.
    """

    name: str
    label: str
    unit: str
    dataset: str
    over: str
    lines: tuple[Line, ...]
    left_out: int
    stand_in: bool = False

    @property
    def drawn(self) -> tuple[Line, ...]:
        """The lines that are drawn before a reader chooses."""
        return self.lines[:DRAWN]

    @property
    def title(self) -> str:
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.label}{unit} on {self.dataset}{', stand-in' if self.stand_in else ''}"


Place = tuple[str, str, str]  # series, dataset, swept variable
ByVariant = dict[str, list[Record]]


def panels(paper: Paper, records: Sequence[Record]) -> tuple[list[Panel], list[str]]:
    """Panels of a paper at one tier, and what there are no panels of.

    Series that claims are about come first.
    """
    grouped: dict[Place, ByVariant] = {}
    for record in records:
        if record.status == "done":
            for name, series in record.series.items():
                place = (name, record.dataset, series.over)
                grouped.setdefault(place, {}).setdefault(record.variant, []).append(record)
    claimed = {c.quantity.metric for c in paper.claims if c.quantity}
    order = {name: i for i, name in enumerate(paper.metrics)}

    def rank(place: Place) -> tuple[bool, int, str, str]:
        return (place[0] not in claimed, order.get(place[0], len(order)), place[0], place[1])

    needed = _needed(paper, {record.dataset for record in records})
    ranked = sorted(grouped, key=rank)
    drawn = [_panel(paper, place, grouped[place], needed) for place in ranked[:MAX_PANELS]]
    return drawn, [f"{name} on {dataset}" for name, dataset, _ in ranked[MAX_PANELS:]]


Needed = list[tuple[set[str], list[tuple[str, str]]]]  # of each claim its metrics and cells


def _needed(paper: Paper, datasets: Collection[str]) -> Needed:
    found: Needed = []
    for claim in paper.claims:
        if claim.quantity is not None:
            metrics = {claim.quantity.metric, *(o.metric or "" for o in claim.quantity.operands)}
            found.append((metrics, Needs(paper, (claim,)).cells(sorted(datasets))))
    return found


def _panel(paper: Paper, place: Place, by_variant: ByVariant, needed: Needed) -> Panel:
    name, dataset, over = place
    metric = paper.metrics.get(name)
    scale = metric.scale if metric else 1.0
    about_it_first = sorted(needed, key=lambda claim: name not in claim[0])
    compared = [v for _, cells in about_it_first for v, where in cells if where == dataset]
    variants = [v for v in dict.fromkeys([*compared, *paper.variants]) if v in by_variant]
    lines = [curve(v, by_variant[v], name, scale) for v in variants[:OFFERED]]
    label = metric.label if metric else name.replace("_", " ")
    unit = metric.unit if metric else ""
    shown = tuple(line for line in lines if line.x)
    other = paper.datasets[dataset].evidence == "stand-in"
    beyond = max(0, len(variants) - OFFERED)
    return Panel(name, label, unit, dataset, over, shown, beyond, other)


def curve(variant: str, records: Sequence[Record], name: str, scale: float = 1.0) -> Line:
    """Mean and interval over seeds at each point that every seed has, a seed's folds averaged."""
    by_seed: dict[int, list[Series]] = {}
    for record in records:
        by_seed.setdefault(record.seed, []).append(record.series[name])
    x = _common_points(s for group in by_seed.values() for s in group)
    if not len(x):
        return Line(variant, (), (), (), (), 0)
    values = scale * np.array(
        [np.mean([_at(s, x) for s in group], axis=0) for _, group in sorted(by_seed.items())]
    )
    n = len(values)
    mean = values.mean(axis=0)
    half = np.zeros_like(mean)
    if n > 1:
        half = t_quantile(n - 1) * values.std(axis=0, ddof=1) / math.sqrt(n)
    rows = [tuple(map(float, row)) for row in (x, mean, mean - half, mean + half)]
    runs = tuple(tuple(map(float, run)) for run in values[:MAX_RUNS]) if n > 1 else ()
    return Line(variant, rows[0], rows[1], rows[2], rows[3], n, runs)


def _common_points(series: Iterable[Series]) -> np.ndarray:
    """Points of x in all series, at most ``MAX_POINTS`` of them, the ends included."""
    common: np.ndarray | None = None
    for one in series:
        x = np.unique(np.asarray(one.x, dtype=float))
        same = common is not None and np.array_equal(x, common)
        common = x if common is None else (common if same else np.intersect1d(common, x))
    if common is None:
        return np.array([])
    if len(common) > MAX_POINTS:
        common = common[np.linspace(0, len(common) - 1, MAX_POINTS).round().astype(int)]
    return common


def _at(series: Series, x: np.ndarray) -> np.ndarray:
    """The series' values at points that it has; the last one where a point occurs twice."""
    xs, ys = np.asarray(series.x, dtype=float), np.asarray(series.y, dtype=float)
    order = np.argsort(xs, kind="stable")
    places = np.searchsorted(xs[order], x, side="right") - 1
    return np.asarray(ys[order][places])
