"""Two runs at the same time never work on the same trial, and stale locks stop nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import pytest

from harness import paths, plan
from harness.engines import locks
from harness.engines.base import Finished, Waiting
from harness.engines.locks import Locks
from harness.engines.queue import Queue, lock_path
from harness.records import RecordStore
from harness.reproduction import Request, reproduce, run
from harness.specs import catalog


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "trial.lock"


def test_one_holder_at_a_time(lock: Path) -> None:
    one, other = Locks(), Locks()
    assert one.acquire(lock)
    assert not other.acquire(lock)
    one.release(lock)
    assert other.acquire(lock)
    other.close()
    assert not list(lock.parent.iterdir()), "nothing is left behind"


def test_a_lock_names_no_machine(lock: Path) -> None:
    Locks().acquire(lock)
    holder = json.loads(lock.read_text())
    assert os.uname().nodename not in lock.read_text()
    assert holder["pid"] == os.getpid() and len(holder["machine"]) == 16


def _hold_and_die(path: Path) -> None:
    Locks().acquire(path)
    os._exit(0)


def test_the_lock_of_a_dead_process_is_taken_over(lock: Path) -> None:
    process = get_context("fork").Process(target=_hold_and_die, args=(lock,))
    process.start()
    process.join()
    assert lock.exists()
    assert Locks().acquire(lock)


def test_a_process_number_in_use_again_is_not_the_holder(lock: Path) -> None:
    Locks().acquire(lock)
    holder = json.loads(lock.read_text()) | {"began": "1"}
    lock.write_text(json.dumps(holder))
    assert Locks().acquire(lock)


@pytest.mark.parametrize("content", ['{"machine": "another", "pid": 1, "token": "t"}', "", "[1]"])
def test_a_lock_from_elsewhere_is_stale_when_it_is_not_refreshed(lock: Path, content) -> None:
    lock.write_text(content)
    assert not Locks(stale=60).acquire(lock), "it may be alive"
    os.utime(lock, (time.time() - 120,) * 2)
    assert Locks(stale=60).acquire(lock)


def test_a_living_holder_refreshes_its_lock(lock: Path) -> None:
    one = Locks(beat=0.05)
    one.acquire(lock)
    os.utime(lock, (0, 0))
    while time.time() - lock.stat().st_mtime > 60:
        time.sleep(0.05)
    one.close()


def test_who_lost_its_lock_does_not_remove_the_new_one(lock: Path) -> None:
    one, other = Locks(), Locks()
    one.acquire(lock)
    lock.unlink()
    other.acquire(lock)
    one.release(lock)
    assert json.loads(lock.read_text())["token"] == other.token


def _race(path: Path, gate, won) -> None:
    gate.wait()
    mine = Locks()
    if mine.acquire(path):
        won.put(os.getpid())
        time.sleep(0.3)


@pytest.mark.parametrize("stale", [False, True])
def test_of_many_that_want_it_one_gets_it(lock: Path, stale) -> None:
    for _ in range(3):
        lock.unlink(missing_ok=True)
        if stale:
            holder = {"machine": locks.machine(), "pid": 1, "began": "0", "token": "dead"}
            lock.write_text(json.dumps(holder))
        context = get_context("fork")
        gate, won = context.Barrier(6), context.Queue()
        racers = [context.Process(target=_race, args=(lock, gate, won)) for _ in range(6)]
        for racer in racers:
            racer.start()
        won.get(timeout=300)
        for racer in racers:
            racer.join()
        assert won.empty()


def test_a_taker_that_died_in_between_stops_nobody_for_long(lock: Path) -> None:
    lock.write_text(json.dumps({"machine": locks.machine(), "pid": 1, "token": "dead"}))
    right = lock.with_name("trial.lock.dead")
    right.write_text("")
    assert not Locks(stale=60).acquire(lock)
    os.utime(right, (0, 0))
    assert not Locks(stale=60).acquire(lock), "this time the way was cleared"
    assert Locks(stale=60).acquire(lock)


def test_without_links_locks_still_exclude(lock: Path, monkeypatch) -> None:
    def no_links(*args: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", no_links)
    assert Locks().acquire(lock)
    assert not Locks().acquire(lock)


# Runs


def trials(project: Path):
    return plan.plan(catalog.load("toy"), "smoke", ["theory"])


def test_what_another_run_holds_is_waited_for_and_not_repeated(project) -> None:
    """The other run has locked a trial, and writes its record once this one waits for it."""
    reproduce("toy", "smoke")
    store = RecordStore(paths.records())
    planned = trials(project)
    record = store.read("toy", "smoke", planned[0].id)
    path = store.path("toy", "smoke", planned[0].id)
    path.unlink()
    other = Locks()
    assert other.acquire(lock_path(planned[0]))

    def finish() -> None:
        store.write(record)
        other.close()

    events: list[object] = []

    class Watcher:
        def announce(self, text): ...
        def begin(self, paper, trials, skipped): ...
        def end(self): ...
        def event(self, event):
            events.append(event)
            if isinstance(event, Waiting):
                finish()

    run(Request("toy", "smoke"), [Watcher()])
    assert [type(event) for event in events] == [Waiting, Finished]
    assert events[1].record == record


def test_what_a_killed_writer_left_is_swept_up(project) -> None:
    store, (planned, *_) = RecordStore(paths.records()), trials(project)
    path = store.path("toy", "smoke", planned.id)
    path.parent.mkdir(parents=True)
    left = path.with_name(f".{path.name}.abcdef")
    other = path.with_name(".0000000000000000.json.abcdef")
    for file in (left, other):
        file.write_text("{")
    reproduce("toy", "smoke", seeds=1, variants=[planned.variant])
    assert not left.exists()
    assert other.exists(), "that one may be in use by another run"


def test_a_trial_that_another_run_gave_up_is_run(project) -> None:
    planned = trials(project)
    queue = Queue([planned[:1]], RecordStore(paths.records()), False, Locks())
    other = Locks()
    other.acquire(lock_path(planned[0]))
    assert queue.take() is None and bool(queue)
    other.close()
    queue._look_at = 0.0
    assert queue.take() == planned[:1]
    queue.close()


def test_seeds_that_train_together_stay_together_when_another_run_gives_them_up(
    project, edit_spec
) -> None:
    def change(spec: dict) -> None:
        spec["procedure"]["class_path"] = "experiments.toy.parts.Together"
        spec["tiers"]["smoke"]["together"] = 3

    edit_spec(change)
    held = [t for t in trials(project) if t.variant == "good"]
    other, waited = Locks(), []
    assert all(other.acquire(lock_path(trial)) for trial in held)

    class Watcher:
        def announce(self, text): ...
        def begin(self, paper, trials, skipped): ...
        def end(self): ...
        def event(self, event):
            if isinstance(event, Waiting):
                waited.append(event.trial)
                if len(waited) == len(held):
                    other.close()

    outcome = run(Request("toy", "smoke"), [Watcher()])
    assert waited == held
    scores = {(r.variant, r.metrics["score"].value) for r in outcome.records}
    assert scores == {("good", 3.0), ("bad", 3.0), ("broken", 3.0)}


def test_two_runs_at_once_share_the_work(unruly, monkeypatch) -> None:
    monkeypatch.setenv("HARNESS_UNRULY_PAUSE", "0.05")
    command = [sys.executable, "-m", "harness", "run", "unruly", "-t", "cpu", "--variant", "loop"]
    runs = [
        subprocess.Popen([*command, "--seeds", "8", "-j", "1"], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [run.communicate(timeout=900)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert len(RecordStore(paths.records()).records()) == 8
    curves = list(paths.runs().glob("unruly/cpu/*/curves.csv"))
    assert [len(c.read_text().splitlines()) for c in curves] == [13] * 8, "each was run once"
    assert not list(paths.runs().rglob("*.lock*"))
