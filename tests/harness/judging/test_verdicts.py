"""Quantities, criteria, evidence and what is missing, from hand-made records."""

from __future__ import annotations

import copy
import math

import pytest
from scipy import stats

from harness.judging.criteria import accepted, describe_criterion
from harness.judging.quantities import fit_slope, rank_correlation
from harness.judging.verdicts import judge
from harness.records import Measured, Series
from harness.specs import catalog
from harness.specs.claims import Claim

VALUE = {"quantity": {"value": "acc", "of": "a", "on": "paper-set"}}
GAP = {"quantity": {"difference": "acc", "of": "a", "from": "b", "on": "paper-set"}}
A = [0.90, 0.91, 0.92, 0.90, 0.91]
B = [0.85, 0.86, 0.88, 0.84, 0.85]


@pytest.mark.parametrize(
    ("criterion", "verdict"),
    [
        ({"within": 2}, "reproduced"),
        ({"within": 0.5}, "inconclusive"),
        ({"within_percent": 2.5}, "reproduced"),
        ({"at_least": 89}, "reproduced"),
        ({"greater_than": 95}, "not reproduced"),
        ({"at_most": 85}, "not reproduced"),
        ({"less_than": 91}, "inconclusive"),
        ({"between": [89, 93]}, "reproduced"),
    ],
)
def test_an_interval_is_held_against_the_criterion(made, criterion, verdict) -> None:
    spec = made.paper({**VALUE, "criterion": criterion})
    found = made.judged(spec, "full", a=A)
    assert (found.verdict, found.evidence, found.n) == (verdict, "paper", 5)
    low, high = stats.ttest_1samp([100 * x for x in A], 0).confidence_interval()
    assert (found.ci_low, found.ci_high) == (pytest.approx(low), pytest.approx(high))
    assert found.unit == "%"


def test_a_missed_figure_under_a_reduced_protocol_is_inconclusive(made) -> None:
    spec = made.paper({**VALUE, "criterion": {"at_most": 80}})
    assert made.judged(spec, "full", a=A).verdict == "not reproduced"
    reduced = made.judged(spec, "cpu", a=A)
    assert (reduced.verdict, reduced.evidence) == ("inconclusive", "reduced")
    assert "reduced" in reduced.reason


def test_a_figure_on_stand_in_data_is_shown_and_not_compared(made) -> None:
    spec = made.paper({**VALUE, "criterion": {"within": 50}})
    found = made.one(spec, "full", made.table(spec, "full", "proxy", a=A))
    assert (found.verdict, found.evidence) == ("not comparable", "stand-in")
    assert found.measured == pytest.approx(90.8)


def test_an_ordering_on_stand_in_data_is_judged(made) -> None:
    spec = made.paper({**GAP, "criterion": {"greater_than": 0}})
    found = made.one(spec, "full", made.table(spec, "full", "proxy", a=A, b=B))
    assert (found.verdict, found.evidence, found.unit) == ("reproduced", "stand-in", "points")
    worse = made.one(spec, "full", made.table(spec, "full", "proxy", a=B, b=A))
    assert worse.verdict == "not reproduced"


def test_differences_are_paired_by_seed(made) -> None:
    spec = made.paper({**GAP, "criterion": {"greater_than": 0}})
    near = [x - 0.01 - 1e-5 * i for i, x in enumerate(A)]
    found = made.judged(spec, "full", a=A, b=near)
    assert found.ci_high - found.ci_low < 0.01, "the seeds' common spread cancels"
    short = made.judged(spec, "full", a=A, b=B[:3])
    assert short.n == 3


def test_an_exact_side_is_compared_with_every_seed(made) -> None:
    spec = made.paper({**GAP, "criterion": {"greater_than": 0}})
    records = made.table(spec, "full", "paper-set", a=A)
    bound = Measured(value=0.9, exact=True)
    records.append(made.record(spec, "full", "b", "paper-set", 0, {"acc": bound}))
    found = made.one(spec, "full", records)
    assert found.n == 5 and found.measured == pytest.approx(0.8)


def test_a_single_seed_never_convinces(made) -> None:
    spec = made.paper({**GAP, "criterion": {"greater_than": 0}})
    found = made.judged(spec, "full", a=A[:1], b=B[:1])
    assert found.verdict == "inconclusive" and "single seed" in found.reason


