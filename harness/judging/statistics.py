"""From one number per seed to an estimate with a confidence interval, 95 % unless asked.

Formulas, their sources and what coverage was simulated are in ``docs/statistics.md``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from harness.judging.extremes import Quantile, best_of, median
from harness.records import Measured
from harness.specs.claims import Extreme, OverSeeds, Share

CONFIDENCE = 0.95
SAME = 1e-9  # relative difference up to which two figures are the same
GAP = 5.0  # two peaks: the gap between the groups, in sums of their ranges
FEWEST_FOR_PEAKS = 5  # and two in each group: one run apart is an outlier

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Estimate:
    """A quantity's value and interval; an end is ``None`` where none can be given.

    ``n`` counts the seeds measured, or is ``exact`` for a deterministic quantity; ``failed``
    counts those that failed, diverged or timed out. ``note`` says what kind of interval it is, or
    why there is none. ``values`` are the seeds' own; with ``k_of_n`` these are judged rather than
    their mean, for they do not vary or have two peaks. ``stderr`` and ``df`` belong to intervals
    from Student's t (``df`` is infinite for a normal one).
    """

    value: float
    low: float | None
    high: float | None
    n: int | Literal["exact"]
    note: str = ""
    failed: int = 0
    values: tuple[float, ...] = ()
    k_of_n: bool = False
    stderr: float | None = None
    df: float | None = None
    confidence: float = CONFIDENCE


def estimate(
    values: Sequence[Measured],
    over_seeds: OverSeeds = "mean",
    *,
    better: Better | None = None,
    failed: int = 0,
    overlap: float = 0.0,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Combine one measurement per seed.

    Args:
        better: which direction of the metric is the better one; failures lie at the other end.
        failed: seeds without a measurement because they failed: misses in a share, the worst of
            all in a median or a best, and only counted beside a mean.
        overlap: test ÷ training examples, where values come from overlapping training sets.
        confidence: of the interval.

    Raises:
        ValueError: without any value, or without ``better`` where it is needed.
    """
    numbers = [v.value for v in values]
    if isinstance(over_seeds, Share):
        return _share(numbers, over_seeds, better, failed, confidence)
    if not values:
        raise ValueError("no values")
    if all(v.exact for v in values) and alike(numbers):
        return Estimate(numbers[0], numbers[0], numbers[0], "exact", "exact", failed)
    if over_seeds == "mean":
        return _mean(values, failed, overlap, confidence)
    found = quantile(numbers, over_seeds, better, failed, confidence)
    return Estimate(found.value, found.low, found.high, len(numbers), found.note, failed)


def _mean(values: Sequence[Measured], failed: int, overlap: float, confidence: float) -> Estimate:
    """The mean with its t-interval over seeds, or by the standard error of a single one.

    A trial's own standard error is part of the spread over seeds and is not added to it.
    """
    numbers = tuple(v.value for v in values)
    n, mean = len(numbers), math.fsum(numbers) / len(numbers)
    if n == 1:
        return _alone(values[0], failed, confidence)
    shape = _shape(numbers)
    if shape:
        return Estimate(mean, None, None, n, shape, failed, numbers, k_of_n=True)
    variance = math.fsum((x - mean) ** 2 for x in numbers) / (n - 1)
    stderr = math.sqrt(variance * (1 / n + overlap))
    note = "corrected for overlapping training sets" if overlap else ""
    half = t_quantile(n - 1, confidence) * stderr
    ends = (mean - half, mean + half)
    return Estimate(mean, *ends, n, note, failed, numbers, stderr=stderr, df=n - 1)


def _alone(only: Measured, failed: int, confidence: float) -> Estimate:
    values = (only.value,)
    if not only.stderr:
        return Estimate(only.value, None, None, 1, "single seed", failed, values)
    df = math.inf if only.df is None else only.df
    half = t_quantile(df, confidence) * only.stderr
    note = "standard error of the measurement"
    ends = (only.value - half, only.value + half)
    return Estimate(only.value, *ends, 1, note, failed, values, stderr=only.stderr, df=df)


@lru_cache(maxsize=256)
def t_quantile(freedom: float, confidence: float = CONFIDENCE) -> float:
    """Half the width of a t-interval, in standard errors; normal for infinite ``freedom``."""
    from scipy import special  # a third of the import time of scipy.stats

    end = (1 + confidence) / 2
    return float(special.ndtri(end) if math.isinf(freedom) else special.stdtrit(freedom, end))


