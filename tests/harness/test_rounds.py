"""Seeds are added until claims are decided: whose, in which order, within which budget."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from harness import paths
from harness.cli import app
from harness.judging.verdicts import judge
from harness.plan import PlanError
from harness.records import Measured, RecordStore
from harness.report.markdown import write_paper
from harness.reproduction import Request, reproduce, run
from harness.rounds import following, planned
from harness.specs import catalog

CLAIM = {
    "statement": "It is better.",
    "reported": {"value": 2.0},
    "source": {"where": "Table 1", "seen_in": "nowhere"},
}
GAP = {"difference": "score"}


def claim(name: str, criterion: dict, quantity: dict) -> dict:
    return {**CLAIM, "id": name, "criterion": criterion, "quantity": {**quantity, "on": "theory"}}


@pytest.fixture
def close(edit_spec) -> None:
    """``good`` scores 2 on average, as ``close`` doubts; ``far`` is far above 5.

    There are three seeds, then 6, then 12.
    """

    def change(spec: dict) -> None:
        schedule = {"start": 3, "most": 12}
        spec["tiers"]["smoke"].update(
            seeds=schedule, variants=["good", "bad", "far"], protocol="paper"
        )
        far = {"label": "far", "role": "paper", "procedure": {"init_args": {"level": 9.0}}}
        spec["variants"]["far"] = {**far, "datasets": ["theory"]}
        spec["claims"] = [
            claim("close", {"greater_than": 2.0}, {"value": "score", "of": "good"}),
            claim("clear", {"greater_than": 5.0}, {"value": "score", "of": "far"}),
        ]

    edit_spec(change)


def test_data_with_few_splits_keep_their_fixed_seeds_beside_data_that_grow(
    close, edit_spec
) -> None:
    def change(spec: dict) -> None:
        spec["datasets"]["digits"]["splits"] = 2
        spec["tiers"]["smoke"]["datasets"] = ["theory", "digits"]
        spec["tiers"]["smoke"]["variants"] += ["net"]
        spec["tiers"]["smoke"].setdefault("overrides", []).append(
            {"when": {"dataset": "digits"}, "seeds": 2}
        )

    edit_spec(change)
    trials = planned(catalog.load("toy"), "smoke", ["theory", "digits"])
    assert {t.seed for t in trials if t.dataset == "digits"} == {0, 1}
    assert {t.seed for t in trials if t.dataset == "theory"} == {0, 1, 2}


class Listener:
    def __init__(self) -> None:
        self.said: list[str] = []

    def announce(self, text: str) -> None:
        self.said.append(text)

    def begin(self, paper, trials, skipped) -> None: ...

    def event(self, event) -> None: ...

    def end(self) -> None: ...


def take_ten_seconds(outcome) -> None:
    store = RecordStore(outcome.results / "records")
    for record in outcome.records:
        spent = record.resources.model_copy(update={"seconds": 10.0})
        store.write(record.model_copy(update={"resources": spent}))


def seeds(outcome) -> dict[str, int]:
    names = [r.variant for r in outcome.records]
    return {name: names.count(name) for name in sorted(set(names))}


def test_only_the_variants_of_undecided_claims_go_on(close) -> None:
    listener = Listener()
    first = run(Request("toy", "smoke"), [listener])
    assert seeds(first) == {"bad": 3, "far": 3, "good": 12}
    found = {v.claim: v for v in first.verdicts}
    assert (found["clear"].verdict, found["clear"].look) == ("reproduced", 3)
    assert (found["close"].look, found["close"].undecided) == (12, False)
    assert [seen.seeds for seen in found["close"].path] == [3, 6, 12]
    assert len(listener.said) == 2 and "1 claims are undecided: 3 more" in listener.said[0]
    again = run(Request("toy", "smoke", seeds="auto"))
    assert (again.ran, again.verdicts) == (0, first.verdicts), "the same command, the same answer"
    with paths.results_in(first.results):
        shown = CliRunner().invoke(app, ["results", "toy", "-t", "smoke", "--json"]).stdout
        words = CliRunner().invoke(app, ["results", "toy", "-t", "smoke"]).stdout
        page = write_paper(first.paper).read_text()
    rows = {row["claim"]: row for row in json.loads(shown)}
    assert [look["seeds"] for look in rows["close"]["path"]] == [3, 6, 12]
    assert rows["close"]["path"][-1]["ci_low"] == found["close"].ci_low
    assert "- looks on theory, tier smoke: 3 seeds: " in page
    assert "looks at 3 seeds: " in " ".join(words.split())


def test_a_budget_is_kept_by_what_records_cost_and_holds_for_the_next_run(close) -> None:
    listener = Listener()
    first = run(Request("toy", "smoke", budget=0.0), [listener])
    assert seeds(first) == {"bad": 3, "far": 3, "good": 3}
    assert [text.startswith("1 stay undecided") for text in listener.said] == [True]
    take_ten_seconds(first)
    second = run(Request("toy", "smoke", budget=30.0))
    assert second.ran == 3, "three trials of ten seconds"
    assert run(Request("toy", "smoke", budget=1.0)).ran == 0
    assert [v.look for v in second.verdicts] == [6, 3]
    take_ten_seconds(second)
    assert run(Request("toy", "smoke", budget=89.0)).ran == 0, "30 are spent, 60 are wanted"
    assert run(Request("toy", "smoke", budget=90.0)).ran == 6


@pytest.fixture
def handmade_round(close, edit_spec):
    """Three undecided claims: on ``good``, on ``good`` and ``bad``, and on the dear ``far``."""
    shared = claim("shared", {"less_than": 0}, {**GAP, "of": "good", "from": "bad"})
    edit_spec(lambda spec: spec["claims"].append(shared))
    scores = {"good": (1.9, 2.0, 2.2), "bad": (2.0, 2.2, 1.9), "far": (5.2, 4.9, 5.0)}
    found = []
    for record in run(Request("toy", "smoke", budget=0.0)).records:
        score = Measured(value=scores[record.variant][record.seed])
        seconds = {"seconds": 10.0 if record.variant == "far" else 1.0}
        spent = record.resources.model_copy(update=seconds)
        found.append(record.model_copy(update={"metrics": {"score": score}, "resources": spent}))
    paper = catalog.load("toy")
    rows = judge(paper, "smoke", found)
    assert [(v.claim, v.undecided) for v in rows] == [
        *(("close", True), ("clear", True), ("shared", True)),
    ]

    def make(budget=None, variants=None):
        return following(paper, "smoke", rows, found, budget, variants)

    return make


def test_the_cheapest_claims_go_first_and_shared_trials_are_paid_once(handmade_round) -> None:
    cheap = handmade_round(budget=6.5)
    assert [(t.variant, t.seed) for t in cheap.trials] == [
        *(("good", 3), ("good", 4), ("good", 5), ("bad", 3), ("bad", 4), ("bad", 5)),
    ]
    assert (cheap.claims, cheap.left, cheap.seconds, cheap.next) == (2, 1, 6.0, 30.0)
    everything = handmade_round(budget=36.0)
    assert (everything.claims, everything.left, everything.seconds) == (3, 0, 36.0)
    assert {t.variant for t in everything.trials[6:]} == {"far"}
    assert handmade_round(budget=None).claims == 3
    assert handmade_round(variants=["good"]).claims == 1


def test_a_seed_that_fails_counts_as_tried(close, edit_spec) -> None:
    how = {"level": 2.0, "how": "raise", "seed": 4}
    edit_spec(lambda spec: spec["variants"]["good"].update(procedure={"init_args": how}))
    outcome = reproduce("toy", "smoke")
    assert [r.seed for r in outcome.failed] == [4]
    close = {v.claim: v for v in outcome.verdicts}["close"]
    assert (close.look, close.undecided) == (6, False), "no number of seeds makes up for it"


def test_a_number_of_seeds_is_that_number(close) -> None:
    outcome = reproduce("toy", "smoke", seeds=4)
    assert seeds(outcome) == {"bad": 4, "far": 4, "good": 4}
    assert {v.look for v in outcome.verdicts} == {3}


def test_what_was_added_is_kept_fresh(close, project) -> None:
    first = reproduce("toy", "smoke")
    parts = project / "experiments" / "toy" / "parts.py"
    parts.write_text(parts.read_text() + "\nCHANGED = True\n")
    assert reproduce("toy", "smoke").ran == len(first.records) == 18


def test_auto_needs_a_schedule_in_the_spec(project) -> None:
    with pytest.raises(PlanError, match=r"seeds: \{start: 5, most: 40\}"):
        reproduce("toy", "smoke", seeds="auto")
    shown = CliRunner().invoke(app, ["run", "toy", "-t", "smoke", "--seeds", "many"])
    assert "auto" in str(shown.exception) + shown.output