@pytest.mark.parametrize(
    ("control", "verdict"),
    [
        ([0.5, 0.51, 0.52, 0.5, 0.49], "reproduced"),
        ([0.91, 0.90, 0.92, 0.91, 0.90], "inconclusive"),
        ([0.95, 0.95, 0.95, 0.96, 0.96], "inconclusive"),
        ([], "inconclusive"),
    ],
)
def test_a_control_that_does_not_behave_spoils_the_claim(made, control, verdict) -> None:
    spec = made.paper(
        {
            **GAP,
            "criterion": {"greater_than": 0},
            "control": {"variant": "ctl", "must_be": "lower", "by": 5},
        }
    )
    found = made.judged(spec, "full", a=A, b=B, ctl=control)
    assert found.verdict == verdict
    assert "control" in found.control


def test_a_good_control_does_not_save_a_claim(made) -> None:
    spec = made.paper(
        {
            **GAP,
            "criterion": {"greater_than": 0},
            "control": {"variant": "ctl", "must_be": "lower"},
        }
    )
    records = made.table(spec, "full", "paper-set", a=B, b=A, ctl=[0.1] * 5)
    assert made.one(spec, "full", records).verdict == "not reproduced"


def test_no_effect_within_a_margin(made) -> None:
    spec = made.paper({**GAP, "criterion": {"equivalent": 1}})
    same = made.table(spec, "full", "paper-set", a=A, b=[x - 1e-4 * i for i, x in enumerate(A)])
    assert made.one(spec, "full", same).verdict == "reproduced"
    other = made.table(spec, "full", "paper-set", a=A, b=B)
    assert made.one(spec, "full", other).verdict == "not reproduced"


def test_ratio_and_relative_change(made) -> None:
    quantity = {"ratio": "acc", "of": "a", "to": "b", "on": "paper-set"}
    spec = made.paper({"quantity": quantity, "criterion": {"at_least": 1.05}})
    found = made.judged(spec, "full", a=[0.9, 0.8], b=[0.45, 0.4])
    assert (found.measured, found.unit) == (pytest.approx(2.0), "×")
    quantity = {"relative_change": "acc", "of": "a", "from": "b", "on": "paper-set"}
    spec = made.paper({"quantity": quantity, "criterion": {"at_least": 90}})
    found = made.judged(spec, "full", a=[0.9, 0.8], b=[0.45, 0.4])
    assert (found.measured, found.unit) == (pytest.approx(100.0), "%")


def test_a_fitted_exponent_is_recovered(made) -> None:
    xs = [1.0, 2, 4, 8, 16]
    spec = made.paper(
        {
            "quantity": {"slope": "curve", "of": "a", "on": "paper-set"},
            "criterion": {"between": [-0.6, -0.4]},
        }
    )
    records = [
        made.record(
            spec,
            "full",
            "a",
            "paper-set",
            seed,
            series={"curve": Series(over="width", x=xs, y=[k * x ** (k / 100 - 0.52) for x in xs])},
        )
        for seed, k in enumerate((1.0, 2.0, 3.0))
    ]
    found = made.one(spec, "full", records)
    assert found.measured == pytest.approx(-0.5) and found.verdict == "reproduced"


def test_a_single_fit_brings_its_own_error_where_nothing_else_varies(made) -> None:
    """Of a deterministic variant: Student's t with points − 2. A trained one has other seeds."""
    xs, ys = [1.0, 2, 4, 8], [1.0, 0.8, 0.45, 0.38]
    claim = {
        "quantity": {"slope": "curve", "of": "a", "on": "paper-set"},
        "criterion": {"less_than": 0},
    }
    series = {"curve": Series(over="n", x=xs, y=ys)}
    exact = {**made.BASE["variants"], "a": {"label": "a", "role": "paper", "deterministic": True}}
    spec = made.paper(claim, variants=exact)
    found = made.one(spec, "full", [made.record(spec, "full", "a", "paper-set", 0, series=series)])
    line = stats.linregress([math.log(x) for x in xs], [math.log(y) for y in ys])
    end = line.slope + stats.t.ppf(0.975, 2) * line.stderr
    assert found.ci_high == pytest.approx(end) and found.verdict == "reproduced"
    trained = made.paper(claim)
    alone = made.one(
        trained, "full", [made.record(trained, "full", "a", "paper-set", 0, series=series)]
    )
    assert (alone.ci_high, alone.verdict) == (None, "inconclusive")


def test_a_slope_is_that_of_the_shown_figures(made) -> None:
    """A series in % that rises from 10 to 30 over two steps has slope 10, not 0.1."""
    quantity = {"slope": "acc", "of": "a", "on": "paper-set", "axes": "linear"}
    spec = made.paper({"quantity": quantity, "criterion": {"at_least": 9}})
    series = {"acc": Series(over="n", x=[1.0, 2, 3], y=[0.1, 0.2, 0.3])}
    found = made.one(spec, "full", [made.record(spec, "full", "a", "paper-set", 0, series=series)])
    assert found.measured == pytest.approx(10)


