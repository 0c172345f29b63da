"""The pipeline end to end: plan, workers, records, verdicts; and everything that goes wrong."""

from __future__ import annotations

import json

import pytest

from harness import paths, plan
from harness.data import DataUnavailable
from harness.engines.base import Finished, Reported, Started
from harness.records import RecordStore
from harness.reproduction import Request, reproduce, run
from harness.specs import catalog


class Watcher:
    def __init__(self) -> None:
        self.events: list[object] = []
        self.said: list[str] = []

    def announce(self, text: str) -> None:
        self.said.append(text)

    def begin(self, paper, trials, skipped) -> None:
        self.skipped = skipped

    def event(self, event) -> None:
        self.events.append(event)

    def end(self) -> None:
        self.said.append("end")


def set_how(how: str, seed: int | None = None):
    def change(spec: dict) -> None:
        spec["variants"]["bad"]["procedure"] = {"init_args": {"how": how, "seed": seed}}

    return change


def test_a_run_measures_judges_and_is_not_repeated(project) -> None:
    watcher = Watcher()
    first = run(Request("toy", "smoke", jobs=2), [watcher])
    assert first.ran == 9 and not first.failed
    by_claim = {v.claim: v for v in first.verdicts}
    assert by_claim["good-beats-bad"].verdict == "reproduced"
    assert by_claim["good-beats-bad"].n == 3
    assert by_claim["good-beats-bad"].ci_low > 0
    assert (by_claim["count"].at_reduced, by_claim["count"].n) == ("met", "exact")
    assert by_claim["not-ours"].reason == "no patients"
    kinds = [type(event) for event in watcher.events]
    assert kinds.count(Started) == kinds.count(Reported) == kinds.count(Finished) == 9
    assert watcher.said == ["end"]
    again = run(Request("toy", "smoke"), [watcher])
    assert again.ran == 0
    assert again.verdicts == first.verdicts


def test_the_same_trial_twice_is_the_same_bit_for_bit(project) -> None:
    def metrics() -> dict:
        found = reproduce("toy", "cpu", variants=["net"], force=True, seeds=1)
        return {r.trial: (r.metrics, r.series) for r in found.records}

    assert metrics() == metrics()


def test_seeds_and_variants_differ(project) -> None:
    found = reproduce("toy", "cpu", variants=["net", "wide"])
    losses = {r.metrics["train_loss"].value for r in found.records}
    assert len(found.records) == len(losses) == 4


@pytest.mark.parametrize(
    ("how", "kind", "says"),
    [
        ("raise", "ArithmeticError", "does not add up"),
        ("nan", "NonFinite", "score is nan"),
        ("kill", "WorkerDied", "SIGKILL"),
        ("exit", "WorkerDied", "code 7"),
    ],
)
def test_a_trial_that_fails_fails_alone(project, edit_spec, how, kind, says) -> None:
    edit_spec(set_how(how, seed=1))
    outcome = reproduce("toy", "smoke", jobs=2)
    (failed,) = outcome.failed
    assert (failed.variant, failed.seed, failed.error.type) == ("bad", 1, kind)
    assert says in failed.error.message
    assert str(project) not in json.dumps(failed.model_dump(mode="json"))
    done = [r for r in outcome.records if r.status == "done"]
    assert len(done) == 8
    assert {v.claim: v.n for v in outcome.verdicts}["good-beats-bad"] == 2
    retried = reproduce("toy", "smoke")
    assert retried.ran == 1


def test_a_trial_that_hangs_is_stopped_at_its_timeout(project, edit_spec) -> None:
    edit_spec(set_how("hang", seed=0))
    edit_spec(lambda spec: spec["tiers"]["smoke"].update(timeout="3s"))
    outcome = reproduce("toy", "smoke", jobs=2)
    (failed,) = outcome.failed
    assert (failed.status, failed.error.type) == ("timed out", "TimedOut")


def test_seeds_may_be_trained_together(project, edit_spec) -> None:
    def change(spec: dict) -> None:
        spec["procedure"]["class_path"] = "experiments.toy.parts.Together"
        spec["tiers"]["smoke"]["together"] = 2

    edit_spec(change)
    outcome = reproduce("toy", "smoke", variants=["good"])
    sizes = sorted(r.metrics["score"].value for r in outcome.records)
    assert sizes[-2:] == [2.0, 2.0] and len(sizes) == 3


def test_missing_data_is_announced_and_recorded_as_stand_in(project) -> None:
    watcher = Watcher()
    outcome = run(Request("toy", "cpu", variants=["net"]), [watcher])
    assert any("real is not on this machine: using digits" in text for text in watcher.said)
    verdict = next(v for v in outcome.verdicts if v.claim == "net-accuracy")
    assert (verdict.dataset, verdict.evidence) == ("digits", "stand-in")
    assert verdict.verdict == "not comparable" and verdict.measured is not None


def test_no_data_at_all_is_an_error_that_says_what_to_do(project) -> None:
    with pytest.raises(DataUnavailable, match="HARNESS_DATA"):
        reproduce("toy", "full")


def test_a_wrong_argument_stops_the_run_before_any_trial(project, edit_spec) -> None:
    edit_spec(lambda spec: spec["variants"]["net"]["model"]["init_args"].update(widht=3))
    with pytest.raises(catalog.SpecError, match="no argument 'widht'"):
        reproduce("toy", "cpu")
    assert not paths.records().exists()


def test_a_changed_module_makes_records_stale(project) -> None:
    reproduce("toy", "smoke", seeds=1, variants=["good"])
    path = project / "experiments" / "toy" / "parts.py"
    spec = catalog.load("toy")
    store = RecordStore(paths.records())

    def states() -> set[str]:
        trials = plan.plan(spec, "smoke", ["theory"], 1, ["good"])
        return set(plan.states(trials, store).values())

    assert states() == {"fresh"}
    path.write_text(path.read_text().replace('"""Parts of a paper', '"""Some parts of a paper'))
    assert states() == {"fresh"}, "a docstring is not code"
    path.write_text(path.read_text().replace("(0.1 + 0.01", "(0.2 + 0.01"))
    assert states() == {"stale"}


def test_an_unfinished_record_does_not_count(project) -> None:
    outcome = reproduce("toy", "smoke", seeds=1, variants=["good"])
    store = RecordStore(paths.records())
    path = store.path("toy", "smoke", outcome.records[0].trial)
    path.write_text(path.read_text()[:200])
    assert reproduce("toy", "smoke", seeds=1, variants=["good"]).ran == 1


def test_a_record_says_what_made_it(project) -> None:
    record = reproduce("toy", "smoke", seeds=1, variants=["good"]).records[0]
    assert record.provenance.versions["torch"]
    assert record.provenance.hardware["cores"] >= 1
    assert record.resources.peak_memory_mb > 0
    assert record.resources.samples is None, "nothing was trained"
    assert record.config["procedure"]["init_args"] == {"level": 2.0}
