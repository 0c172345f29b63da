"""Whatever one trial does, it fails alone, for a stated reason, and leaves nothing behind."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from multiprocessing import Pipe
from pathlib import Path

import psutil
import pytest
import torch

from harness import paths
from harness.engines import keeper
from harness.engines.base import Started
from harness.engines.keeper import End, become_keeper, keep
from harness.engines.logs import BoundedLog
from harness.files import write_atomically
from harness.procedures.checkpoints import Checkpoints
from harness.records import Record, RecordStore
from harness.reproduction import Request, reproduce, run
from harness.resolve import Limits


@pytest.fixture
def misbehave(unruly, edit_unruly):
    """Run two seeds of a variant of which the first misbehaves, and a third trial that does not."""

    def play(how: str, **tier: object) -> tuple[Record, Path]:
        def change(spec: dict) -> None:
            spec["variants"]["deaf"]["procedure"]["init_args"]["how"] = how
            spec["tiers"]["smoke"].update(tier)

        edit_unruly(change)
        outcome = reproduce("unruly", "smoke", jobs=2)
        done = {(r.variant, r.seed): r for r in outcome.records if r.status == "done"}
        assert set(done) == {("well", 0), ("well", 1), ("deaf", 1)}, "the others finish"
        assert all(r.metrics["total"].value == 1 + r.seed for r in done.values())
        (failed,) = outcome.failed
        assert failed.metrics == {}
        return failed, paths.runs() / "unruly" / "smoke" / failed.trial

    return play


@pytest.mark.parametrize(
    ("how", "kind", "says"),
    [
        ("segfault", "WorkerDied", "SIGSEGV"),
        ("abort", "WorkerDied", "SIGABRT"),
        ("parricide", "WorkerDied", "its keeper was killed"),
        ("chatter", "RuntimeError", "after much ado"),
        ("memory", "OutOfMemory", "the limit is 0.60 GB"),
        ("children_memory", "OutOfMemory", "the limit is 0.60 GB"),
    ],
)
def test_a_crash_is_recorded_with_its_cause(misbehave, how, kind, says) -> None:
    failed, folder = misbehave(how, memory="600MB")
    assert (failed.status, failed.error.type) == ("failed", kind)
    assert says in failed.error.message
    log = (folder / "log.txt").read_text()
    if how == "parricide":
        assert not _alive(int((folder / "child").read_text()))
    if how == "segfault":
        assert "Segmentation fault" in log and "string_at" in log, "where it happened"
    if how == "chatter":
        assert "the last words" in log
        assert sum(f.stat().st_size for f in folder.glob("log*")) < 2.2e6, "of 6 MB printed"


@pytest.mark.parametrize("how", ["deadlock", "unkillable"])
def test_a_trial_that_hangs_is_ended_at_its_timeout(misbehave, how) -> None:
    failed, _ = misbehave(how, timeout="6s")
    assert (failed.status, failed.error.type) == ("timed out", "TimedOut")


def test_nothing_of_a_trial_lives_on(unruly, edit_unruly) -> None:
    edit_unruly(lambda s: s["variants"]["deaf"]["procedure"]["init_args"].update(how="leave"))
    outcome = reproduce("unruly", "smoke", variants=["deaf"], seeds=1)
    assert not outcome.failed, "its thread, which sleeps longer than the timeout, is not waited for"
    (pids,) = paths.runs().glob("unruly/smoke/*/pids")
    left = [pid for pid in map(int, pids.read_text().split()) if _alive(pid)]
    assert not left


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_keeper_that_had_to_step_in_is_not_used_again(tmp_path: Path) -> None:
    assert not watch(lambda stopping: None, tmp_path)[0].last
    for work in (lambda stopping: 1 / 0, lambda stopping: time.sleep(60)):
        assert watch(work, tmp_path, timeout=1)[0].last


def test_temporary_files_of_a_killed_trial_are_removed(misbehave) -> None:
    failed, folder = misbehave("litter")
    assert "SIGKILL" in failed.error.message
    assert not Path((folder / "litter").read_text()).exists()


def test_no_trial_outlives_the_process_that_runs_it(unruly) -> None:
    command = [sys.executable, "-m", "harness", "run", "unruly", "-t", "smoke", "--variant", "deaf"]
    harness = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(paths.runs().glob("unruly/smoke/*/deaf")):
        assert harness.poll() is None
        time.sleep(0.05)
    family = psutil.Process(harness.pid).children(recursive=True)
    assert len(family) >= 4, "resource tracker, fork server, keeper, worker"
    harness.kill()
    harness.wait()
    end = time.monotonic() + 600
    while any(_alive(found.pid) for found in family):
        assert time.monotonic() < end
        time.sleep(0.05)
    store = RecordStore(paths.records())
    assert not [r for r in store.records() if r.status != "done"]


def test_a_record_that_cannot_be_written_is_a_clear_error(unruly) -> None:
    """Neither worker nor main process can write; once they can, the run goes on."""
    (unruly / "results").write_text("in the way")
    outcome = reproduce("unruly", "smoke", variants=["well"])
    assert [r.error.type for r in outcome.failed] == ["RecordNotWritten"] * 2
    assert all("Not a directory" in r.error.message for r in outcome.failed)
    assert not outcome.records
    (unruly / "results").unlink()
    outcome = reproduce("unruly", "smoke", variants=["well"])
    assert (len(outcome.records), outcome.failed) == (2, [])


@pytest.mark.parametrize("what", ["record", "checkpoint"])
def test_a_full_disk_leaves_no_half_written_file(tmp_path: Path, what) -> None:
    """The disk is as full as a limit on the size of files makes it."""
    write_atomically(tmp_path / "record.json", "old")
    checkpoints = Checkpoints(tmp_path / "checkpoints", every=0)
    checkpoints.write(1, {"weights": torch.zeros(10)})
    before = sorted(tmp_path.rglob("*"))

    def work(stopping) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
        if what == "record":
            write_atomically(tmp_path / "record.json", "new" * 5000)
        checkpoints.write(2, {"weights": torch.zeros(10_000)})

    end, log = watch(work, tmp_path / "keeper")
    if what == "record":
        assert end.error == "WorkerDied" and "File too large" in log
    else:
        assert end == End(), "a trial goes on without a checkpoint"
    (tmp_path / "keeper" / "log.txt").unlink()
    (tmp_path / "keeper").rmdir()
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "record.json").read_text() == "old"
    assert checkpoints.load()["weights"].shape == (10,)


def test_a_trial_that_cannot_write_says_so(misbehave) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert limit[0] == resource.RLIM_INFINITY, "the fork server must not have inherited one"
    failed, folder = misbehave("fill")
    assert failed.error.type == "OSError" and "File too large" in failed.error.message
    (folder / "big").unlink()


# The keeper alone


def watch(work, tmp_path: Path, **limits: float) -> tuple[End, str]:
    """What the keeper of this work says, and the log."""
    mine, theirs = Pipe()
    pid = os.fork()
    if pid == 0:
        mine.close()
        become_keeper()
        keep(work, Limits(**{"timeout": 30, **limits}), tmp_path / "log.txt", theirs)
        os._exit(0)
    theirs.close()
    end = mine.recv()
    os.waitpid(pid, 0)
    return end, (tmp_path / "log.txt").read_text()


def test_the_keeper_says_how_it_ended(tmp_path: Path) -> None:
    assert watch(lambda stopping: print("hello"), tmp_path) == (End(), "hello\n")
    assert watch(lambda stopping: os._exit(3), tmp_path)[0].message.endswith("code 3")
    end, log = watch(lambda stopping: 1 / 0, tmp_path)
    assert end.error == "WorkerDied" and "ZeroDivisionError" in log


def test_what_the_system_kills_for_memory_is_named(tmp_path: Path, monkeypatch) -> None:
    counts = iter([5, 6])
    monkeypatch.setattr(keeper, "oom_kills", lambda: next(counts))
    end, _ = watch(lambda stopping: os.kill(os.getpid(), signal.SIGKILL), tmp_path)
    assert end.error == "OutOfMemory" and "ran out of memory" in end.message


def test_shared_memory_is_counted_once(tmp_path: Path) -> None:
    """Five processes that share 200 MB, and what this one has, use that once and not five times."""
    hoard = bytearray(os.urandom(1)) * 200_000_000
    shared = psutil.Process().memory_info().rss

    def work(stopping) -> None:
        for _ in range(4):
            if os.fork() == 0:
                time.sleep(1.0)
                os._exit(len(hoard) % 2)
        time.sleep(1.0)

    assert watch(work, tmp_path, memory=shared + 300e6)[0] == End()


def test_the_log_keeps_its_end(tmp_path: Path) -> None:
    log = BoundedLog(tmp_path / "log.txt", limit=100)
    for number in range(1000):
        log.write(f"line {number}\n".encode())
    log.close()
    assert (tmp_path / "log.txt").read_text().endswith("line 999\n")
    assert sum(f.stat().st_size for f in tmp_path.iterdir()) <= 200
    BoundedLog(tmp_path / "log.txt" / "impossible").write(b"lost, and no error")


def test_workers_start_in_the_order_of_the_plan(unruly) -> None:
    started: list[int] = []

    class Watcher:
        def announce(self, text): ...
        def begin(self, paper, trials, skipped): ...
        def end(self): ...
        def event(self, event):
            if isinstance(event, Started):
                started.append(event.trial.seed)

    run(Request("unruly", "smoke", jobs=1, seeds=3, variants=["well"]), [Watcher()])
    assert started == [0, 1, 2]
