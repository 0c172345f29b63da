"""p-values from intervals, and tests of many claims at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from harness.judging.multiplicity import SMALLEST, benjamini_hochberg, holm, p_value

A = [0.90, 0.91, 0.92, 0.90, 0.91]
B = [0.85, 0.86, 0.88, 0.84, 0.85]
VALUE = {"quantity": {"value": "acc", "of": "a", "on": "paper-set"}}
GAP = {"quantity": {"difference": "acc", "of": "a", "from": "b", "on": "paper-set"}}
POINTS = [100 * x for x in A]


@pytest.fixture
def p_of(handmade) -> Callable[..., float | None]:
    """The p-value of a claim."""
    return lambda claim, **values: handmade.judge(handmade.paper(claim), **values).p


def test_one_edge_gives_the_one_sided_t_test(p_of) -> None:
    gaps = [100 * (a - b) for a, b in zip(A, B, strict=True)]
    expected = stats.ttest_1samp(gaps, 4, alternative="greater").pvalue
    assert p_of({**GAP, "criterion": {"greater_than": 4}}, a=A, b=B) == pytest.approx(
        expected, 1e-3
    )
    below = stats.ttest_1samp(POINTS, 92, alternative="less").pvalue
    assert p_of({**VALUE, "criterion": {"at_most": 92}}, a=A) == pytest.approx(below, 1e-3)


def test_two_edges_give_two_one_sided_tests(p_of) -> None:
    sides = [(89.2, "greater"), (93.5, "less")]
    expected = max(stats.ttest_1samp(POINTS, edge, alternative=way).pvalue for edge, way in sides)
    found = p_of({**VALUE, "criterion": {"between": [89.2, 93.5]}}, a=A)
    assert found == pytest.approx(expected, 1e-3)


def test_only_what_is_reproduced_has_one(p_of) -> None:
    assert p_of({**VALUE, "criterion": {"at_least": 95}}, a=A) is None
    assert p_of({**VALUE, "criterion": {"at_least": 90.8}}, a=A) is None
    edge = float(stats.ttest_1samp(POINTS, 0).confidence_interval().low)
    just = p_of({**VALUE, "criterion": {"greater_than": edge - 1e-6}}, a=A)
    assert just == pytest.approx(0.025, rel=1e-3)


def test_a_p_value_too_small_to_matter_is_not_searched_for() -> None:
    assert p_value(lambda error: True, largest=0.025) == SMALLEST
    assert p_value(lambda error: error > 0.004, largest=0.025) == pytest.approx(0.004, rel=1e-3)


P = [0.0001, 0.004, 0.0052, 0.0095, 0.0201]


def test_holm_steps_down_until_the_first_that_fails() -> None:
    assert holm(P, 0.05, tests=10) == [True, True, True, False, False]
    assert holm(P[::-1], 0.05, tests=10) == [False, False, True, True, True]
    assert holm(P, 0.05, tests=5) == [True] * 5
    assert holm([0.02, 0.02], 0.025, tests=2) == [False, False], "not the second without the first"


def test_benjamini_and_hochberg_step_up_from_the_last_that_passes() -> None:
    assert benjamini_hochberg(P, 0.04, tests=10) == [True, True, True, True, False]
    assert benjamini_hochberg([0.02, 0.024], 0.025, tests=2) == [True, True]
    assert benjamini_hochberg([], 0.05, tests=3) == []


def test_holm_keeps_the_chance_of_any_error_and_one_by_one_does_not() -> None:
    p = np.random.default_rng(0).random((2000, 20))
    wrong = np.mean([any(holm(list(row[row <= 0.05]), 0.05, tests=20)) for row in p])
    assert wrong == pytest.approx(0.05, abs=0.012)
    assert (p <= 0.05).any(1).mean() > 0.6
