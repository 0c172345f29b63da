"""Estimates against scipy's own tests and published examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.judging.statistics import estimate, share_difference, t_quantile
from harness.records import Measured
from harness.specs.claims import Share

NUMBERS = [3.1, 2.7, 4.4, 3.9, 3.3]


def measured(*values: float, **more) -> list[Measured]:
    return [Measured(value=v, **more) for v in values]


def test_the_mean_has_scipys_t_interval() -> None:
    found = estimate(measured(*NUMBERS))
    low, high = stats.ttest_1samp(NUMBERS, 0).confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.n == 5


def test_quantiles_are_those_of_students_t() -> None:
    freedoms = [*range(1, 200), 999, 1000, 1001, 1002, 5000, 99_999]
    expected = stats.t.ppf(0.975, freedoms)
    assert [t_quantile(freedom) for freedom in freedoms] == pytest.approx(expected, rel=2e-12)


def test_a_single_seed_has_no_interval_unless_it_brings_its_error() -> None:
    alone = estimate(measured(3.0))
    assert (alone.value, alone.low, alone.n, alone.note) == (3.0, None, 1, "single seed")
    own = estimate(measured(3.0, stderr=1.0))
    assert own.low == pytest.approx(3 - 1.959964, abs=1e-5)


def test_own_errors_widen_the_interval() -> None:
    plain, wide = estimate(measured(*NUMBERS)), estimate(measured(*NUMBERS, stderr=0.5))
    assert wide.high - wide.low > plain.high - plain.low
    assert wide.value == plain.value


def test_exact_values_have_zero_width() -> None:
    found = estimate(measured(7, 7, exact=True))
    assert (found.low, found.high, found.n) == (7, 7, "exact")
    assert estimate(measured(7, 8, exact=True)).n == 2, "exact values that differ are a sample"


def test_best_and_worst_have_no_interval() -> None:
    assert estimate(measured(*NUMBERS), "best").value == 4.4
    worst = estimate(measured(*NUMBERS), "worst")
    assert (worst.value, worst.low) == (2.7, None)


def test_the_medians_interval_covers_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        found = estimate(measured(*rng.exponential(size=15)), "median")
        hits += found.low <= math.log(2) <= found.high
    assert hits / 400 > 0.93
    assert estimate(measured(*NUMBERS), "median").low is None


def test_a_share_has_the_clopper_pearson_interval() -> None:
    found = estimate(measured(*range(10)), Share(share_above=6.5))
    assert found.value == pytest.approx(0.3)
    assert (found.low, found.high) == (pytest.approx(0.0667395), pytest.approx(0.6524529))


def test_newcombes_published_example() -> None:
    """56/70 − 48/80: method 10 gives 0.0524 to 0.3339 (Newcombe 1998, table II, example a)."""
    first, second = [1.0] * 56 + [0.0] * 14, [1.0] * 48 + [0.0] * 32
    found = share_difference(first, second, Share(share_above=0.5))
    assert (found.low, found.high) == (
        pytest.approx(0.0524, abs=1e-4),
        pytest.approx(0.3339, abs=1e-4),
    )


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12))
def test_the_interval_holds_the_value(numbers: list[float]) -> None:
    found = estimate(measured(*numbers))
    if found.low is not None and found.high is not None:
        assert found.low <= found.value <= found.high
