"""Controls in the operand's place, null models, operands, sizes and survivors."""

from __future__ import annotations

import numpy as np
import pytest

from harness.judging.effects import relative_size, removed
from harness.judging.statistics import Estimate
from harness.records import Measured

VALUE = {"quantity": {"value": "acc", "of": "a", "on": "paper-set"}}
GAP = {
    "quantity": {"difference": "acc", "of": "a", "from": "b", "on": "paper-set"},
    "criterion": {"greater_than": 0},
}
CONTROL = {"variant": "ctl", "must_be": "lower", "without": "order"}
A = [0.90, 0.91, 0.92, 0.90, 0.91]
B = [0.50, 0.51, 0.53, 0.49, 0.50]
WEAKER = [0.80, 0.82, 0.81, 0.80, 0.83]  # clearly below A, and far above B
AT_B = [0.50, 0.52, 0.51, 0.50, 0.49]


def test_an_ordering_says_how_much_of_the_effect_survives_its_control(made) -> None:
    spec = made.paper({**GAP, "control": CONTROL, "reported": {"text": "better"}})
    found = made.judged(spec, "full", a=A, b=B, ctl=WEAKER)
    assert found.verdict == "reproduced"
    assert "the effect survives: 30.6 of 40.2 points without order (24 % removed" in found.control
    assert found.effect_left == pytest.approx(30.6)
    assert found.removed == pytest.approx(1 - 30.6 / 40.2)
    assert found.removed_low < found.removed < found.removed_high


def test_a_claim_about_a_mechanism_needs_its_criterion_to_fail_without_it(made) -> None:
    spec = made.paper({**GAP, "control": CONTROL, "mechanism": True})
    survives = made.judged(spec, "full", a=A, b=B, ctl=WEAKER)
    assert survives.verdict == "inconclusive"
    assert "still met with ctl" in survives.reason
    gone = made.judged(spec, "full", a=A, b=B, ctl=AT_B)
    assert gone.verdict == "reproduced" and "what is left of the effect" in gone.control
    assert gone.removed_low < 1 < gone.removed_high


def test_an_effect_that_turns_round_is_said_to_be_reversed(made) -> None:
    spec = made.paper({**GAP, "control": CONTROL, "mechanism": True})
    found = made.judged(spec, "full", a=A, b=B, ctl=[0.1, 0.12, 0.11, 0.09, 0.1])
    assert found.verdict == "reproduced"
    assert "the effect is reversed without order: -40.2 instead of 40.2 points" in found.control


def test_the_control_replaces_the_operand_on_both_sides(made) -> None:
    """Of a difference between two metrics of one variant, the control brings both."""
    claim = {
        **GAP,
        "quantity": {
            "difference": "acc",
            "of": "a",
            "from": {"variant": "a", "metric": "loss"},
            "on": "paper-set",
        },
        "control": CONTROL,
    }
    spec = made.paper(claim)
    rows = [
        made.record(spec, "full", name, "paper-set", seed, {"acc": acc, "loss": loss})
        for name, accs, loss in (("a", A, 1.0), ("ctl", WEAKER, 79.0))
        for seed, acc in enumerate(accs)
    ]
    assert made.one(spec, "full", rows).effect_left == pytest.approx(81.2 - 79.0)


@pytest.mark.parametrize(
    ("null", "verdict", "word"),
    [
        (WEAKER, "inconclusive", "is met by the null model ctl"),
        ([0.1, 0.12, 0.11, 0.1, 0.11], "reproduced", ""),
        (AT_B, "reproduced", ""),  # no effect reaches across 0, and is clearly another one
        ([0.9, 0.2, 0.5, 0.8, 0.1], "inconclusive", "does not clearly fail"),
        ([0.5], "inconclusive", "does not clearly fail"),
        ([], "inconclusive", "was not measured"),
    ],
)
def test_the_criterion_must_fail_on_null_models(made, null, verdict, word) -> None:
    spec = made.paper({**GAP, "null": ["ctl"], "reported": {"text": "better"}})
    found = made.judged(spec, "full", a=A, b=B, ctl=null)
    assert (found.verdict, word in found.reason) == (verdict, True)


