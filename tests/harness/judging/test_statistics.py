"""Estimates against scipy's own tests and published examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.judging.statistics import (
    GAP,
    clopper_pearson,
    estimate,
    hits_of,
    share_difference,
    t_quantile,
    wilson,
)
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


def test_a_trials_own_error_is_not_counted_beside_the_spread_over_seeds() -> None:
    plain, own = estimate(measured(*NUMBERS)), estimate(measured(*NUMBERS, stderr=0.5))
    assert (own.low, own.high) == (plain.low, plain.high)


def test_the_error_of_a_few_people_has_their_degrees_of_freedom() -> None:
    """A mean over 16 people and its standard error give their t-interval, not a normal one."""
    people = np.random.default_rng(1).normal(size=16)
    stderr = float(stats.sem(people))
    found = estimate([Measured(value=float(people.mean()), stderr=stderr, df=15)])
    low, high = stats.ttest_1samp(people, 0).confidence_interval(0.95)
    assert (found.low, found.high, found.df) == (pytest.approx(low), pytest.approx(high), 15)


def test_exact_values_have_zero_width() -> None:
    found = estimate(measured(7, 7, exact=True))
    assert (found.low, found.high, found.n) == (7, 7, "exact")
    assert estimate(measured(7, 8, exact=True)).n == 2, "exact values that differ are a sample"


def test_seeds_that_do_not_vary_have_no_interval_of_their_mean() -> None:
    found = estimate(measured(1.0, 1.0, 1.0 + 1e-12))
    assert (found.low, found.high, found.k_of_n) == (None, None, True)
    assert "no spread" in found.note
    assert not estimate(measured(1.0, 1.0, 1.001)).k_of_n


@pytest.mark.parametrize(
    ("numbers", "peaks"),
    [
        ([11.3, 11.4, 95.1, 95.3, 94.9], True),
        ([95.0, 95.2, 95.1, 94.9, 11.3], False),  # one outlier: the t-interval is wide enough
        ([1.0, 2.0, 3.0, 4.0, 5.0], False),
        ([11.3, 95.1, 95.3, 11.4], False),  # too few to tell
    ],
)
def test_two_peaks_are_seen(numbers, peaks) -> None:
    assert estimate(measured(*numbers)).k_of_n is peaks


@pytest.mark.parametrize("n", [5, 6, 8, 10, 20])
def test_normal_seeds_hardly_ever_look_like_two_peaks(n) -> None:
    draws = np.sort(np.random.default_rng(n).normal(size=(20_000, n)))
    gaps = np.diff(draws)
    widest = gaps.max(axis=1)
    place = gaps.argmax(axis=1) + 1
    apart = (widest > GAP * (gaps.sum(axis=1) - widest)) & (np.minimum(place, n - place) >= 2)
    assert apart.mean() < 0.02


def test_folds_with_overlapping_training_sets_are_corrected() -> None:
    """Nadeau & Bengio (2003): the variance of a mean of n is (1/n + test/train) s²."""
    found = estimate(measured(*NUMBERS), overlap=0.25)
    half = stats.t.ppf(0.975, 4) * np.std(NUMBERS, ddof=1) * math.sqrt(1 / 5 + 0.25)
    assert found.high - found.value == pytest.approx(half)


def test_a_failed_seed_is_a_miss_in_a_share() -> None:
    above = estimate(measured(1, 2, 3), Share(share_above=0.5), better="higher", failed=2)
    assert (above.value, above.n, above.failed) == (pytest.approx(0.6), 3, 2)
    assert above.note.startswith("3 of 5")
    stuck = estimate(measured(1, 2, 3), Share(share_below=0.5), better="higher", failed=2)
    assert stuck.value == pytest.approx(0.4), "a run that failed is on the worse side"
    none = estimate([], Share(share_above=0.5), better="higher", failed=4)
    assert (none.value, none.n) == (0.0, 0)


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


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (5, 5), (3, 8), (1, 40)])
def test_intervals_of_shares_are_scipys(hits, n) -> None:
    test = stats.binomtest(hits, n)
    for ours, kind in ((clopper_pearson, "exact"), (wilson, "wilson")):
        expected = test.proportion_ci(0.95, kind)
        assert ours(hits, n) == pytest.approx((expected.low, expected.high))


def test_newcombes_published_example() -> None:
    """56/70 − 48/80: method 10 gives 0.0524 to 0.3339 (Newcombe 1998, table II, example a)."""
    first, second = [1.0] * 56 + [0.0] * 14, [1.0] * 48 + [0.0] * 32
    rule = Share(share_above=0.5)
    found = share_difference(*(hits_of(x, rule, "higher", 0) for x in (first, second)))
    assert (found.low, found.high) == (
        pytest.approx(0.0524, abs=1e-4),
        pytest.approx(0.3339, abs=1e-4),
    )


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12))
def test_the_interval_holds_the_value(numbers: list[float]) -> None:
    found = estimate(measured(*numbers))
    if found.low is not None and found.high is not None:
        assert found.low <= found.value <= found.high
