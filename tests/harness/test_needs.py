"""A run of some claims runs what they need and no more, and says the same of them as all would."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from harness import paths, reproduce
from harness.cli import app
from harness.needs import Needs
from harness.plan import PlanError
from harness.records import RecordStore
from harness.specs import catalog

SOURCE = {"where": "Table 1", "seen_in": "nowhere"}


def claim(name: str, quantity: dict, **more) -> dict:
    known = {"statement": "So it is.", "criterion": {"greater_than": 0}, "reported": {"value": 1}}
    return {"id": name, **known, "quantity": quantity, "source": SOURCE, **more}


def cells(*names: str, datasets=("digits", "theory")) -> set[tuple[str, str]]:
    return set(Needs.of(catalog.load("toy"), names).cells(datasets))


def test_operands_control_and_null_are_needed_and_nothing_else(project, edit_spec) -> None:
    gap = {"difference": "score", "of": "good", "from": "bad", "on": "theory"}

    def change(spec: dict) -> None:
        spec["variants"]["zero"] = {"label": "zero", "role": "baseline", "datasets": ["theory"]}
        spec["claims"].append(claim("both", gap, null=["zero"]))
        elsewhere = {"variant": "wide", "on": "digits"}
        placed = {"difference": "accuracy", "of": "net", "from": elsewhere, "on": "real"}
        spec["claims"].append(claim("placed", placed))
        choice = {"best_of": ["net", "wide"], "by": "best_accuracy"}
        spec["claims"].append(claim("choice", {"value": "accuracy", "of": choice, "on": "real"}))

    edit_spec(change)
    assert cells("count") == {("good", "theory")}
    assert cells("good-beats-bad") == {(v, "theory") for v in ("good", "bad", "broken")}
    assert cells("both") == {(v, "theory") for v in ("good", "bad", "zero")}
    assert cells("net-accuracy") == {("net", "digits")}, "it stands in for what is named"
    assert cells("placed", datasets=["real"]) == {("net", "real"), ("wide", "digits")}
    assert cells("choice") == {("net", "digits"), ("wide", "digits")}
    assert cells("count", "net-acc*") == cells("count") | cells("net-accuracy")


def test_a_claim_is_run_alone_and_judged_as_with_all_others(project, monkeypatch) -> None:
    monkeypatch.delenv("HARNESS_RESULTS")
    alone = reproduce("toy", claims="count")
    assert alone.ran == 2 and {r.variant for r in alone.records} == {"good"}
    assert alone.datasets == ["theory"], "no data that only other claims ask for"
    assert [v.claim for v in alone.verdicts] == ["count"]
    assert alone.results == paths.quick("claim-count") and not paths.records().exists()
    every = reproduce("toy")
    assert every.ran == 10, "all of its own"
    assert [v for v in every.verdicts if v.claim == "count"] == alone.verdicts
    again = reproduce("toy", claims="good-beats-bad")
    assert again.ran == 0 and [v.claim for v in again.verdicts] == ["good-beats-bad"]


def test_only_the_claims_asked_for_go_on_until_decided(project, edit_spec) -> None:
    def change(spec: dict) -> None:
        spec["tiers"]["smoke"].update(seeds={"start": 3, "most": 6}, protocol="paper")
        near = {"criterion": {"greater_than": 2.0}}
        for variant, name in (("good", "near"), ("bad", "other")):
            quantity = {"value": "score", "of": variant, "on": "theory"}
            spec["claims"].append(claim(name, quantity, **near))
        spec["variants"]["bad"]["procedure"] = {"init_args": {"level": 2.0}}

    edit_spec(change)
    outcome = reproduce("toy", tier="smoke", claims="near")
    assert {r.variant for r in outcome.records} == {"good"} and outcome.ran == 6


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"claims": "nope"}, "no claim 'nope'; it has good-beats-bad"),
        ({"claims": "not-ours"}, "not-ours cannot be run: no patients"),
        ({"claims": "net-accuracy", "tier": "smoke"}, "tier smoke has none of the data: real"),
        ({"claims": "count", "variants": "good"}, "name claims or variants"),
        ({"claims": []}, "no claim is named"),
    ],
)
def test_what_no_claim_can_be_run_by_is_refused(project, asked: dict, said: str) -> None:
    with pytest.raises(PlanError, match=said.replace("*", ".")):
        reproduce("toy", **asked)


def test_the_command_names_its_claim_and_shows_no_other(project) -> None:
    found = CliRunner().invoke(app, ["run", "toy", "--tier", "smoke", "--claim", "count"])
    assert found.exit_code == 0, found.output
    assert "count" in found.output and "good-beats-bad" not in found.output
    assert "1 claim of the paper" in found.output
    assert {r.variant for r in RecordStore(paths.records()).records()} == {"good"}
