"""Best of k runs and the median run, by order statistics."""

from __future__ import annotations

import numpy as np
import pytest

from harness.judging.extremes import Quantile, best_of, between, ends, median
from harness.judging.statistics import quantile
from harness.specs.claims import Extreme

RUNS = [3.1, 2.7, 4.4, 3.9, 3.3, 3.0]


def test_the_best_of_as_many_runs_has_a_lower_end_only() -> None:
    found = best_of(RUNS, 6, highest=True)
    assert (found.value, found.high) == (4.4, None)
    assert found.low in RUNS and found.low < 4.4
    assert "32 runs" in found.note, "five times as many runs close the other end"


def test_the_best_of_a_metric_where_lower_is_better_is_the_minimum() -> None:
    found = quantile(RUNS, "best", "lower", 0)
    assert (found.value, found.low) == (2.7, None)
    assert found.high is not None and found.high > 2.7
    assert quantile(RUNS, "worst", "lower", 0).value == 4.4
    with pytest.raises(ValueError, match="direction"):
        quantile(RUNS, "best", None, 0)


def test_fewer_runs_than_k_say_nothing_of_the_best_of_k() -> None:
    found = quantile(RUNS, Extreme(best=40), "higher", 0)
    assert (found.low, found.high) == (None, None)
    assert "best of 6 runs, not of 40" in found.note


@pytest.mark.parametrize(("k", "n", "highest"), [(3, 40, True), (5, 40, False), (2, 20, True)])
def test_the_interval_of_the_best_of_k_covers_its_median(k, n, highest) -> None:
    """The true median of the best of k uniform runs is 2^(−1/k), of the lowest 1 − 2^(−1/k)."""
    rng = np.random.default_rng(k)
    truth = 0.5 ** (1 / k) if highest else 1 - 0.5 ** (1 / k)
    hits = 0
    for draw in rng.uniform(size=(600, n)).tolist():
        found = best_of(draw, k, highest=highest)
        assert found.low is not None and found.high is not None
        hits += found.low <= truth <= found.high
    assert hits / 600 >= 0.93


def test_one_sided_ends_hold_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    lows = [best_of(draw, 5, highest=True).low for draw in rng.uniform(size=(800, 5)).tolist()]
    assert np.mean([low <= 0.5 ** (1 / 5) for low in lows]) >= 0.965


def test_failed_runs_are_the_worst_ones() -> None:
    plain, failed = best_of(RUNS, 6, highest=True), best_of(RUNS, 8, highest=True, failed=2)
    assert failed.value == plain.value == 4.4
    assert failed.low in RUNS, "eight runs, of which two reached nothing"
    assert median([1.0, 2.0, 3.0], failed=1).value == pytest.approx(1.5)
    with pytest.raises(ValueError, match="2 of 3 runs failed"):
        median([1.0], failed=2)


def test_an_end_needs_enough_runs_beyond_it() -> None:
    assert ends([1.0, 2, 3, 4, 5], 0.5) == (None, None)
    assert ends([1.0, 2, 3, 4, 5, 6], 0.5) == (1.0, 6.0)


def test_differences_of_independent_quantiles() -> None:
    a, b = Quantile(5.0, 4.0, 7.0, ""), Quantile(2.0, 1.0, 2.5, "")
    low, high = between("difference", a, b)
    assert (low, high) == (pytest.approx(3 - 1.25**0.5), pytest.approx(3 + 5**0.5))
    open_above = Quantile(5.0, 4.0, None, "")
    assert between("difference", open_above, b) == (pytest.approx(3 - 1.25**0.5), None)
    low, high = between("ratio", a, b)
    assert low is not None and high is not None and 4 / 2.5 < low < 2.5 < high < 7
    assert between("ratio", a, Quantile(2.0, -1.0, 2.5, "")) == (None, None)
