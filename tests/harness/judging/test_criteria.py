"""Edges, and what a replication of a reported mean ± std would give."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.judging.criteria import position, replicated
from harness.judging.replication import TOO_WIDE, prediction
from harness.judging.statistics import Estimate
from harness.specs.claims import Claim, Reported

CLAIM = {
    "id": "c",
    "statement": "it holds",
    "quantity": {"value": "acc", "of": "a", "on": "d"},
    "source": {"where": "T1", "seen_in": "arXiv"},
}


def claim(criterion: dict, **reported) -> Claim:
    given = {"value": 57.0, "unit": "%", **reported}
    return Claim.model_validate({**CLAIM, "criterion": criterion, "reported": given})


def exactly(value: float) -> Estimate:
    return Estimate(value, value, value, "exact")


@pytest.mark.parametrize(
    ("criterion", "value", "place"),
    [
        ({"at_least": 57}, 0.57 * 100, "inside"),  # 56.99999999999999
        ({"at_least": 57}, 57 - 1e-6, "outside"),
        ({"at_most": 57}, 57 * (1 + 1e-10), "inside"),
        ({"at_most": 57}, 57 + 1e-6, "outside"),
        ({"greater_than": 57}, 57 * (1 + 1e-10), "outside"),
        ({"greater_than": 57}, 57 + 1e-6, "inside"),
        ({"less_than": 57}, 57 * (1 - 1e-10), "outside"),
        ({"greater_than": 0}, 1e-12, "inside"),
        ({"greater_than": 0}, 0.0, "outside"),
        ({"within": 0}, 57.0, "inside"),
        ({"within": 0.3}, 57.0 + 0.1 + 0.2, "inside"),
        ({"within": 0.3}, 57.0 + 0.31, "outside"),
        ({"between": [0.1 + 0.2, 1]}, 0.3, "inside"),
        ({"equivalent": 0.3}, 0.1 + 0.2, "inside"),
        ({"equivalent": 0.3}, -0.31, "outside"),
    ],
)
def test_figures_on_an_edge(criterion, value, place) -> None:
    assert position(claim(criterion), exactly(value)) == place


@pytest.mark.parametrize(
    ("criterion", "low", "high", "place"),
    [
        ({"at_least": 50}, 51.0, None, "inside"),
        ({"at_least": 50}, None, 49.0, "outside"),
        ({"at_least": 50}, None, 52.0, "across"),
        ({"at_most": 50}, 51.0, None, "outside"),
        ({"within": 3}, 56.0, None, "across"),
        ({"within": 3}, 61.0, None, "outside"),
    ],
)
def test_an_open_end_reaches_to_infinity(criterion, low, high, place) -> None:
    assert position(claim(criterion), Estimate(51.5, low, high, 5)) == place


def test_the_prediction_interval_is_that_of_the_literature() -> None:
    """94.1 ± 0.3 over 5 runs, 5 new ones: ± 2.776 · 0.3 · √(1/5 + 1/5)."""
    found = prediction(Reported(value=94.1, std=0.3, n=5), 5)
    assert found.high - 94.1 == pytest.approx(2.776445 * 0.3 * math.sqrt(0.4), rel=1e-5)
    assert found.low == pytest.approx(2 * 94.1 - found.high)
    assert not found.too_wide


def outcomes(shift: float, reported_runs: int = 5, runs: int = 5) -> dict[str, float]:
    """How often replications whose mean is shifted by so many standard deviations pass."""
    rng = np.random.default_rng(0)
    first = rng.normal(size=(4000, reported_runs))
    second = rng.normal(shift, 1, size=(4000, runs)).mean(axis=1)
    places = [
        replicated(
            claim({"replicates": True}, value=m, std=s, n=reported_runs),
            Estimate(x, None, None, runs),
        )[0]
        for m, s, x in zip(
            first.mean(axis=1).tolist(),
            first.std(axis=1, ddof=1).tolist(),
            second.tolist(),
            strict=True,
        )
    ]
    return {place: places.count(place) / len(places) for place in set(places)}


def test_true_replications_pass_and_others_fail() -> None:
    true, shifted = outcomes(0.0), outcomes(3.0)
    assert true["inside"] >= 0.9 and true["outside"] <= 0.06
    assert shifted["outside"] >= 0.9


def test_too_wide_an_interval_says_nothing_unless_it_is_left() -> None:
    """Three reported runs: a shift of three standard deviations would pass every other time."""
    assert prediction(Reported(value=1.0, std=0.1, n=3), 1000).width > TOO_WIDE
    few = outcomes(0.0, reported_runs=3)
    assert "inside" not in few and few["across"] >= 0.9
    assert outcomes(20.0, reported_runs=3)["outside"] > 0.9


def test_a_replication_is_judged_by_its_mean(made) -> None:
    quantity = {"value": "acc", "of": "a", "on": "paper-set"}
    runs = [0.90, 0.91, 0.92, 0.90, 0.91]
    for value, verdict in ((91.0, "reproduced"), (95.0, "not reproduced")):
        reported = {"value": value, "unit": "%", "std": 0.8, "n": 5}
        spec = made.paper(
            {"quantity": quantity, "criterion": {"replicates": True}, "reported": reported}
        )
        found = made.judged(spec, "full", a=runs)
        assert found.verdict == verdict
        assert "prediction interval" in found.reason and "± 1.8 reported std" in found.reason
    assert made.judged(spec, "cpu", a=runs).at_reduced == "missed"
