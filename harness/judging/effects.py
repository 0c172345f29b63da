"""How large an effect is: beside the reported one, and beside what a control leaves of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.judging.statistics import Estimate, t_quantile


@dataclass(frozen=True)
class Proportion:
    """One effect as a multiple of another; ends are ``None`` where none can be given."""

    value: float
    low: float | None
    high: float | None


def relative_size(measured: Estimate, reported: float, none: float) -> Proportion | None:
    """Measured ÷ reported effect, both counted from the value that means no effect.

    The reported figure is taken as it stands: the interval is that of the measurement alone.

    Args:
        none: 0, or 1 for a ratio.
    """
    claimed = reported - none
    if claimed == 0:
        return None
    low, high = ((end - none) / claimed if end is not None else None for end in _ends(measured))
    if claimed < 0:
        low, high = high, low
    return Proportion((measured.value - none) / claimed, low, high)


def _ends(measured: Estimate) -> tuple[float | None, float | None]:
    return measured.low, measured.high


def removed(effects: Sequence[float], left: Sequence[float]) -> Proportion | None:
    """The share of an effect that a control takes away: 1 − mean(left) / mean(effects).

    With Fieller's interval for the ratio of two means paired by seed. It has no end where the
    effect itself is not clearly different from none.

    Args:
        effects: the effect seed by seed, counted from no effect.
        left: the effect with the control in place, of the same seeds.
    """
    n = len(effects)
    x, y = math.fsum(effects) / n, math.fsum(left) / n
    if x == 0:
        return None
    if n < 2:
        return Proportion(1 - y / x, None, None)

    def covariance(a: Sequence[float], am: float, b: Sequence[float], bm: float) -> float:
        return math.fsum((p - am) * (q - bm) for p, q in zip(a, b, strict=True)) / (n - 1) / n

    t = t_quantile(n - 1) ** 2
    xx = x * x - t * covariance(effects, x, effects, x)
    xy = x * y - t * covariance(effects, x, left, y)
    yy = y * y - t * covariance(left, y, left, y)
    if xx <= 0:
        return Proportion(1 - y / x, None, None)
    half = math.sqrt(max(xy * xy - xx * yy, 0.0)) / xx
    return Proportion(1 - y / x, 1 - (xy / xx + half), 1 - (xy / xx - half))


def same_unit(reported: str, measured: str) -> bool:
    """Whether two figures can be divided: points are those of %, and a missing unit is any."""
    points = {"%": "points"}
    return (
        not reported
        or not measured
        or points.get(reported, reported) == points.get(measured, measured)
    )
