"""Seeds until decided: intervals that hold at every look, and which look a claim is judged at."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from harness.judging.sequential import confidence, last_look, looks, next_look, share
from harness.judging.statistics import t_quantile
from harness.records import Measured
from harness.specs.schema import Schedule

FIVE_TO_FORTY = Schedule(start=5, most=40)
REPETITIONS = 40_000


def scores(draw, shift: float = 0.0, at=(5, 10, 20, 40)) -> np.ndarray:
    """t-statistics of many runs at each look: (runs, looks); ``draw`` has mean 0 and variance 1."""
    numbers = draw(np.random.default_rng(0), (REPETITIONS, 40)) + shift
    columns = []
    for n in at:
        seen = numbers[:, :n]
        columns.append(seen.mean(1) / seen.std(1, ddof=1) * math.sqrt(n))
    return np.stack(columns, axis=1)


def quantiles(overall: float = 0.95) -> np.ndarray:
    at = looks(FIVE_TO_FORTY)
    return np.array([t_quantile(n - 1, confidence(FIVE_TO_FORTY, n, overall)) for n in at])


def normal(rng, shape):
    return rng.standard_normal(shape)


def heavy(rng, shape):
    return rng.standard_t(3, shape) / math.sqrt(3)


def uniform(rng, shape):
    return rng.uniform(-math.sqrt(3), math.sqrt(3), size=shape)


def skewed(rng, shape):
    return rng.exponential(size=shape) - 1


@pytest.mark.parametrize("draw", [normal, heavy])
def test_the_intervals_of_all_looks_hold_together(draw) -> None:
    found = scores(draw)
    missed = np.abs(found) > quantiles()
    assert 1 - missed.any(1).mean() >= 0.945
    assert (found > quantiles()).any(1).mean() <= 0.025, "false 'reproduced' at the edge above"
    assert (found < -quantiles()).any(1).mean() <= 0.025, "false 'reproduced' at the edge below"
    usual = np.array([t_quantile(n - 1) for n in looks(FIVE_TO_FORTY)])
    assert (found > usual).any(1).mean() > 0.05, "looking four times with the usual interval is not"


def test_a_run_that_stops_when_decided_covers_the_truth() -> None:
    """Of a claim that is true by one standard deviation, the interval it stopped at is shown."""
    found, limits = scores(normal), quantiles()
    decided = np.abs(scores(normal, shift=1.0)) > limits
    stop = np.where(decided.any(1), decided.argmax(1), 3)
    runs = np.arange(REPETITIONS)
    assert (np.abs(found[runs, stop]) <= limits[stop]).mean() >= 0.94
    assert decided.any(1).mean() > 0.99
    assert np.array(looks(FIVE_TO_FORTY))[stop].mean() < 18


def test_of_uniform_figures_they_hold_a_little_less_which_the_page_says() -> None:
    found = scores(uniform)
    assert 0.94 < 1 - (np.abs(found) > quantiles()).any(1).mean() < 0.95
    for side in (found, -found):
        assert 0.025 < (side > quantiles()).any(1).mean() < 0.03


def test_of_skewed_figures_they_hold_as_well_as_five_seeds_do() -> None:
    """As docs/statistics.md says of figures with a long tail: 88 %, like one look at five."""
    missed = (np.abs(scores(skewed)) > quantiles()).any(1).mean()
    five = (np.abs(scores(skewed, at=(5,))) > t_quantile(4)).mean()
    assert 0.11 < missed < 0.135
    assert missed < five + 0.015


@given(st.integers(2, 50), st.integers(1, 400))
def test_looks_double_and_spend_the_error_once(start: int, more: int) -> None:
    schedule = Schedule(start=start, most=start + more)
    at = looks(schedule)
    assert (at[0], at[-1]) == (start, start + more)
    assert all(a < b <= 2 * a for a, b in itertools.pairwise(at))
    assert math.fsum(share(schedule, n) for n in at) == pytest.approx(1)
    assert all(share(schedule, n) > 0 for n in at)


def test_a_look_is_the_largest_that_is_complete() -> None:
    assert [last_look(FIVE_TO_FORTY, n) for n in (4, 5, 9, 10, 39, 40, 99)] == [
        *(None, 5, 5, 10, 20, 40, 40)
    ]
    assert [next_look(FIVE_TO_FORTY, n) for n in (None, 5, 20, 40)] == [5, 10, 40, None]


def test_a_schedule_grows() -> None:
    with pytest.raises(ValidationError, match="most must be above start"):
        Schedule(start=5, most=5)


A = [0.90, 0.91, 0.92, 0.90, 0.91]
B = [0.85, 0.86, 0.88, 0.84, 0.85]
NOISY = [0.1, -0.1, 0.3, 0.0, 0.2]
SEEDS = {"start": 5, "most": 40}
SIX = {"start": 6, "most": 48}
VALUE = {"quantity": {"value": "acc", "of": "a", "on": "paper-set"}}
GAP = {"quantity": {"difference": "acc", "of": "a", "from": "b", "on": "paper-set"}}
ABOVE = {**GAP, "criterion": {"greater_than": 0}}
CONTROLLED = {**ABOVE, "control": {"variant": "ctl", "must_be": "lower"}}


def test_a_claim_is_judged_with_the_interval_of_its_look(handmade) -> None:
    found = handmade.judge(handmade.paper(ABOVE, seeds=SEEDS), a=A, b=B)
    gaps = [100 * (a - b) for a, b in zip(A, B, strict=True)]
    level = 1 - 0.05 * math.log1p((math.e - 1) / 8)
    low, high = stats.ttest_1samp(gaps, 0).confidence_interval(level)
    assert (found.ci_low, found.ci_high) == (pytest.approx(low), pytest.approx(high))
    assert (found.verdict, found.look, found.n, found.undecided) == ("reproduced", 5, 5, False)
    nominal = stats.ttest_1samp(gaps, 0, alternative="greater").pvalue
    assert found.p == pytest.approx(nominal / share(FIVE_TO_FORTY, 5), rel=1e-3)
    assert [(seen.seeds, seen.ci_low) for seen in found.path] == [(5, found.ci_low)]


def test_seeds_between_looks_are_not_peeked_at(handmade) -> None:
    spec = handmade.paper(ABOVE, seeds=SEEDS)
    at_five = handmade.judge(spec, a=NOISY, b=[0.0] * 5)
    assert (at_five.verdict, at_five.undecided, at_five.look) == ("inconclusive", True, 5)
    at_nine = handmade.judge(spec, a=[*NOISY, *[9.0] * 4], b=[0.0] * 9)
    assert at_nine.look == 5
    assert (at_nine.measured, at_nine.ci_low) == (at_five.measured, at_five.ci_low)
    assert "judged at the look of 5 seeds" in at_nine.reason
    at_ten = handmade.judge(spec, a=[*NOISY, *NOISY], b=[0.0] * 10)
    assert (at_ten.look, at_ten.n) == (10, 10)
    assert at_ten.path[0] == at_five.path[0]


def test_the_side_with_fewer_seeds_decides_the_look(handmade) -> None:
    spec = handmade.paper(CONTROLLED, seeds=SEEDS)
    found = handmade.judge(spec, a=A * 2, b=B * 2, ctl=[0.1, 0.2, 0.1, 0.2, 0.1])
    assert (found.look, found.n, found.verdict) == (5, 5, "reproduced")
    found = handmade.judge(spec, a=A * 2, b=B * 2)
    assert (found.verdict, found.look) == ("inconclusive", 10)
    assert "the control was not measured" in found.reason


def test_before_the_first_look_nothing_is_said(handmade) -> None:
    found = handmade.judge(handmade.paper(ABOVE, seeds=SEEDS), a=A[:3], b=B[:3])
    assert (found.verdict, found.measured, found.undecided) == ("inconclusive", None, True)
    assert found.reason == "3 seeds; the first look is at 5"


def test_a_seed_that_failed_was_tried(handmade) -> None:
    spec = handmade.paper({**VALUE, "criterion": {"at_least": 95}}, seeds=SEEDS)
    *done, last = handmade.records(spec, a=A)
    failed = last.model_copy(update={"status": "failed", "metrics": {}})
    found = handmade.judge(spec, [*done, failed])
    assert (found.look, found.n, found.failed) == (5, 4, 1)
    later = failed.model_copy(update={"seed": 5})
    assert handmade.judge(spec, [*done, last, later]).failed == 0, "it failed beyond the look"


def test_a_deterministic_side_needs_no_further_seed(handmade) -> None:
    spec = handmade.paper(ABOVE, exact=["b"], seeds=SEEDS)
    found = handmade.judge(spec, a=A * 2, b=[Measured(value=0.5, exact=True)])
    assert (found.look, found.n) == (10, 10)


@pytest.mark.parametrize(
    ("a", "undecided"),
    [
        (NOISY * 2, True),  # reaches across
        (A * 2, False),  # reproduced
        ([-x for x in A * 2], False),  # not reproduced
        ([-0.1, 0.1, 0.3, 0.0, -0.3] * 8, False),  # reaches across, and no look is left
    ],
)
def test_more_seeds_are_wanted_only_where_they_can_decide(handmade, a, undecided) -> None:
    spec = handmade.paper(ABOVE, seeds=SEEDS)
    found = handmade.judge(spec, a=a, b=[0.2, -0.2] * (len(a) // 2))
    assert found.undecided is undecided, found.reason


def test_a_missed_figure_of_a_reduced_protocol_wants_no_more_seeds(handmade) -> None:
    claim = {**VALUE, "criterion": {"at_least": 99}}
    spec = handmade.paper(claim, seeds=SEEDS, protocol="reduced")
    for accuracies in (A, [1.0, 0.98, 1.0, 0.99, 0.98]):  # a clear miss, and one that is not
        found = handmade.judge(spec, a=accuracies)
        assert (found.verdict, found.undecided) == ("inconclusive", False)


def test_a_control_that_clearly_misbehaves_wants_no_more_seeds(handmade) -> None:
    spec = handmade.paper(CONTROLLED, seeds=SEEDS)
    unclear = handmade.judge(spec, a=A, b=B, ctl=[0.5, 1.3, 0.6, 1.2, 0.7])
    wrong = handmade.judge(spec, a=A, b=B, ctl=[1.4, 1.5, 1.4, 1.5, 1.4])
    assert (unclear.verdict, unclear.undecided) == ("inconclusive", True)
    assert (wrong.verdict, wrong.undecided) == ("inconclusive", False)


def test_a_control_whose_runs_do_not_vary_wants_more_seeds(handmade) -> None:
    """Six runs of six are no majority at the first look, neither of the effect nor its control."""
    spec = handmade.paper(CONTROLLED, seeds=SIX)
    a = [0.90, 0.91, 0.92, 0.90, 0.91, 0.92]
    found = handmade.judge(spec, a=a, b=[0.5] * 6, ctl=[x - 0.8 for x in a])
    assert (found.verdict, found.undecided) == ("inconclusive", True)


def test_seeds_added_by_hand_are_said(handmade) -> None:
    found = handmade.judge(handmade.paper(ABOVE), a=A * 2, b=B * 2)
    assert (found.look, found.path, found.n) == (None, (), 10)
    assert found.reason.endswith(
        "seeds were added by hand, which the interval does not account for: a, b"
    )
    assert "by hand" not in handmade.judge(handmade.paper(ABOVE), a=A, b=B).reason


def test_an_override_with_a_number_of_seeds_is_not_looked_at_again(handmade) -> None:
    fixed = [{"when": {"variant": "b"}, "seeds": 5}]
    found = handmade.judge(handmade.paper(ABOVE, seeds=SEEDS, overrides=fixed), a=A * 2, b=B)
    assert (found.look, found.n, found.undecided) == (None, 5, False)


def test_an_exact_claim_has_no_error(handmade) -> None:
    claim = {**VALUE, "criterion": {"at_least": 40}}
    exact = [Measured(value=0.5, exact=True)]
    found = handmade.judge(handmade.paper(claim, exact=["a"], seeds=SEEDS), a=exact)
    assert (found.verdict, found.p, found.look) == ("reproduced", None, None)


def test_shares_and_medians_are_as_sure_at_a_look_as_means(handmade) -> None:
    spread = [0.90, 0.91, 0.92, 0.93, 0.94, 0.95]
    level = confidence(Schedule(**SIX), 6, 0.95)
    share = {"value": "acc", "of": "a", "on": "paper-set", "over_seeds": {"share_above": 92.5}}
    claim = {"quantity": share, "criterion": {"at_least": 0.1}}
    found = handmade.judge(handmade.paper(claim, seeds=SIX), a=spread)
    expected = stats.binomtest(3, 6).proportion_ci(level)
    assert (found.ci_low, found.ci_high) == pytest.approx((expected.low, expected.high))
    claim = {"quantity": {**share, "over_seeds": "median"}, "criterion": {"at_least": 80}}
    assert handmade.judge(handmade.paper(claim, seeds=6), a=spread).ci_low == pytest.approx(90)
    assert handmade.judge(handmade.paper(claim, seeds=SIX), a=spread).ci_low is None


def test_runs_that_do_not_vary_are_as_sure_at_a_look(handmade) -> None:
    claim = {**VALUE, "criterion": {"at_least": 80}}
    fixed = handmade.judge(handmade.paper(claim, seeds=6), a=[0.9] * 6)
    assert (fixed.verdict, fixed.p) == ("reproduced", pytest.approx(0.5**6, rel=1e-3))
    looked = handmade.judge(handmade.paper(claim, seeds=SIX), a=[0.9] * 6)
    assert (looked.verdict, looked.undecided) == ("inconclusive", True), "six of six at 99 %"