def alike(numbers: Sequence[float]) -> bool:
    """Whether figures are the same but for rounding."""
    size = max(abs(x) for x in numbers)
    return max(numbers) - min(numbers) <= SAME * size


def _shape(numbers: Sequence[float]) -> str:
    """Why a mean and its spread would mislead; empty where they do not."""
    n = len(numbers)
    if alike(numbers):
        return f"no spread over {n} seeds"
    if n < FEWEST_FOR_PEAKS:
        return ""
    ordered = sorted(numbers)
    gaps = [b - a for a, b in pairwise(ordered)]
    widest = max(gaps)
    low = gaps.index(widest) + 1
    if min(low, n - low) < 2 or widest <= GAP * (math.fsum(gaps) - widest):
        return ""
    return f"two peaks: {low} seeds below, {n - low} above"


def quantile(
    numbers: Sequence[float],
    over_seeds: OverSeeds,
    better: Better | None,
    failed: int,
    confidence: float = CONFIDENCE,
) -> Quantile:
    """The median, best or worst run.

    Raises:
        ValueError: the metric does not say which direction is better, and it matters.
    """
    if better is None and (failed or over_seeds != "median"):
        raise ValueError("the metric does not say which direction is better")
    side = (1 - confidence) / 2
    if over_seeds == "median":
        return median(numbers, failed, math.inf if better == "lower" else -math.inf, side)
    runs = over_seeds if isinstance(over_seeds, Extreme) else None
    best = runs.best is not None if runs else over_seeds == "best"
    k = (runs.best or runs.worst if runs else None) or len(numbers) + failed
    highest = (better == "higher") == best
    if not best and failed:
        raise ValueError(f"the worst run is one of the {failed} that failed")
    name = "best" if best else "worst"
    return best_of(numbers, k, highest=highest, failed=failed, name=name, side=side)


def _share(
    numbers: Sequence[float], rule: Share, better: Better | None, failed: int, confidence: float
) -> Estimate:
    hits, n = hits_of(numbers, rule, better, failed)
    low, high = clopper_pearson(hits, n, confidence)
    return Estimate(hits / n, low, high, len(numbers), _runs(hits, n, "Clopper-Pearson"), failed)


def hits_of(
    numbers: Sequence[float], rule: Share, better: Better | None, failed: int
) -> tuple[int, int]:
    """How many of all runs lie beyond the threshold; failed ones lie at its worse side."""
    worse = rule.share_above is None if better == "higher" else rule.share_below is None
    return successes(numbers, rule) + (failed if worse and better else 0), len(numbers) + failed


def _runs(hits: int, n: int, kind: str) -> str:
    return f"{hits} of {n} runs, {kind}"


def successes(numbers: Sequence[float], rule: Share) -> int:
    """How many runs lie beyond the threshold."""
    if rule.share_above is not None:
        return sum(x > rule.share_above for x in numbers)
    assert rule.share_below is not None
    return sum(x < rule.share_below for x in numbers)


def clopper_pearson(hits: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The exact interval of a share (Clopper & Pearson 1934)."""
    from scipy.special import betaincinv

    side = (1 - confidence) / 2
    low = float(betaincinv(hits, n - hits + 1, side)) if hits else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1 - side)) if hits < n else 1.0
    return low, high


def wilson(hits: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The score interval of a share (Wilson 1927)."""
    z, p = t_quantile(math.inf, confidence), hits / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def share_difference(
    first: tuple[int, int], second: tuple[int, int], confidence: float = CONFIDENCE
) -> Estimate:
    """Difference of two shares with Newcombe's hybrid score interval (1998, method 10).

    Args:
        first, second: hits and runs of each side.
    """
    (hits, n), (other_hits, m) = first, second
    p, q = hits / n, other_hits / m
    (p_low, p_high), (q_low, q_high) = (wilson(*side, confidence) for side in (first, second))
    low = p - q - math.hypot(p - p_low, q_high - q)
    high = p - q + math.hypot(p_high - p, q - q_low)
    note = f"{hits} of {n} − {other_hits} of {m} runs, Newcombe"
    return Estimate(p - q, low, high, min(n, m), note)
