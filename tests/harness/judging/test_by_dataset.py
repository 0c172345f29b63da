"""Claims whose reported figures or bounds differ between their data sets."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import yaml
from pydantic import ValidationError

from harness.judging.criteria import describe_criterion
from harness.judging.tally import counted
from harness.judging.verdicts import judge
from harness.report.figures import measured_claims
from harness.specs import yamlfile
from harness.specs.expand import expand
from harness.specs.schema import Paper

ON = ["paper-set", "other-set"]
VALUE = {"value": "acc", "of": "a", "on": ON}
GAP = {"difference": "acc", "of": "a", "from": "b", "on": ON}
HIGH, LOW = [0.90, 0.91, 0.92], [0.60, 0.61, 0.62]


@pytest.fixture
def stated(made, tmp_path):
    """A paper with one claim, whose short form is written out as in a file."""

    def make(quantity: dict, criterion: dict | None, **changes) -> Paper:
        claim = {"quantity": quantity, "criterion": criterion, **changes}
        path = tmp_path / "spec.yaml"
        path.write_text(
            yaml.safe_dump({"claims": [{k: v for k, v in claim.items() if v}]}, sort_keys=False)
        )
        (written,) = expand(yamlfile.load(path)).data["claims"]
        return made.paper(written)

    return make


def figures(first: float, second: float) -> dict:
    return {"value": dict(zip(ON, (first, second), strict=True)), "unit": "%"}


def by_dataset(verdicts) -> dict:
    return {verdict.dataset: verdict for verdict in verdicts}


def measured(made, spec: Paper, **on: list[float]) -> list:
    return [r for name, values in on.items() for r in made.table(spec, "full", name, a=values)]


BOTH = {"paper-set": HIGH, "other-set": LOW}


def test_each_data_set_is_judged_by_its_own_figure(made, stated) -> None:
    spec = stated(VALUE, {"within": 5}, reported=figures(91, 80))
    found = by_dataset(judge(spec, "full", measured(made, spec, **BOTH)))
    assert (found["paper-set"].verdict, found["paper-set"].reported) == ("reproduced", 91)
    assert (found["other-set"].verdict, found["other-set"].reported) == ("not reproduced", 80)
    assert found["other-set"].criterion == "within 5 of 80"
    assert found["paper-set"].reported_text == ""


def test_bounds_and_spreads_may_differ_too(made, stated) -> None:
    bounds = {"paper-set": 95, "other-set": 55}
    spec = stated(VALUE, {"at_least": bounds}, reported={"text": "high"})
    found = by_dataset(judge(spec, "full", measured(made, spec, **BOTH)))
    assert [found[name].verdict for name in ON] == ["not reproduced", "reproduced"]
    spread = {"std": {"paper-set": 1, "other-set": 2}, "n": 5}
    spec = stated(VALUE, {"replicates": True}, reported=figures(91, 91) | spread)
    assert [spec.claims[0].at([name]).reported.std for name in ON] == [1, 2]


def test_a_stand_in_for_both_has_neither_figure(made, stated) -> None:
    spec = stated(VALUE, {"within": 5}, reported=figures(91, 80))
    (row,) = judge(spec, "full", measured(made, spec, proxy=HIGH))
    assert (row.verdict, row.evidence, row.reported) == ("not comparable", "stand-in", None)
    assert row.measured == pytest.approx(91) and row.reason.startswith("stands in for data sets")
    assert row.reported_text == "91 % on paper-set, 80 % on other-set"
    assert row.criterion == "within 5 of 91 on paper-set, within 5 of 80 on other-set"


def test_an_ordering_on_a_stand_in_for_both_is_judged_without_a_size(made, stated) -> None:
    spec = stated(GAP, {"greater_than": 0}, reported=figures(30, 20) | {"unit": "points"})
    (row,) = judge(spec, "full", made.table(spec, "full", "proxy", a=HIGH, b=[0.6, 0.6, 0.6]))
    assert (row.verdict, row.size, row.reported) == ("reproduced", None, None)
    (row,) = judge(spec, "full", made.table(spec, "full", "other-set", a=HIGH, b=[0.8] * 3))
    assert row.size == pytest.approx(11 / 20)


def test_an_operand_is_held_against_its_own_figure_on_that_data(made, stated) -> None:
    own = stated(VALUE, {"within": 2}, reported=figures(91, 50))
    gap = stated(GAP, {"greater_than": 0}, id="gap", reported={"text": "more"})
    spec = own.model_copy(update={"claims": [*own.claims, *gap.claims]})
    values = {"a": HIGH, "b": [0.4, 0.41, 0.4]}
    records = [r for name in ON for r in made.table(spec, "full", name, **values)]
    found = {v.dataset: v for v in judge(spec, "full", records) if v.claim == "gap"}
    assert found["paper-set"].verdict == "reproduced"
    assert "a misses its own figure: 91.0 where 50 is reported" in found["other-set"].reason


def test_counts_and_figures_take_each_data_set_by_itself(made, stated) -> None:
    spec = stated(VALUE, {"within": 5}, reported=figures(91, 80))
    records = measured(made, spec, **BOTH)
    verdicts = judge(spec, "full", records)
    (line,) = counted(spec, verdicts)
    assert line.verdict == "inconclusive" and line.tested
    drawn = measured_claims(SimpleNamespace(paper=spec, verdicts=verdicts))
    assert [claim.reported.value for claim, _ in drawn] == [80, 91]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"reported": {"value": {"x": 1}, "text": "t"}, "criterion": {"at_most": 1}},
            "name the same data sets as on.*: x",
        ),
        ({"reported": {"value": {"paper-set": 91}}}, "within needs reported"),
        ({"quantity": VALUE | {"across": "mean"}}, "a mean across data sets has one"),
        ({"criterion": {"within": {"paper-set": 1}}}, "a criterion has exactly one of"),
        ({"reported": {"value": {"paper-set": 91, "other-set": None}}}, "give the reported value"),
        ({"criterion": {"within": 1, "at_most": 2}}, "exactly one of"),
    ],
)
def test_figures_by_data_set_name_every_data_set(stated, change, says) -> None:
    claim = {"quantity": VALUE, "criterion": {"within": 5}, "reported": figures(91, 80)}
    with pytest.raises(ValidationError, match=says):
        stated(**{**claim, **change})


def test_some_data_sets_may_have_no_figure_of_their_own(made, stated) -> None:
    reported = {"value": {"paper-set": 30}, "unit": "points"}
    spec = stated(GAP, {"greater_than": 0}, reported=reported)
    records = [r for name in ON for r in made.table(spec, "full", name, a=HIGH, b=[0.6] * 3)]
    found = by_dataset(judge(spec, "full", records))
    assert found["paper-set"].size == pytest.approx(31 / 30)
    assert (found["other-set"].size, found["other-set"].reported) == (None, None)
    assert found["other-set"].reported_text == "30 points on paper-set"
    said = stated(GAP, {"greater_than": 0}, reported=reported | {"text": "more on all"})
    assert said.claims[0].at(["other-set"]).reported.text == "more on all"


def test_what_is_not_run_says_its_figures_in_words(stated) -> None:
    (claim,) = stated({}, None, not_run="no reader", reported=figures(81.4, 79.3)).claims
    assert claim.reported.text == "81.4 % on paper-set, 79.3 % on other-set"
    assert describe_criterion(claim) == "" and not claim.each
