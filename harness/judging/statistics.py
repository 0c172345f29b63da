"""From one number per seed to an estimate with a 95 % confidence interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Literal

from harness.records import Measured
from harness.specs.claims import OverSeeds, Share

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A quantity's value and interval; both ends ``None`` where no interval can be given.

    ``n`` counts seeds, or is ``exact`` for a deterministic quantity. ``note`` says what kind of
    interval it is, or why there is none.
    """

    value: float
    low: float | None
    high: float | None
    n: int | Literal["exact"]
    note: str = ""


def estimate(values: Sequence[Measured], over_seeds: OverSeeds = "mean") -> Estimate:
    """Combine one measurement per seed.

    The mean has a t-interval; a standard error that measurements bring along widens it, and
    gives the interval where there is only one seed. Shares have Clopper-Pearson intervals,
    medians those of order statistics; the best or worst of n runs has none.

    Raises:
        ValueError: without any value.
    """
    if not values:
        raise ValueError("no values")
    if isinstance(over_seeds, Share):
        return _share([v.value for v in values], over_seeds)
    numbers = [v.value for v in values]
    if all(v.exact for v in values) and len(set(numbers)) == 1:
        return Estimate(numbers[0], numbers[0], numbers[0], "exact", "exact")
    if over_seeds == "mean":
        return _mean(values)
    if over_seeds == "median":
        return _median(numbers)
    value = max(numbers) if over_seeds == "best" else min(numbers)
    return Estimate(value, None, None, len(numbers), f"{over_seeds} of {len(numbers)} runs")


def _mean(values: Sequence[Measured]) -> Estimate:
    n = len(values)
    numbers = [v.value for v in values]
    mean = math.fsum(numbers) / n
    own = math.fsum((v.stderr or 0.0) ** 2 for v in values) / n**2
    if n == 1:
        if not own:
            return Estimate(mean, None, None, 1, "single seed")
        half = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt(own)
        return Estimate(mean, mean - half, mean + half, 1, "standard error of the measurement")
    between = math.fsum((x - mean) ** 2 for x in numbers) / (n - 1) / n
    half = t_quantile(n - 1) * math.sqrt(between + own)
    return Estimate(mean, mean - half, mean + half, n)


@lru_cache(maxsize=256)
def t_quantile(freedom: int) -> float:
    """Half the width of a t-interval, in standard errors."""
    from scipy import special  # a third of the import time of scipy.stats

    return float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2))


def _median(numbers: Sequence[float]) -> Estimate:
    from scipy import stats

    ordered, n = sorted(numbers), len(numbers)
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    rank = int(stats.binom.ppf((1 - CONFIDENCE) / 2, n, 0.5))
    if rank < 1 or stats.binom.cdf(rank - 1, n, 0.5) > (1 - CONFIDENCE) / 2:
        return Estimate(middle, None, None, n, "too few seeds for an interval of the median")
    return Estimate(middle, ordered[rank - 1], ordered[n - rank], n, "order statistics")


def _share(numbers: Sequence[float], rule: Share) -> Estimate:
    from scipy import stats

    hits = successes(numbers, rule)
    interval = stats.binomtest(hits, len(numbers)).proportion_ci(CONFIDENCE, "exact")
    note = f"{hits} of {len(numbers)} runs, Clopper-Pearson"
    return Estimate(hits / len(numbers), interval.low, interval.high, len(numbers), note)


def successes(numbers: Sequence[float], rule: Share) -> int:
    """How many runs lie beyond the threshold."""
    if rule.share_above is not None:
        return sum(x > rule.share_above for x in numbers)
    assert rule.share_below is not None
    return sum(x < rule.share_below for x in numbers)


def share_difference(first: Sequence[float], second: Sequence[float], rule: Share) -> Estimate:
    """Difference of two shares with Newcombe's hybrid score interval (1998, method 10)."""
    from scipy import stats

    ends = []
    for numbers in (first, second):
        hits = successes(numbers, rule)
        wilson = stats.binomtest(hits, len(numbers)).proportion_ci(CONFIDENCE, "wilson")
        ends.append((hits / len(numbers), wilson.low, wilson.high))
    (p, p_low, p_high), (q, q_low, q_high) = ends
    low = p - q - math.hypot(p - p_low, q_high - q)
    high = p - q + math.hypot(p_high - p, q - q_low)
    return Estimate(p - q, low, high, min(len(first), len(second)), "Newcombe")
