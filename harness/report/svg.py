"""Forest plot and learning curves as small SVG files for Markdown.

They follow the reader's light or dark theme, name no font file, and the same numbers give the same
bytes. Lengths are in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from harness.judging.criteria import accepted
from harness.judging.verdicts import JUDGEMENTS, Verdict
from harness.report.curves import Panel
from harness.report.figures import (
    LINE_COLOURS,
    VERDICT_COLOURS,
    log_axis,
    measured_claims,
    span,
)
from harness.report.leaderboard import PaperResults
from harness.report.rows import measured
from harness.specs.claims import Claim

WIDTH = 760
LEFT, RIGHT = 170, 200
ROW = 22
COLOUR = dict(zip(JUDGEMENTS, VERDICT_COLOURS, strict=True))
STYLE = (
    "<style>text{font:12px system-ui,sans-serif;fill:#1f2328}.m{fill:#59636e}.h{font-weight:600}"
    ".g{stroke:#d1d9e0}.r{fill:none;stroke:#59636e;stroke-width:1.6}"
    "@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.m{fill:#9198a1}.g{stroke:#3d444d}"
    ".r{stroke:#9198a1}}</style>"
)
Axis = Callable[[float], float]


def _document(height: float, title: str, body: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" '
        f'width="{WIDTH}" height="{height:g}" role="img"><title>{escape(title)}</title>{STYLE}'
    )
    return "\n".join([head, *body, "</svg>", ""])


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "") -> str:
    attributes = (f' class="{kind}"' if kind else "") + (
        f' text-anchor="{anchor}"' if anchor else ""
    )
    return f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{escape(text)}</text>'


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers between two ends, about as many as asked for."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [k * step for k in range(first, last + 1)]


def _label(tick: float) -> str:
    return f"{tick:.6g}".replace("-", "−")


def _linear(low: float, high: float, start: float, end: float) -> Axis:
    scale = (end - start) / (high - low)
    return lambda value: start + (value - low) * scale


def forest(results: PaperResults) -> str | None:
    """Each claim on its own axis: accepted range, reported figure, measured interval.

    ``None`` where no claim was measured.
    """
    body: list[str] = []
    top = 30.0
    for claim, rows in measured_claims(results):
        body += _claim(claim, rows, top)
        top += 24 + ROW * len(rows) + 34
    if not body:
        return None
    key = "measured with 95 % interval (●), reported (◇), accepted by the criterion (shaded)"
    title = f"{results.paper.title}: {key}"
    return _document(top, title, [_text(0, 14, key, "m"), *body])


def _claim(claim: Claim, rows: Sequence[Verdict], top: float) -> list[str]:
    low, high = accepted(claim)
    ends = span(rows, low, high)
    x = _linear(*ends, LEFT, WIDTH - RIGHT)
    upper, lower = top + 20, top + 20 + ROW * len(rows)
    unit = f" ({rows[0].unit})" if rows[0].unit else ""
    parts = [
        f'<text y="{top + 8:.1f}"><tspan class="h">{escape(claim.id)}</tspan>'
        f'<tspan class="m" dx="8">{escape(rows[0].quantity + unit)}</tspan></text>'
    ]
    left, right = x(max(low, ends[0])), x(min(high, ends[1]))
    if right > left:
        parts.append(
            f'<rect x="{left:.1f}" y="{upper:.1f}" width="{right - left:.1f}" '
            f'height="{lower - upper:.1f}" fill="#3b7dc4" opacity=".16"/>'
        )
    for tick in ticks(*ends):
        parts.append(_grid_x(x(tick), upper, lower))
        parts.append(_text(x(tick), lower + 14, _label(tick), "m", "middle"))
    for index, row in enumerate(rows):
        parts += _row(row, x, upper + ROW * (index + 0.5))
    return parts


def _row(row: Verdict, x: Axis, y: float) -> list[str]:
    assert row.measured is not None
    colour = COLOUR[row.verdict]
    other = ", stand-in" if row.evidence == "stand-in" else ""
    parts = [_text(LEFT - 8, y + 4, f"{row.dataset}, {row.tier}{other}", "", "end")]
    if row.reported is not None:
        at = x(row.reported)
        parts.append(f'<path class="r" d="M{at:.1f} {y - 5:.1f}l5 5-5 5-5-5z"/>')
    if row.ci_low is not None and row.ci_high is not None:
        parts.append(
            f'<line x1="{x(row.ci_low):.1f}" x2="{x(row.ci_high):.1f}" y1="{y:.1f}" y2="{y:.1f}" '
            f'stroke="{colour}" stroke-width="3"/>'
        )
    parts.append(f'<circle cx="{x(row.measured):.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>')
    parts.append(_text(WIDTH - RIGHT + 10, y + 4, measured(row)))
    return parts


def _grid_x(x: float, top: float, bottom: float) -> str:
    return f'<line class="g" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>'


def curves(panel: Panel, height: float = 260) -> str | None:
    """Mean over seeds with a band of its 95 % interval; ``None`` for an empty panel."""
    lines = panel.drawn
    if not lines:
        return None
    log = log_axis(panel)
    left, right, top, bottom = 64.0, WIDTH - RIGHT, 30.0, height - 40
    xs = [_x(value, log) for line in lines for value in line.x]
    ys = [value for line in lines for value in (*line.low, *line.high)]
    x_ends, y_ends = _ends(xs), _ends(ys)
    x, y = _linear(*x_ends, left, right), _linear(*y_ends, bottom, top)
    title = panel.title
    parts = [_text(0, 14, title, "h")]
    for tick in ticks(*y_ends):
        parts.append(
            f'<line class="g" x1="{left:g}" x2="{right:g}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        )
        parts.append(_text(left - 6, y(tick) + 4, _label(tick), "m", "end"))
    for tick in ticks(*x_ends, about=8):
        shown = _label(10**tick if log else tick)
        parts.append(_text(x(tick), bottom + 16, shown, "m", "middle"))
    parts.append(_text((left + right) / 2, bottom + 34, panel.over, "m", "middle"))
    for index, line in enumerate(lines):
        colour = LINE_COLOURS[index % len(LINE_COLOURS)]
        at = [x(_x(value, log)) for value in line.x]
        parts.append(_band(at, [y(v) for v in line.low], [y(v) for v in line.high], colour))
        parts.append(_path(at, [y(v) for v in line.y], colour))
        where = top + 8 + 18 * index
        parts.append(_path([right + 14, right + 34], [where - 4, where - 4], colour))
        parts.append(_text(right + 40, where, line.variant))
    if more := len(panel.lines) - len(lines) + panel.left_out:
        where = top + 8 + 18 * len(lines)
        parts.append(_text(right + 14, where, f"{more} more not drawn", "m"))
    return _document(height, title, parts)


def _x(value: float, log: bool) -> float:
    return math.log10(value) if log else value


def _ends(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        margin = 0.5 * abs(high) or 0.5
        return low - margin, high + margin
    return low, high


def _band(x: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str) -> str:
    there = [f"{a:.1f},{b:.1f}" for a, b in zip(x, high, strict=True)]
    back = [f"{a:.1f},{b:.1f}" for a, b in zip(reversed(x), reversed(low), strict=True)]
    return f'<polygon points="{" ".join(there + back)}" fill="{colour}" opacity=".16"/>'


def _path(x: Sequence[float], y: Sequence[float], colour: str) -> str:
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
