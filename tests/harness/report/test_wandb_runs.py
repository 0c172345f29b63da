"""Runs in W&B, read back from the files of real offline runs."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from wandb.proto import wandb_internal_pb2

from harness import paths, plan
from harness.engines.base import Event, Finished, Reported, Started
from harness.judging.verdicts import judge
from harness.procedures.base import Progress
from harness.records import Record, RecordStore
from harness.reproduction import Reproduction
from harness.specs import catalog
from harness.tracking import WandbTracker, unsynced


def outcome(ran: int = 9) -> Reproduction:
    paper, records = catalog.load("toy"), RecordStore.here().records("toy", "smoke")
    verdicts = judge(paper, "smoke", records)
    return Reproduction(paper, "smoke", ["theory"], verdicts, records, ran=ran)


def entries(path: Path) -> list[wandb_internal_pb2.Record]:
    """Records of a .wandb file: a LevelDB log in blocks of 32 KiB after a header of 7 bytes."""
    data, found, part, at = path.read_bytes(), [], b"", 7
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        part += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(part)
            found.append(record)
            part = b""
    return found


def whole(path: Path) -> list[wandb_internal_pb2.Record]:
    """The log once W&B's service has written its end, which it does in its own time."""
    for _ in range(200):
        found = entries(path)
        if any(r.WhichOneof("record_type") == "exit" for r in found):
            return found
        time.sleep(0.1)
    raise AssertionError("the run was never finished")