@pytest.mark.parametrize("ys", [[3.0, 1, 4, 1, 5, 9], [1.0, 1, 1, 2, 2, 3], [6.0, 5, 4, 3, 2, 1]])
def test_slopes_and_rank_correlations_are_scipys(ys) -> None:
    series = Series(over="n", x=[1.0, 2, 3, 5, 5, 8], y=ys)
    line = stats.linregress(series.x, ys)
    found = fit_slope(series, "linear")
    assert (found.value, found.stderr) == (pytest.approx(line.slope), pytest.approx(line.stderr))
    expected = stats.spearmanr(series.x, ys).statistic
    assert rank_correlation(series).value == pytest.approx(expected)


def test_a_constant_series_has_no_slope() -> None:
    series = Series(over="n", x=[1.0, 2, 3], y=[0.5, 0.5, 0.5])
    assert fit_slope(series) == Measured(value=0.0)


def test_monotonic_series(made) -> None:
    spec = made.paper(
        {
            "quantity": {"monotonic": "curve", "of": "a", "on": "paper-set"},
            "criterion": {"at_least": 0.9},
        }
    )
    series = {"curve": Series(over="n", x=[1, 2, 3, 4], y=[1, 2, 3, 9])}
    records = [made.record(spec, "full", "a", "paper-set", s, series=series) for s in (0, 1)]
    assert made.one(spec, "full", records).measured == 1.0


def test_shares_of_runs_are_compared(made) -> None:
    quantity = {**GAP["quantity"], "over_seeds": {"share_above": 80}}
    spec = made.paper({"quantity": quantity, "criterion": {"greater_than": 0}})
    found = made.judged(spec, "full", a=[0.9] * 12, b=[0.1] * 12)
    assert found.measured == 1.0 and found.verdict == "reproduced"


def test_the_best_of_n_runs_is_judged_by_its_interval(made) -> None:
    quantity = {**VALUE["quantity"], "over_seeds": "best"}
    spec = made.paper({"quantity": quantity, "criterion": {"at_least": 90}})
    found = made.judged(spec, "full", a=A)
    assert (found.measured, found.ci_low, found.ci_high) == (92.0, 91.0, None)
    assert found.verdict == "reproduced" and "best of 5 runs" in found.reason
    spec = made.paper({"quantity": quantity, "criterion": {"within": 3}})
    found = made.judged(spec, "full", a=A)
    assert found.verdict == "inconclusive", "how good the best of 5 can be is not known"


def test_best_is_compared_with_the_best_of_as_many(made) -> None:
    quantity = {**GAP["quantity"], "over_seeds": "best"}
    spec = made.paper({"quantity": quantity, "criterion": {"greater_than": 0}})
    unequal = made.judged(spec, "full", a=A, b=B[:3])
    assert unequal.verdict == "inconclusive"
    assert "best of 5 runs against best of 3" in unequal.reason


def test_folds_are_averaged_and_incomplete_seeds_left_out(made) -> None:
    datasets = copy.deepcopy(made.BASE["datasets"])
    datasets["paper-set"]["folds"] = {"split": [1, 2]}
    spec = made.paper({**VALUE, "criterion": {"within": 3}}, datasets=datasets)
    rows = [(0, 1, 0.8), (0, 2, 1.0), (1, 1, 0.9), (1, 2, 0.92), (2, 1, 0.1)]
    records = [
        made.record(spec, "full", "a", "paper-set", seed, {"acc": value}, fold={"split": split})
        for seed, split, value in rows
    ]
    found = made.one(spec, "full", records)
    assert found.n == 2 and found.measured == pytest.approx(90.5)


def test_folds_that_share_training_examples_count_one_by_one(made) -> None:
    """Two seeds of three overlapping splits: six figures, and the corrected resampled t."""
    datasets = copy.deepcopy(made.BASE["datasets"])
    datasets["paper-set"] |= {"folds": {"split": [1, 2, 3]}, "test_over_train": 0.5}
    spec = made.paper({**GAP, "criterion": {"greater_than": 0}}, datasets=datasets)
    gaps = [0.05, 0.07, 0.04, 0.06, 0.05, 0.08]
    records = [
        made.record(
            spec, "full", variant, "paper-set", i // 3, {"acc": acc}, fold={"split": i % 3 + 1}
        )
        for i, gap in enumerate(gaps)
        for variant, acc in (("a", 0.5 + i / 10 + gap), ("b", 0.5 + i / 10))
    ]
    found = made.one(spec, "full", records)
    half = stats.t.ppf(0.975, 5) * stats.tstd(gaps) * math.sqrt(1 / 6 + 0.5) * 100
    assert (found.n, found.ci_high - found.measured) == (6, pytest.approx(half))


