"""The site's charts, as Vega-Lite specifications that the pages draw.

They are plain dictionaries, which is what Vega-Lite is; every text from a paper's spec or records
is data in them, never an expression. Markdown has the same charts as small SVGs
(:mod:`harness.report.svg`): these take a browser, or a third of a second each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from harness.judging.criteria import accepted, as_judged
from harness.judging.verdicts import JUDGEMENTS, Verdict
from harness.report.curves import Line, Panel
from harness.report.leaderboard import PaperResults
from harness.report.rows import measured, reported, seeds_of
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
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
CONFIG: Spec = {
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {"grid": True, "gridOpacity": 0.5, "tickCount": 5, "labelFontSize": 11},
    "legend": {"symbolStrokeWidth": 2, "symbolSize": 200, "labelLimit": 220},
    "title": {"anchor": "start", "fontSize": 12, "fontWeight": 600, "limit": 460},
}
WIDTH = 460
MAX_ROWS = 60


def forest(results: PaperResults) -> Spec | None:
    """Each claim on its own axis: what is accepted, what was reported, what was measured.

    ``None`` where no claim was measured.
    """
    charts = [_claim_chart(claim, rows) for claim, rows in measured_claims(results)]
    return {"config": CONFIG, "vconcat": charts, "spacing": 14} if charts else None


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


def _claim_chart(claim: Claim, rows: Sequence[Verdict]) -> Spec:
    low, high = accepted(claim)
    domain = span(rows, low, high)
    band = {"from": max(low, domain[0]), "to": min(high, domain[1])}
    values = [
        {
            "on": f"{row.dataset}, {row.tier}",
            "measured": row.measured,
            "low": row.ci_low if row.ci_low is not None else row.measured,
            "high": row.ci_high if row.ci_high is not None else row.measured,
            "reported": row.reported,
            "verdict": row.verdict,
            "figure": measured(row),
            "paper": reported(row),
            "n": seeds_of(row),
        }
        for row in rows
    ]
    unit = rows[0].unit
    x = {"type": "quantitative", "scale": {"domain": list(domain), "nice": False, "zero": False}}
    x["axis"] = {"title": unit or None, "tickCount": 5}
    layers = [_band(band, x), _interval(x), _reported(x), _point(x)]
    drawn = layers if band["from"] < band["to"] else layers[1:]
    title = {"text": claim.id, "subtitle": rows[0].quantity, "subtitleFontSize": 11}
    return {
        "title": title,
        "width": WIDTH,
        "height": {"step": 22},
        "data": {"values": values},
        "layer": drawn,
    }


def span(rows: Sequence[Verdict], low: float, high: float) -> tuple[float, float]:
    """The ends of an axis that shows everything finite, with a margin."""
    numbers = [low, high]
    for v in rows:
        numbers += [x for x in (v.measured, v.ci_low, v.ci_high, v.reported) if x is not None]
    finite = [x for x in numbers if math.isfinite(x)]
    bottom, top = min(finite), max(finite)
    margin = 0.12 * (top - bottom) or 0.1 * abs(top) or 1.0
    return bottom - margin, top + margin


_Y = {
    "field": "on",
    "type": "nominal",
    "title": None,
    "sort": None,
    "axis": {"grid": False},
}
_TOOLTIP = [
    {"field": "on", "type": "nominal", "title": "on"},
    {"field": "figure", "type": "nominal", "title": "measured, 95 % CI"},
    {"field": "n", "type": "nominal", "title": "n"},
    {"field": "paper", "type": "nominal", "title": "reported"},
    {"field": "verdict", "type": "nominal", "title": "verdict"},
]


def _band(band: Spec, x: Spec) -> Spec:
    return {
        "data": {"values": [band]},
        "mark": {"type": "rect", "color": "#3b7dc4", "opacity": 0.14},
        "encoding": {"x": {"field": "from", **x}, "x2": {"field": "to"}},
    }


def _colour() -> Spec:
    scale = {"domain": list(JUDGEMENTS), "range": list(VERDICT_COLOURS)}
    return {"field": "verdict", "type": "nominal", "scale": scale, "legend": None}


def _interval(x: Spec) -> Spec:
    encoding = {"x": {"field": "low", **x}, "x2": {"field": "high"}, "y": _Y, "color": _colour()}
    return {"mark": {"type": "rule", "strokeWidth": 3}, "encoding": encoding}


def _reported(x: Spec) -> Spec:
    mark = {"type": "point", "shape": "diamond", "size": 90, "filled": False, "strokeWidth": 1.8}
    encoding = {"x": {"field": "reported", **x}, "y": _Y, "color": {"value": "#7a828c"}}
    return {
        "transform": [{"filter": {"field": "reported", "valid": True}}],
        "mark": mark,
        "encoding": encoding,
    }


def _point(x: Spec) -> Spec:
    return {
        "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
        "encoding": {
            "x": {"field": "measured", **x},
            "y": _Y,
            "color": _colour(),
            "tooltip": _TOOLTIP,
        },
    }


def curves(panel: Panel) -> Spec:
    """One panel: a line per variant with a band of its 95 % interval over seeds."""
    values = [value for line in panel.lines for value in _points(line)]
    encoding = {
        "x": {
            "field": "x",
            "type": "quantitative",
            "title": panel.over,
            "scale": {"type": "log" if log_axis(panel) else "linear", "zero": False},
        },
        "color": {
            "field": "variant",
            "type": "nominal",
            "title": None,
            "scale": {
                "domain": [line.variant for line in panel.lines],
                "range": list(LINE_COLOURS[: len(panel.lines)]),
            },
            "legend": {"orient": "bottom", "symbolType": "stroke", "symbolOpacity": 1},
        },
    }
    title = f"{panel.label} ({panel.unit})" if panel.unit else panel.label
    y = {"type": "quantitative", "title": title, "scale": {"zero": False}}
    return {
        "title": f"{title} on {panel.dataset}",
        "config": CONFIG,
        "width": WIDTH,
        "height": 220,
        "data": {"values": values},
        "encoding": encoding,
        "layer": [_ribbon(panel, y), _mean(panel, y)],
    }


def _points(line: Line) -> list[Spec]:
    rows = zip(line.x, line.y, line.low, line.high, strict=True)
    return [
        {
            "variant": line.variant,
            "x": _short(x),
            "y": _short(y),
            "low": _short(low),
            "high": _short(high),
            "seeds": line.seeds,
        }
        for x, y, low, high in rows
    ]


def _ribbon(panel: Panel, y: Spec) -> Spec:
    y_low = {"field": "low", **y}
    mark = {"type": "area", "opacity": 0.16}
    return {"mark": mark, "encoding": {"y": y_low, "y2": {"field": "high"}}}


def _mean(panel: Panel, y: Spec) -> Spec:
    names = [line.variant for line in panel.lines]
    few = max((len(line.x) for line in panel.lines), default=0) <= 12
    dash = {
        "field": "variant",
        "type": "nominal",
        "title": None,
        "scale": {"domain": names, "range": list(DASHES[: len(names)])},
    }
    mark = {"type": "line", "strokeWidth": 2, "point": {"size": 24} if few else False}
    tooltip = [
        {"field": "variant", "type": "nominal"},
        {"field": "x", "type": "quantitative", "title": panel.over},
        {"field": "y", "type": "quantitative", "title": "mean", "format": ".4~g"},
        {"field": "low", "type": "quantitative", "format": ".4~g"},
        {"field": "high", "type": "quantitative", "format": ".4~g"},
        {"field": "seeds", "type": "quantitative"},
    ]
    return {
        "mark": mark,
        "encoding": {"y": {"field": "y", **y}, "strokeDash": dash, "tooltip": tooltip},
    }


def log_axis(panel: Panel) -> bool:
    """Whether a sweep covers two decades or more; training is drawn linearly."""
    xs = [x for line in panel.lines for x in line.x]
    wide = bool(xs) and min(xs) > 0 and max(xs) / min(xs) >= 100
    return wide and panel.over not in ("epoch", "step")


def _short(value: float) -> float:
    """Six digits draw the same curve in half the bytes."""
    return float(f"{value:.6g}")
