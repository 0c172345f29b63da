"""The site's charts, as Vega-Lite specifications that the pages draw.

They are plain dictionaries, which is what Vega-Lite is; every text from a paper's spec or records
is data in them, never an expression. Markdown has the same charts as small SVGs
(:mod:`harness.report.svg`): these take a browser, or a third of a second each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from harness.judging.criteria import as_judged
from harness.judging.verdicts import Verdict
from harness.report.curves import Line, Panel
from harness.report.leaderboard import PaperResults
from harness.specs.claims import Claim

Spec = dict[str, Any]

# Each stands out 3:1 against both a white and a near-black page.
VERDICT_COLOURS = ("#238a47", "#d1383d", "#a87400", "#3b7dc4", "#7a828c")
LINE_COLOURS = (
    "#3b7dd8",
    "#d2591f",
    "#238f66",
    "#ab5cc0",
    "#a67c00",
    "#d6457f",
    "#5c7f99",
    "#94703f",
)
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
CONFIG: Spec = {
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {"grid": True, "gridOpacity": 0.5, "tickCount": 5, "labelFontSize": 11},
}
WIDTH = 460
MAX_ROWS = 60


def measured_claims(results: PaperResults) -> list[tuple[Claim, list[Verdict]]]:
    """Claims with the verdicts that rest on a measurement; at most ``MAX_ROWS`` verdicts.

    A claim whose figures differ between data sets is there once for each of them.
    """
    claims = {claim.id: claim for claim in results.paper.claims}
    found: dict[tuple[str, str], tuple[Claim, list[Verdict]]] = {}
    for row in [v for v in results.verdicts if v.measured is not None][:MAX_ROWS]:
        stated = claims[row.claim]
        claim = as_judged(results.paper, stated, [row.dataset])
        if claim.criterion is not None:
            key = (claim.id, row.dataset if stated.each else "")
            found.setdefault(key, (claim, []))[1].append(row)
    return list(found.values())


def span(rows: Sequence[Verdict], low: float, high: float) -> tuple[float, float]:
    """The ends of an axis that shows everything finite, with a margin."""
    numbers = [low, high]
    for v in rows:
        numbers += [x for x in (v.measured, v.ci_low, v.ci_high, v.reported) if x is not None]
    finite = [x for x in numbers if math.isfinite(x)]
    bottom, top = min(finite), max(finite)
    margin = 0.12 * (top - bottom) or 0.1 * abs(top) or 1.0
    return bottom - margin, top + margin


def curves(panel: Panel) -> Spec:
    """One panel: a line per variant, with a band of its 95 % interval over seeds or single seeds.

    The page draws the ``lines`` in ``usermeta`` that its reader chose, at first those ``shown``.
    """
    x: Spec = {"field": "x", "type": "quantitative", "title": panel.over}
    x["scale"] = {"type": "log"} if log_axis(panel) else {"type": "linear", "zero": False}
    names = [line.variant for line in panel.lines]
    colours = [LINE_COLOURS[i % len(LINE_COLOURS)] for i in range(len(names))]
    scale = {"domain": names, "range": colours}
    colour = {"field": "variant", "type": "nominal", "scale": scale, "legend": None}
    y = {"type": "quantitative", "title": None, "scale": {"type": "linear", "zero": False}}
    lines = [_columns(line, i < len(panel.drawn)) for i, line in enumerate(panel.lines)]
    return {
        "config": CONFIG,
        "width": WIDTH,
        "height": 220,
        "data": {"values": []},
        "encoding": {"x": x, "color": colour},
        "layer": [_ribbon(y), _runs(y), _mean(panel, y, names)],
        "usermeta": {"lines": lines},
    }


def _columns(line: Line, shown: bool) -> Spec:
    rows = {name: [_short(v) for v in getattr(line, name)] for name in ("x", "y", "low", "high")}
    runs = [[_short(v, 4) for v in run] for run in line.runs] if shown else []
    return {"variant": line.variant, "shown": shown, "seeds": line.seeds, **rows, "runs": runs}


def dash(index: int) -> list[int]:
    """The dashes of a line: no other line that may be drawn has these and its colour."""
    return DASHES[(index + index // len(LINE_COLOURS)) % len(DASHES)]


def _ribbon(y: Spec) -> Spec:
    mark = {"type": "area", "opacity": 0.16}
    return {"mark": mark, "encoding": {"y": {"field": "low", **y}, "y2": {"field": "high"}}}


def _runs(y: Spec) -> Spec:
    """Single seeds, thin; rows of the means have no ``run``."""
    encoding = {"y": {"field": "run", **y}, "detail": {"field": "seed", "type": "nominal"}}
    valid = [{"filter": {"field": "run", "valid": True}}]
    mark = {"type": "line", "strokeWidth": 1, "opacity": 0.55}
    return {"transform": valid, "mark": mark, "encoding": encoding}


def _mean(panel: Panel, y: Spec, names: Sequence[str]) -> Spec:
    few = max((len(line.x) for line in panel.lines), default=0) <= 12
    scale = {"domain": list(names), "range": [dash(i) for i in range(len(names))]}
    dashed = {"field": "variant", "type": "nominal", "scale": scale, "legend": None}
    mark = {"type": "line", "strokeWidth": 2, "point": {"size": 24} if few else False}
    tooltip = [
        {"field": "variant", "type": "nominal"},
        {"field": "x", "type": "quantitative", "title": panel.over},
        {"field": "y", "type": "quantitative", "title": "mean", "format": ".4~g"},
        {"field": "low", "type": "quantitative", "format": ".4~g"},
        {"field": "high", "type": "quantitative", "format": ".4~g"},
        {"field": "seeds", "type": "quantitative"},
    ]
    encoding = {"y": {"field": "y", **y}, "strokeDash": dashed, "tooltip": tooltip}
    return {
        "transform": [{"filter": {"field": "y", "valid": True}}],
        "mark": mark,
        "encoding": encoding,
    }


def log_axis(panel: Panel) -> bool:
    """Whether a sweep covers two decades or more; training is drawn linearly."""
    xs = [x for line in panel.lines for x in line.x]
    wide = bool(xs) and min(xs) > 0 and max(xs) / min(xs) >= 100
    return wide and panel.over not in ("epoch", "step")


def _short(value: float, digits: int = 6) -> float:
    """Six digits draw the same curve in half the bytes."""
    return float(f"{value:.{digits}g}")