@pytest.mark.parametrize(
    ("reported", "direction_only"),
    [(40.2, False), (81, True), (80, False), (20.2, False), (20.0, True), (-40.2, True)],
)
def test_an_effect_of_another_size_is_direction_only(made, reported, direction_only) -> None:
    spec = made.paper({**GAP, "reported": {"value": reported, "unit": "points"}})
    found = made.judged(spec, "full", a=A, b=B)
    assert found.verdict == "reproduced" and found.direction_only is direction_only
    assert found.size == pytest.approx(40.2 / reported)
    assert min(found.size_low, found.size_high) < found.size < max(found.size_low, found.size_high)
    assert found.size_low < found.size_high


def test_figures_in_other_units_are_not_divided(made) -> None:
    spec = made.paper({**GAP, "reported": {"value": 2, "unit": "nats"}})
    found = made.judged(spec, "full", a=A, b=B)
    assert (found.size, found.direction_only) == (None, False)


def test_the_size_of_a_ratio_is_counted_from_one() -> None:
    found = relative_size(Estimate(1.1, 1.05, 1.15, 5), 3.0, 1.0)
    assert found is not None
    assert (found.value, found.low, found.high) == (
        pytest.approx(0.05),
        pytest.approx(0.025),
        pytest.approx(0.075),
    )
    assert relative_size(Estimate(1.1, None, None, 5), 1.0, 1.0) is None


def test_only_an_ordering_that_held_has_a_direction(made) -> None:
    figure = {"value": 10.0, "unit": "points"}
    absolute = made.paper({**GAP, "criterion": {"within": 100}, "reported": figure})
    found = made.judged(absolute, "full", a=A, b=B)
    assert (found.verdict, found.direction_only) == ("reproduced", False)
    lost = made.judged(made.paper({**GAP, "reported": figure}), "full", a=B, b=A)
    assert (lost.verdict, lost.direction_only) == ("not reproduced", False)


def test_null_models_and_controls_that_do_not_vary_are_counted(made) -> None:
    spec = made.paper({**VALUE, "criterion": {"at_least": 85}, "null": ["ctl"]})
    found = made.judged(spec, "full", a=A, ctl=[0.9] * 5)
    assert "is met by the null model ctl" in found.reason
    assert made.judged(spec, "full", a=A, ctl=[0.1] * 5).verdict == "reproduced"
    spec = made.paper({**GAP, "control": CONTROL})
    for n, verdict in ((5, "inconclusive"), (6, "reproduced")):
        runs = [*A, 0.93][:n]
        lower = [x - 0.1 for x in runs]
        found = made.judged(spec, "full", a=runs, b=[*B, 0.52][:n], ctl=lower)
        assert (found.verdict, "no spread" in found.control) == (verdict, True)


def with_figure(made, tier, reported, a, b, within=1.0, **quantity):
    """The verdict on a − b, where another claim says what ``b`` reaches."""
    figure = {
        "id": "figure",
        "statement": "b reaches it",
        "quantity": {"value": "acc", "of": "b", "on": "paper-set", **quantity},
        "criterion": {"within": within},
        "reported": {"value": reported, "unit": "%"},
        "source": {"where": "T1", "seen_in": "arXiv"},
    }
    spec = made.paper({**GAP, "reported": {"text": "better"}})
    claim = type(spec.claims[0]).model_validate(figure)
    spec = spec.model_copy(update={"claims": [*spec.claims, claim]})
    rows = [
        made.record(spec, tier, variant, "paper-set", seed, {"acc": acc, "loss": 0.5 + acc})
        for variant, values in (("a", a), ("b", b))
        for seed, acc in enumerate(values)
    ]
    return made.judge(spec, tier, rows)[0]