@pytest.fixture
def offline(measured, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


def test_claims_figures_and_records_reach_wandb(offline) -> None:
    said: list[str] = []
    WandbTracker(said.append, patience=120).summarise(outcome())
    assert said == []
    (folder,) = unsynced()
    (table,) = (folder / "files" / "media" / "table").glob("claims_*.json")
    content = json.loads(table.read_text())
    rows = [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]
    good = next(row for row in rows if row["claim"] == "good-beats-bad")
    assert (good["verdict"], good["n"]) == ("reproduced", "3")
    assert good["measured"] == pytest.approx(2.1)
    assert list((folder / "files" / "media" / "html").glob("forest*"))
    log = whole(next(folder.glob("*.wandb")))
    (run,) = [r.run for r in log if r.WhichOneof("record_type") == "run"]
    assert (run.run_group, run.job_type, run.display_name) == ("toy-smoke", "summary", "toy-smoke")
    artifacts = [r.request.log_artifact.artifact for r in log if r.request.HasField("log_artifact")]
    artifacts += [r.artifact for r in log if r.WhichOneof("record_type") == "artifact"]
    (records,) = [a for a in artifacts if a.type == "records"]
    assert len(records.manifest.contents) == 9
    assert set(run.tags) == {"toy", "smoke", "summary", "reduced"}
    summary = values(r.summary.update for r in log if r.WhichOneof("record_type") == "summary")
    assert (summary["trials"], summary["reproduced"]) == (9, 1)


def values(groups: Iterable[Iterable[Any]]) -> dict[str, Any]:
    """Items of W&B's records as a dictionary; later ones win."""
    return {
        item.key or "/".join(item.nested_key): json.loads(item.value_json)
        for group in groups
        for item in group
    }


def test_trials_of_other_flags_are_not_in_the_summary(offline) -> None:
    found = outcome()
    other = found.records[0].model_copy(update={"trial": "f" * 16})
    elsewhere = next(iter(RecordStore.here().records("toy", "cpu")))
    found.records += [other, elsewhere]
    WandbTracker(pytest.fail, patience=120).summarise(found)
    WandbTracker(pytest.fail, patience=120).summarise(replace(found, datasets=["digits"]))
    logs = [whole(next(folder.glob("*.wandb"))) for folder in unsynced()]
    summaries = [
        values(r.summary.update for r in log if r.WhichOneof("record_type") == "summary")
        for log in logs
    ]
    assert sorted(summary["trials"] for summary in summaries) == [0, 9]


def track(*events: Event) -> None:
    tracker = WandbTracker(pytest.fail, patience=120)
    tracker.begin(catalog.load("toy"), [], 0)
    for event in events:
        tracker.event(event)
    tracker.end()


@pytest.fixture
def net(offline) -> tuple[plan.PlannedTrial, Record]:
    """A trial that was run, and its record."""
    (trial,) = plan.plan(catalog.load("toy"), "cpu", ["digits"], seeds=1, variants=["net"])
    record = next(r for r in RecordStore.here().records("toy", "cpu") if r.trial == trial.id)
    return trial, record


def test_a_trial_has_tags_provenance_units_and_an_axis_of_epochs(net) -> None:
    trial, record = net
    steps = [Reported(trial, Progress(n, 3, {"accuracy": n / 4, "loss": 0.5})) for n in (1, 2)]
    track(Started(trial), *steps, Finished(trial, record))
    (folder,) = unsynced()
    log = whole(next(folder.glob("*.wandb")))
    runs = [r.run for r in log if r.WhichOneof("record_type") == "run"]
    assert set(runs[0].tags) == {"toy", "cpu", "stand-in", "paper"}
    assert runs[0].run_id.startswith(f"{trial.id}-")
    configs = [run.config.update for run in runs]
    configs += [r.config.update for r in log if r.WhichOneof("record_type") == "config"]
    config = values(configs)
    assert config["commit"] == "0123456789abcdef" and config["versions"]["torch"] == "2.0"
    assert config["hardware"]["cpu"] == "Some CPU" and config["units"]["accuracy"] == "%"
    axes = [r.metric for r in log if r.WhichOneof("record_type") == "metric"]
    assert {m.step_metric for m in axes if m.name or m.glob_name} >= {"epoch"}
    history = [values([r.history.item]) for r in log if r.WhichOneof("record_type") == "history"]
    assert [(row["epoch"], row["accuracy"], row["loss"]) for row in history] == [
        (1, 25.0, 0.5),
        (2, 50.0, 0.5),
    ]
    summary = values(r.summary.update for r in log if r.WhichOneof("record_type") == "summary")
    assert summary["accuracy"] == pytest.approx(80.0) and summary["status"] == "done"


def test_a_resumed_trial_continues_its_run_and_a_finished_one_does_not(net) -> None:
    trial, record = net
    step = Reported(trial, Progress(1, 3, {"accuracy": 0.5}))
    track(Started(trial), step)
    track(Started(trial), step, Finished(trial, record.model_copy(update={"status": "timed out"})))
    track(Started(trial), step, Finished(trial, record))
    track(Started(trial), step, Finished(trial, record))
    track(Started(replace(trial, code="changed")), step)
    track(Started(trial), step)
    parts = Counter(next(folder.glob("*.wandb")).name for folder in unsynced())
    assert sorted(parts.values()) == [1, 1, 1, 3]


def test_nothing_is_written_when_nothing_ran(offline) -> None:
    WandbTracker(print).summarise(outcome(ran=0))
    assert unsynced() == []


def test_a_summary_that_fails_or_hangs_costs_the_run_nothing(offline, monkeypatch) -> None:
    def fail(found) -> None:
        raise ConnectionError("no service")

    said: list[str] = []
    monkeypatch.setattr("harness.tracking._summary_run", fail)
    WandbTracker(said.append).summarise(outcome())
    hang = threading.Event()
    monkeypatch.setattr("harness.tracking._summary_run", lambda found: hang.wait(60))
    WandbTracker(said.append, patience=0.2).summarise(outcome())
    assert not hang.is_set()  # it still hangs, and we are here
    hang.set()
    assert "no service" in said[0]
    assert "in time" in said[1]


def test_uploaded_runs_are_not_uploaded_again(project) -> None:
    folder = paths.runs() / "wandb"
    for name in ("offline-run-1-a", "offline-run-2-b", "run-3-c"):
        (folder / name).mkdir(parents=True)
    (folder / "offline-run-1-a" / "run-a.wandb.synced").touch()
    assert [found.name for found in unsynced()] == ["offline-run-2-b"]
