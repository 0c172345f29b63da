"""Quantiles of the runs from order statistics: the median run, and the best of k runs.

Nothing is assumed of the distribution. The price: an end needs enough runs beyond it, and where
there are too few it is open. The upper end of a best of k takes more than five times k runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

SIDE = 0.025  # the error allowed on each side unless asked


@dataclass(frozen=True)
class Quantile:
    """A quantile of the distribution of runs; an open end is ``None``."""

    value: float
    low: float | None
    high: float | None
    note: str


def median(
    numbers: Sequence[float], failed: int = 0, failure: float = -math.inf, side: float = SIDE
) -> Quantile:
    """The median run.

    Args:
        failed: runs without a number.
        failure: where these count, as plus or minus infinity.

    Raises:
        ValueError: half of the runs failed, so that the median is no number.
    """
    ordered = sorted([*numbers, *[failure] * failed])
    n = len(ordered)
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    if not math.isfinite(middle):
        raise ValueError(f"{failed} of {n} runs failed, so that the median run is none")
    low, high = ends(ordered, 0.5, side)
    if low is None and high is None:
        return Quantile(middle, None, None, "too few seeds for an interval of the median")
    return Quantile(middle, low, high, "median run, order statistics")


def best_of(
    numbers: Sequence[float],
    k: int,
    *,
    highest: bool,
    failed: int = 0,
    name: str = "best",
    side: float = SIDE,
) -> Quantile:
    """The median of what the best of ``k`` runs gives, from ``k`` runs or more.

    The best of k runs lies above the 2^(−1/k) quantile of a run in half of all cases (below the
    1 − 2^(−1/k) quantile, where low is best): the interval is that quantile's. Fewer runs than
    ``k`` say what was measured, and have no interval.

    Args:
        highest: whether the highest number is the one wanted.
        failed: runs without a number, further from it than any.
    """
    sign = 1.0 if highest else -1.0
    ordered = sorted([sign * x for x in numbers] + [-math.inf] * failed)
    n = len(ordered)
    if n < k:
        return Quantile(sign * ordered[-1], None, None, f"{name} of {n} runs, not of {k}")
    # The smallest number that is not below the best of half of all choices of k out of n runs.
    half = math.comb(n, k) / 2
    value = next(x for j, x in enumerate(ordered, 1) if math.comb(j, k) >= half)
    low, high = ends(ordered, 0.5 ** (1 / k), side)
    if not highest:
        low, high = (None if high is None else -high), (None if low is None else -low)
    note = f"{name} of {k} runs" + (f" out of {n}" if n > k else "")
    return Quantile(
        sign * value, low, high, f"{note}, order statistics{_open(low, high, k, n, side)}"
    )


def _open(low: float | None, high: float | None, k: int, n: int, side: float) -> str:
    if low is not None and high is not None:
        return ""
    need = math.ceil(k * math.log(side) / math.log(0.5))
    return f"; an end is open, which takes {need} runs" if n < need else "; an end is open"


def ends(
    ordered: Sequence[float], p: float, side: float = SIDE
) -> tuple[float | None, float | None]:
    """The interval of the ``p`` quantile: two of the sorted numbers, by the error on each side."""
    from scipy.special import bdtr

    n = len(ordered)
    # x_(j) lies below the quantile where at least j of the runs do, which is Bin(n, p).
    fewer = [float(bdtr(j, n, p)) for j in range(n)]  # P(at most j runs below), j = 0 … n − 1
    lowest = [x for x, chance in zip(ordered, fewer, strict=True) if chance <= side]
    highest = [x for x, chance in zip(ordered, fewer, strict=True) if chance >= 1 - side]
    return _finite(lowest[-1:]), _finite(highest[:1])


def _finite(end: Sequence[float]) -> float | None:
    return end[0] if end and math.isfinite(end[0]) else None


def between(quantity: str, first: Quantile, second: Quantile) -> tuple[float | None, float | None]:
    """The interval of a difference or ratio of two independent estimates (MOVER).

    Zou & Donner's method of variance estimates recovery; of the logarithms for a ratio, whose
    sides must be positive.
    """
    if quantity == "difference":
        return _mover(first, second)
    figures = (first.value, first.low, first.high, second.value, second.low, second.high)
    if any(x is not None and x <= 0 for x in figures):
        return None, None
    low, high = _mover(_log(first), _log(second))
    return (None if low is None else math.exp(low)), (None if high is None else math.exp(high))


def _mover(a: Quantile, b: Quantile) -> tuple[float | None, float | None]:
    gap = a.value - b.value
    low = high = None
    if a.low is not None and b.high is not None:
        low = gap - math.hypot(a.value - a.low, b.high - b.value)
    if a.high is not None and b.low is not None:
        high = gap + math.hypot(a.high - a.value, b.value - b.low)
    return low, high


def _log(q: Quantile) -> Quantile:
    low, high = (None if end is None else math.log(end) for end in (q.low, q.high))
    return Quantile(math.log(q.value), low, high, q.note)