@pytest.mark.parametrize(
    ("tier", "reported", "verdict"),
    [
        ("full", 50.6, "reproduced"),
        ("full", 88.0, "inconclusive"),
        ("full", 54.0, "inconclusive"),  # the paper's protocol: any clear miss
        ("cpu", 88.0, "inconclusive"),  # the miss may be the whole difference
        ("cpu", 54.0, "reproduced"),  # a reduced protocol shifts all figures
    ],
)
def test_no_operand_may_miss_its_own_figure(made, tier, reported, verdict) -> None:
    within = 3.0 if reported == 50.6 else 1.0
    found = with_figure(made, tier, reported, A, B, within)
    assert found.verdict == verdict
    assert ("misses its own figure" in found.reason) is (verdict == "inconclusive")


def test_a_best_of_runs_whose_upper_end_is_open_can_miss(made) -> None:
    found = with_figure(made, "cpu", 88.0, A, B, over_seeds="best")
    assert found.verdict == "inconclusive" and "misses its own figure" in found.reason


def test_figures_in_another_unit_are_not_an_operands_own(made) -> None:
    quantity = {"value": "loss", "of": "b", "on": "paper-set"}
    assert with_figure(made, "full", 88.0, A, B, **quantity).verdict == "reproduced"


def test_seeds_that_failed_stand_in_n_and_leave_no_mean(made) -> None:
    spec = made.paper({**GAP, "reported": {"text": "better"}})
    rows = made.table(spec, "full", "paper-set", a=A, b=B)
    rows += [made.record(spec, "full", "a", "paper-set", s, status="failed") for s in (5, 6, 7)]
    found = made.one(spec, "full", rows)
    assert (found.verdict, found.n, found.failed) == ("inconclusive", 5, 3)
    assert found.reason.startswith("3 of 8 seeds failed")
    rows += [made.record(spec, "full", "a", "paper-set", s, {"acc": 0.9}) for s in (5, 6, 7)]
    assert made.one(spec, "full", rows).failed == 0, "they were run again and are done"


def test_failed_seeds_count_in_shares(made) -> None:
    quantity = {**VALUE["quantity"], "over_seeds": {"share_above": 80}}
    claim = {"quantity": quantity, "criterion": {"at_least": 0.3}, "reported": {"text": "most"}}
    spec = made.paper(claim)
    rows = made.table(spec, "full", "paper-set", a=[0.9] * 12)
    rows += [made.record(spec, "full", "a", "paper-set", s, status="failed") for s in range(12, 16)]
    found = made.one(spec, "full", rows)
    assert (found.measured, found.failed) == (0.75, 4)
    assert found.verdict == "reproduced"


def test_a_share_of_runs_that_all_failed_is_none(made) -> None:
    quantity = {**VALUE["quantity"], "over_seeds": {"share_above": 80}}
    spec = made.paper({"quantity": quantity, "criterion": {"at_least": 0.6}})
    rows = [made.record(spec, "full", "a", "paper-set", s, status="failed") for s in range(8)]
    found = made.one(spec, "full", rows)
    assert (found.verdict, found.measured, found.failed) == ("not reproduced", 0.0, 8)


def test_what_cannot_be_compared_has_no_size(made) -> None:
    spec = made.paper({**VALUE, "criterion": {"within": 50}})
    found = made.one(spec, "full", made.table(spec, "full", "proxy", a=A))
    assert (found.verdict, found.size) == ("not comparable", None)


@pytest.mark.parametrize(
    ("runs", "verdict", "met"),
    [
        ([1.0] * 6, "reproduced", 6),
        ([1.0] * 5, "inconclusive", 5),  # 5 of 5 may be half of all
        ([0.5] * 6, "not reproduced", 0),
        ([0.5, 0.5] + [1.0] * 8, "inconclusive", 8),
        # Most runs meet it, and the mean does not: that is no verdict either.
        ([0.1, 0.11] + [1.0] * 12, "inconclusive", 12),
    ],
)
def test_outcomes_that_do_not_vary_or_have_two_peaks_are_counted(made, runs, verdict, met) -> None:
    spec = made.paper({**VALUE, "criterion": {"at_least": 99}})
    found = made.judged(spec, "full", a=runs)
    assert (found.verdict, found.runs_met, found.ci_low) == (verdict, met, None)
    assert 0 <= found.share_low < found.share_high <= 1
    assert f"{met} of {len(runs)} runs meet" in found.reason


