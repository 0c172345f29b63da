"""What a claim must say about itself."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from harness.specs.claims import Claim, Criterion, Reported, Source
from harness.specs.validate import validate
from harness.specs.yamlfile import load

SOURCE = {"where": "Table 1", "seen_in": "https://arxiv.org/abs/1703.10667"}
CLAIM = {
    "id": "c",
    "statement": "it holds because of order",
    "quantity": {"difference": "acc", "of": "a", "from": "b", "on": "d"},
    "criterion": {"greater_than": 0},
    "reported": {"value": 1.0},
    "source": SOURCE,
}
CONTROL = {"variant": "shuffled", "must_be": "lower"}


def test_a_claim_about_a_mechanism_has_a_control_or_says_why_not() -> None:
    with pytest.raises(ValidationError, match="a control in which the mechanism is destroyed"):
        Claim.model_validate({**CLAIM, "mechanism": True})
    assert Claim.model_validate({**CLAIM, "mechanism": True, "control": CONTROL}).mechanism
    assert Claim.model_validate({**CLAIM, "mechanism": True, "no_control": "a theorem"}).no_control
    with pytest.raises(ValidationError, match="there is one"):
        Claim.model_validate({**CLAIM, "control": CONTROL, "no_control": "none"})


@pytest.mark.parametrize(
    ("reported", "problem"),
    [
        ({"value": 1.0, "std": 0.1}, "std and n go together"),
        ({"value": 1.0, "n": 5}, "std and n go together"),
        ({"text": "much", "std": 0.1, "n": 5}, "belong to a reported value"),
        ({"value": 1.0, "read_from": "plot"}, "how well it can be read"),
        ({"value": 1.0, "std": 0.0, "n": 5}, "greater than 0"),
        ({"value": 1.0, "std": 0.1, "n": 1}, "greater than or equal to 2"),
    ],
)
def test_a_reported_spread_says_of_how_many_runs(reported, problem) -> None:
    with pytest.raises(ValidationError, match=problem):
        Reported.model_validate(reported)


def test_replication_needs_the_reported_spread() -> None:
    claim = {**CLAIM, "criterion": {"replicates": True}}
    with pytest.raises(ValidationError, match="needs reported"):
        Claim.model_validate(claim)
    spread = {"value": 1.0, "std": 0.1, "n": 5}
    assert Claim.model_validate({**claim, "reported": spread}).criterion.kind == "replicates"
    with pytest.raises(ValidationError):
        Criterion.model_validate({"replicates": False})


def test_a_source_that_nobody_can_find_says_so() -> None:
    vague = {"where": "Table 1", "seen_in": "study notes quoting the tables"}
    with pytest.raises(ValidationError, match="untraceable: true"):
        Source.model_validate(vague)
    assert Source.model_validate({**vague, "untraceable": True, "how": "quoted"}).untraceable
    with pytest.raises(ValidationError, match="official code"):
        Source.model_validate({**SOURCE, "how": "memory"})


def test_null_is_a_key_like_any_other(tmp_path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("null: [chance]\nnothing: null\n")
    assert load(path).data == {"null": ["chance"], "nothing": None}


def test_null_models_exist(edit_spec) -> None:
    edit_spec(lambda spec: spec["claims"][0].update(null=["godd"]))
    (problem,) = validate("toy")
    assert "no variant 'godd'; did you mean 'good'?" in str(problem)


def test_null_models_report_the_metric(edit_spec) -> None:
    edit_spec(lambda spec: spec["claims"][2].update(null=["good"]))  # which has no accuracy
    assert any("metric of good 'accuracy'" in str(problem) for problem in validate("toy"))
