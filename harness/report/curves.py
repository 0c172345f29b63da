"""Series of single trials become curves over seeds, bounded in number and length."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.judging.statistics import t_quantile
from harness.records import Record, Series
from harness.specs.schema import Paper

MAX_PANELS = 12
MAX_LINES = 8
MAX_POINTS = 60


@dataclass(frozen=True)
class Line:
    """One variant: the mean over seeds and its 95 % t-interval (the mean itself for one seed)."""

    variant: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    seeds: int


@dataclass(frozen=True)
class Panel:
    """One series on one dataset, in the metric's unit; ``left_out`` counts variants not drawn."""

    name: str
    label: str
    unit: str
    dataset: str
    over: str
    lines: tuple[Line, ...]
    left_out: int


def panels(paper: Paper, records: Sequence[Record]) -> list[Panel]:
    """Panels of a paper at one tier: series that claims are about come first."""
    grouped: dict[tuple[str, str, str], dict[str, list[Record]]] = {}
    for record in records:
        if record.status == "done":
            for name, series in record.series.items():
                place = (name, record.dataset, series.over)
                grouped.setdefault(place, {}).setdefault(record.variant, []).append(record)
    claimed = {c.quantity.metric for c in paper.claims if c.quantity}
    order = {name: i for i, name in enumerate(paper.metrics)}

    def rank(place: tuple[str, str, str]) -> tuple[bool, int, str, str]:
        return (place[0] not in claimed, order.get(place[0], len(order)), place[0], place[1])

    chosen = sorted(grouped, key=rank)[:MAX_PANELS]
    return [_panel(paper, place, grouped[place]) for place in chosen]


def _panel(paper: Paper, place: tuple[str, str, str], by_variant: dict[str, list[Record]]) -> Panel:
    name, dataset, over = place
    metric = paper.metrics.get(name)
    scale = metric.scale if metric else 1.0
    variants = [v for v in paper.variants if v in by_variant]
    lines = [curve(v, by_variant[v], name, scale) for v in variants[:MAX_LINES]]
    label = metric.label if metric else name.replace("_", " ")
    unit = metric.unit if metric else ""
    drawn = tuple(line for line in lines if line.x)
    return Panel(name, label, unit, dataset, over, drawn, max(0, len(variants) - MAX_LINES))


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
    return Line(variant, rows[0], rows[1], rows[2], rows[3], n)


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