def test_runs_that_failed_did_not_meet_it(made) -> None:
    spec = made.paper({**VALUE, "criterion": {"at_least": 99}})
    rows = made.table(spec, "full", "paper-set", a=[1.0] * 6)
    rows += [made.record(spec, "full", "a", "paper-set", s, status="timed out") for s in (6, 7)]
    found = made.one(spec, "full", rows)
    assert (found.verdict, found.runs_met) == ("inconclusive", 6)
    assert "6 of 8 runs meet" in found.reason


def test_absolute_figures_at_a_reduced_protocol_are_met_or_missed(made) -> None:
    for least, reached in ((80, "met"), (95, "missed")):
        spec = made.paper({**VALUE, "criterion": {"at_least": least}})
        found = made.judged(spec, "cpu", a=A)
        assert (found.verdict, found.at_reduced) == ("inconclusive", reached)
        assert f"{reached} at reduced protocol" in found.reason
    full = made.judged(spec, "full", a=A)
    assert (full.verdict, full.at_reduced) == ("not reproduced", "")


def test_no_verdict_without_an_interval(made) -> None:
    spec = made.paper({**VALUE, "criterion": {"at_least": 1}})
    one = made.judged(spec, "full", a=A[:1])
    assert (one.verdict, one.ci_low) == ("inconclusive", None)
    own = [made.record(spec, "full", "a", "paper-set", 0, {"acc": Measured(value=1, stderr=0.01)})]
    assert made.one(spec, "full", own).verdict == "inconclusive", "one seed of a trained model"
    people = Measured(value=1.0, stderr=0.01, df=15)
    pooled = [made.record(spec, "full", "a", "paper-set", 0, {"acc": people})]
    assert made.one(spec, "full", pooled).verdict == "reproduced"


@pytest.mark.parametrize("accuracy", [0.905, 0.895])
def test_a_reading_from_a_plot_is_not_exact(made, accuracy) -> None:
    figure = {"value": 90.0, "unit": "%", "read_from": "plot", "error": 0.5}
    exact = Measured(value=accuracy, exact=True)
    for margin, verdict in ((0.6, "inconclusive"), (1.1, "reproduced")):
        spec = made.paper({**VALUE, "criterion": {"within": margin}, "reported": figure})
        rows = [made.record(spec, "full", "a", "paper-set", 0, {"acc": exact})]
        found = made.one(spec, "full", rows)
        assert (found.verdict, found.n) == (verdict, 1)


def test_fiellers_interval_covers_the_share_that_is_removed() -> None:
    """Paired normal effects of 2 ± 1 with 0.7 of it left: 95 % of 5000 samples of five seeds."""
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.4, size=(5000, 5))
    effect, left = 2 + shared + rng.normal(0, 0.4, shared.shape), 1.4 + shared
    found = [removed(x, y) for x, y in zip(effect.tolist(), left.tolist(), strict=True)]
    bounded = [p for p in found if p is not None and p.low is not None and p.high is not None]
    hits = sum(p.low <= 0.3 <= p.high for p in bounded)
    assert (hits + len(found) - len(bounded)) / len(found) >= 0.93
    assert len(bounded) > 4500


def test_the_share_is_paired_by_seed() -> None:
    """What is left is 0.7 of each seed's effect: no uncertainty, however much effects vary."""
    effects = [2.0, 3.0, 2.5, 1.8]
    found = removed(effects, [0.7 * effect for effect in effects])
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(0.3, abs=1e-6), pytest.approx(0.3, abs=1e-6))


def test_an_effect_that_is_not_clear_has_no_share() -> None:
    found = removed([1.0, -1.0, 0.5], [0.1, 0.2, 0.1])
    assert found is not None and (found.low, found.high) == (None, None)
