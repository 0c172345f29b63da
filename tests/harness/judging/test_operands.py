"""One value of a series, the variant that validation chooses, differences of differences."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from harness.judging.criteria import describe_quantity
from harness.judging.verdicts import judge
from harness.records import Series

ABOVE = {"criterion": {"greater_than": 0}}


def sweep(made, spec, variant: str, slope: float) -> list:
    """Three seeds whose accuracy at width w is slope · w, with a little for the seed."""
    return [
        made.record(
            *(spec, "full", variant, "paper-set", seed),
            series={
                "acc": Series(
                    over="w", x=[1, 2, 4], y=[slope * w + 0.001 * seed for w in (1, 2, 4)]
                )
            },
        )
        for seed in range(3)
    ]


def test_a_series_is_read_where_a_claim_says(made) -> None:
    spec = made.paper(
        {"quantity": {"value": "acc", "of": "a", "on": "paper-set", "at": 4}, **ABOVE}
    )
    found = made.one(spec, "full", sweep(made, spec, "a", 0.1))
    assert found.measured == pytest.approx(40.1) and found.n == 3
    assert found.quantity == "acc: a at 4"


def test_places_in_a_series_are_compared(made) -> None:
    there = {"variant": "a", "at": 4}
    quantity = {"difference": "acc", "of": there, "from": "a", "on": "paper-set", "at": 1}
    spec = made.paper({"quantity": quantity, **ABOVE})
    found = made.one(spec, "full", sweep(made, spec, "a", 0.1))
    assert found.measured == pytest.approx(30) and found.quantity == "acc: a at 4 − a at 1"


def test_a_place_that_was_not_measured_is_said(made) -> None:
    spec = made.paper(
        {"quantity": {"value": "acc", "of": "a", "on": "paper-set", "at": 3}, **ABOVE}
    )
    found = made.one(spec, "full", sweep(made, spec, "a", 0.1))
    assert (found.verdict, found.reason) == ("not run", "nothing at w 3; there are 1, 2, 4")


def test_a_control_is_read_at_the_same_place(made) -> None:
    control = {"variant": "ctl", "must_be": "lower", "by": 30}
    quantity = {"value": "acc", "of": "a", "on": "paper-set", "at": 4}
    spec = made.paper({"quantity": quantity, "control": control, **ABOVE})
    records = sweep(made, spec, "a", 0.1) + sweep(made, spec, "ctl", 0.01)
    assert "36 points lower" in made.one(spec, "full", records).control.replace(".0", "")


@pytest.fixture
def chosen(made):
    """Judge a difference to the best of b and ctl; each variant has (acc, loss) by seed."""

    def play(by: str = "loss", **values: list[tuple[float, float]]):
        choice = {"best_of": ["b", "ctl"], "by": by}
        quantity = {"difference": "acc", "of": "a", "from": choice, "on": "paper-set"}
        spec = made.paper({"quantity": quantity, **ABOVE})
        records = [
            made.record(spec, "full", variant, "paper-set", seed, {"acc": acc, "loss": loss})
            for variant, pairs in values.items()
            for seed, (acc, loss) in enumerate(pairs)
        ]
        return made.one(spec, "full", records)

    return play


def test_validation_chooses_seed_by_seed(chosen) -> None:
    found = chosen(
        a=[(0.9, 0), (0.9, 0), (0.91, 0)],
        b=[(0.5, 1), (0.1, 5), (0.5, 1)],  # the worse loss is the worse variant here …
        ctl=[(0.7, 2), (0.6, 3), (0.8, 2)],  # … and the better accuracy is not what is looked at
    )
    assert found.measured == pytest.approx(100 * (0.4 + 0.3 + 0.41) / 3)
    assert found.quantity == "acc: a − best of b, ctl by loss"


def test_higher_is_chosen_where_higher_is_better(chosen) -> None:
    found = chosen("acc", a=[(0.9, 0)] * 3, b=[(0.5, 1), (0.7, 1), (0.5, 1)], ctl=[(0.6, 2)] * 3)
    assert found.measured == pytest.approx(100 * (0.3 + 0.2 + 0.3) / 3)


def test_a_choice_needs_all_it_chooses_from(chosen) -> None:
    found = chosen(a=[(0.9, 0)] * 3, b=[(0.5, 1)] * 3)
    assert (found.verdict, found.reason) == ("not run", "no trial of ctl on paper-set")


def test_differences_of_differences_are_paired_by_seed(made) -> None:
    quantity = {
        "difference": "acc",
        "of": {"variant": "a", "minus": "b"},
        "from": {"variant": "ctl", "minus": {"variant": "b", "metric": "loss"}},
        "on": "paper-set",
    }
    spec = made.paper({"quantity": quantity, **ABOVE})
    values = {"a": (0.9, 0), "b": (0.5, 0.1), "ctl": (0.6, 0)}
    records = [
        made.record(
            spec, "full", v, "paper-set", s, {"acc": acc + (v != "b") * 0.01 * s, "loss": loss}
        )
        for v, (acc, loss) in values.items()
        for s in range(3)
    ]
    found = made.one(spec, "full", records)
    assert found.measured == pytest.approx((90 - 50) - (60 - 0.1))
    assert found.quantity == "acc: (a − b) − (ctl − b (loss))"
    assert found.failed == 0 and judge(spec, "full", records[:6])[0].reason.startswith(
        "no trial of ctl"
    )


def test_a_failed_seed_of_what_is_taken_off_counts(made) -> None:
    quantity = {"value": "acc", "of": {"variant": "a", "minus": "b"}, "on": "paper-set"}
    spec = made.paper({"quantity": quantity, **ABOVE})
    records = made.table(spec, "full", "paper-set", a=[0.9, 0.8, 0.9], b=[0.5, 0.6])
    records.append(made.record(spec, "full", "b", "paper-set", 2, status="failed"))
    found = made.one(spec, "full", records)
    assert (found.failed, found.verdict) == (1, "inconclusive")


@pytest.mark.parametrize(
    ("operand", "says"),
    [
        ({}, "give a variant, or best_of"),
        ({"variant": "a", "best_of": ["a", "b"], "by": "acc"}, "give a variant, or best_of"),
        ({"best_of": ["a", "b"]}, "and by: a validation metric"),
        ({"best_of": ["a"], "by": "acc"}, "two variants or more"),
        ({"variant": "a", "by": "acc"}, "and by: a validation metric"),
        ({"variant": "a", "minus": {"variant": "b", "minus": "a"}}, "not two"),
    ],
)
def test_operands_that_make_no_sense_are_refused(made, operand, says) -> None:
    with pytest.raises(ValidationError, match=says):
        made.paper({"quantity": {"value": "acc", "of": operand, "on": "paper-set"}, **ABOVE})


def test_a_slope_has_no_place(made) -> None:
    with pytest.raises(ValidationError, match="at"):
        made.paper({"quantity": {"slope": "acc", "of": "a", "on": "paper-set", "at": 1}, **ABOVE})


def test_a_control_in_place_leaves_what_is_taken_off(made) -> None:
    from harness.judging.guards import in_place

    of = {"variant": "a", "minus": "b"}
    spec = made.paper(
        {"quantity": {"ratio": "acc", "of": of, "to": "a", "on": "paper-set"}, **ABOVE}
    )
    swapped = in_place(spec.claims[0].quantity, "ctl")
    assert describe_quantity(swapped) == "acc: (ctl − b) / ctl"