def test_the_errors_of_two_pooled_figures_add_with_welchs_degrees_of_freedom(made) -> None:
    spec = made.paper({**GAP, "criterion": {"greater_than": 0}})
    a, b = Measured(value=0.9, stderr=0.03, df=9), Measured(value=0.5, stderr=0.04, df=15)
    records = [
        made.record(spec, "full", variant, "paper-set", 0, {"acc": acc})
        for variant, acc in (("a", a), ("b", b))
    ]
    found = made.one(spec, "full", records)
    df = 0.05**4 / (0.03**4 / 9 + 0.04**4 / 15)
    assert found.ci_high == pytest.approx(40 + stats.t.ppf(0.975, df) * 5)
    unknown = made.record(spec, "full", "b", "paper-set", 0, {"acc": 0.5})
    alone = made.one(spec, "full", [records[0], unknown])
    assert alone.ci_high is None, "the error of one side says nothing of the other's"


def test_a_claim_on_two_datasets_has_a_row_for_each_measured_one(made) -> None:
    claim = {**VALUE, "criterion": {"within": 3}}
    claim["quantity"] = {**VALUE["quantity"], "on": ["paper-set", "other-set"]}
    spec = made.paper(claim)
    both = made.table(spec, "full", "paper-set", a=A) + made.table(spec, "full", "proxy", a=B)
    assert [v.dataset for v in judge(spec, "full", both)] == ["paper-set", "proxy"]


def test_across_datasets_the_mean_is_judged_with_the_weakest_evidence(made) -> None:
    claim = {**GAP, "criterion": {"greater_than": 0}}
    claim["quantity"] = {**GAP["quantity"], "on": ["paper-set", "other-set"], "across": "mean"}
    spec = made.paper(claim)
    records = made.table(spec, "full", "paper-set", a=A, b=B)
    records += made.table(spec, "full", "proxy", a=[x + 0.02 for x in A], b=B)
    found = made.one(spec, "full", records)
    expected = 100 * (sum(A) - sum(B)) / 5 + 1
    assert found.measured == pytest.approx(expected)
    assert (found.dataset, found.evidence) == ("paper-set + proxy", "stand-in")


def test_what_is_missing_is_said(made) -> None:
    spec = made.paper({**GAP, "criterion": {"greater_than": 0}})
    nothing = made.one(spec, "full", [])
    assert (nothing.verdict, nothing.evidence) == ("not run", None)
    half = made.judged(spec, "full", a=A)
    assert half.reason == "no trial of b on paper-set"
    no_metric = [made.record(spec, "full", v, "paper-set", 0, {"loss": 1.0}) for v in "ab"]
    assert "does not report acc" in made.one(spec, "full", no_metric).reason


def test_records_of_another_spec_do_not_count(made) -> None:
    spec = made.paper({**VALUE, "criterion": {"within": 3}})
    old = made.table(spec, "full", "paper-set", a=A)
    changed = made.paper(
        {**VALUE, "criterion": {"within": 3}},
        procedure={"class_path": "experiments.toy.parts.Behave", "init_args": {"level": 9.0}},
    )
    assert made.one(changed, "full", old).verdict == "not run"


def test_stale_records_are_marked(made) -> None:
    spec = made.paper({**VALUE, "criterion": {"within": 3}})
    records = made.table(spec, "full", "paper-set", a=A)
    assert not made.one(spec, "full", records).stale
    other = records[0].provenance.model_copy(update={"code": "0" * 16})
    records[0] = records[0].model_copy(update={"provenance": other})
    assert made.one(spec, "full", records).stale


def test_the_criterion_never_moves_with_the_data(made) -> None:
    """A claim's acceptance region is a function of the spec alone."""
    claim = catalog.load("toy").claims[0]
    assert isinstance(claim, Claim)
    assert accepted(claim) == (0.0, math.inf)


@pytest.mark.parametrize(
    ("criterion", "words"),
    [
        ({"within": 0}, "within 0 of 1040902"),
        ({"within_percent": 0.1}, "within 0.1 % of 1040902"),
        ({"between": (1234567.5, 22478162)}, "between 1234567.5 and 22478162"),
        ({"at_least": 1.98305826}, "at least 1.98305826"),
        ({"less_than": 1e-7}, "less than 1e-07"),
    ],
)
def test_numbers_in_a_criterion_keep_their_digits(criterion, words) -> None:
    claim = {
        "id": "a",
        "statement": "It has that many.",
        "quantity": {"value": "m", "of": "x", "on": "d"},
        "criterion": criterion,
        "reported": {"value": 1040902},
        "source": {"where": "Table 1", "seen_in": "arXiv"},
    }
    assert describe_criterion(Claim.model_validate(claim)) == words
