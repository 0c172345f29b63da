"""An interrupted trial ends in the same figures as one that was never interrupted."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

import psutil
import pytest
import torch
from torch import nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score
from typer.testing import CliRunner

from harness import paths
from harness.cli import app
from harness.engines.base import Interrupted, Reported
from harness.loading.splits import Splits, Tensors
from harness.procedures.base import Outcome, Trial
from harness.procedures.checkpoints import Checkpoints, Stopped
from harness.procedures.fit import Fit
from harness.records import RecordStore
from harness.reproduction import Request, reproduce
from harness.reproduction import run as run_paper
from harness.seeding import seed_all

EPOCHS = 5


def data() -> Splits:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(70, 6, generator=generator)
    y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).long() + (x[:, 3] > 1).long()
    part = lambda a, b: Tensors(x=x[a:b], y=y[a:b])  # noqa: E731
    return Splits(train=part(0, 40), val=part(40, 55), test=part(55, 70))


def net() -> nn.Module:
    layers = [nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.3), nn.Linear(12, 3)]
    net = nn.Sequential(*layers)
    net.forward = lambda x: nn.Sequential.forward(net, x)  # type: ignore[method-assign]
    return net


SCHEDULES = {
    "none": (None, "epoch"),
    "epoch": (lambda o: torch.optim.lr_scheduler.StepLR(o, 1, 0.5), "epoch"),
    "milestones": (lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2, 4], 0.1), "epoch"),
    "step": (lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.05, total_steps=30), "step"),
    "chain": (
        lambda o: torch.optim.lr_scheduler.SequentialLR(
            o,
            [
                torch.optim.lr_scheduler.LinearLR(o, 0.1, total_iters=2),
                torch.optim.lr_scheduler.CosineAnnealingLR(o, 3),
            ],
            [2],
        ),
        "epoch",
    ),
}


def fit(schedule: str = "none", **changes: object) -> Fit:
    make, every = SCHEDULES[schedule]
    return Fit(
        loss=nn.CrossEntropyLoss(),
        metrics={"accuracy": MulticlassAccuracy(3), "f1": MulticlassF1Score(3)},
        optimizer=changes.pop("optimizer", lambda p: torch.optim.AdamW(p, 0.01)),
        epochs=EPOCHS,
        batch_size=16,
        schedule=make,
        schedule_every=every,
        **changes,
    )


def trial(folder: Path, stop_after: int | None = None) -> Trial:
    """A trial that is asked to stop once it has reported that many epochs."""
    reported = []
    return Trial(
        seed=3,
        data=data(),
        model=net,
        device=torch.device("cpu"),
        workdir=folder,
        report=reported.append,
        checkpoints=Checkpoints(
            folder / "checkpoints",
            every=0,
            stopping=lambda: stop_after is not None and len(reported) >= stop_after,
        ),
    )


def figures(outcome: Outcome) -> str:
    """All metrics and series to the last bit."""
    series = {name: (s.x, s.y) for name, s in outcome.series.items()}
    return repr((sorted(outcome.metrics.items()), sorted(series.items())))


def run(procedure: Fit, trial: Trial) -> Outcome:
    seed_all(trial.seed, "trial")
    return procedure.run(trial)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_stopped_after_any_epoch_it_ends_bit_for_bit_the_same(tmp_path: Path, schedule) -> None:
    whole = figures(run(fit(schedule), trial(tmp_path / "whole")))
    for epoch in (1, 3):
        with pytest.raises(Stopped):
            run(fit(schedule), trial(tmp_path / str(epoch), stop_after=epoch))
        torch.rand(epoch)  # what happened to the generators in between does not matter
        assert figures(run(fit(schedule), trial(tmp_path / str(epoch)))) == whole


def test_stopped_at_every_epoch_in_turn(tmp_path: Path) -> None:
    momentum = {"optimizer": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), "eval_every": 2}
    whole = figures(run(fit("step", **momentum), trial(tmp_path / "whole")))
    for _ in range(EPOCHS):
        with pytest.raises(Stopped):
            run(fit("step", **momentum), trial(tmp_path / "parts", stop_after=1))
    assert figures(run(fit("step", **momentum), trial(tmp_path / "parts"))) == whole


def test_the_order_and_the_noise_do_matter_here(tmp_path: Path) -> None:
    """Otherwise the tests above would show nothing."""
    one = figures(run(fit(), trial(tmp_path / "a")))
    other = Trial(**{**vars(trial(tmp_path / "b")), "seed": 4})
    assert figures(run(fit(), other)) != one


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_checkpoint_is_left_out_for_the_one_before(tmp_path: Path, damage) -> None:
    whole = figures(run(fit(), trial(tmp_path / "whole")))
    with pytest.raises(Stopped):
        run(fit(), trial(tmp_path / "cut", stop_after=3))
    kept = sorted((tmp_path / "cut" / "checkpoints").glob("*.ckpt"))
    content = bytearray(kept[-1].read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    kept[-1].write_bytes({"truncated": content[:-9], "empty": b""}.get(damage, content))
    again = trial(tmp_path / "cut")
    assert again.checkpoints.latest() == kept[-2]
    assert figures(run(fit(), again)) == whole


def test_two_are_kept_and_half_written_ones_are_not_met(
    tmp_path: Path, monkeypatch, caplog
) -> None:
    checkpoints = Checkpoints(tmp_path, every=0)
    for step in range(1, 5):
        checkpoints.save(step, {"step": step})
    assert [p.name[:9] for p in sorted(tmp_path.iterdir())] == ["000000003", "000000004"]

    def fails(content: object, file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fails)
    checkpoints.save(5, {"step": 5})
    assert "no checkpoint of step 5: No space left" in caplog.text
    monkeypatch.undo()
    assert len(list(tmp_path.iterdir())) == 2
    assert checkpoints.load() == {"step": 4}


def test_writing_is_rare_and_its_cost_bounded(tmp_path: Path, monkeypatch) -> None:
    now = 0.0
    checkpoints = Checkpoints(tmp_path, every=5, clock=lambda: now)
    written = []

    def write(*args: object) -> None:
        nonlocal now
        now += 1.0  # a slow disk: a checkpoint takes a second
        written.append(now)

    monkeypatch.setattr("harness.procedures.checkpoints._write", write)
    for step in range(100):
        now += 1.0
        checkpoints.save(step, {})
    assert 4 <= len(written) <= 5, "a checkpoint of one second at most every twenty"


def test_time_spent_adds_up(tmp_path: Path) -> None:
    now = 100.0
    first = Checkpoints(tmp_path, every=0, clock=lambda: now)
    now += 30
    first.save(1, {})
    now += 500  # lost: after the last checkpoint
    second = Checkpoints(tmp_path, every=0, clock=lambda: now)
    second.load()
    now += 10
    assert second.seconds == 40


def test_checkpoints_hold_plain_data_only(tmp_path: Path, caplog) -> None:
    class Evil:
        def __reduce__(self):
            return (os.system, ("true",))

    checkpoints = Checkpoints(tmp_path, every=0)
    checkpoints.save(1, {"it": 1})
    checkpoints.save(2, {"it": Evil()})
    with pytest.raises(Exception, match=r"[Ww]eights"):
        checkpoints.read(checkpoints.latest())
    assert checkpoints.load() == {"it": 1}, "the one before is used"
    assert "cannot be used: UnpicklingError" in caplog.text


def test_checkpoints_further_on_that_were_not_used_do_not_stay(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, every=0)
    for step in (8, 9, 1, 2):
        checkpoints.write(step, {"step": step})
    assert checkpoints.load() == {"step": 2}
    checkpoints.write(2, {"step": 2, "again": True})
    assert checkpoints.load() == {"step": 2, "again": True}
    assert [path.name[:9] for path in sorted(tmp_path.iterdir())] == ["000000001", "000000002"]


# The whole run is interrupted.


class Signaller:
    """Sends a signal to this process when a trial has reported that often."""

    def __init__(self, number: int, after: int) -> None:
        self.number = number
        self.left = after
        self.said: list[str] = []

    def announce(self, text: str) -> None:
        self.said.append(text)

    def begin(self, paper, trials, skipped) -> None: ...

    def event(self, event) -> None:
        if isinstance(event, Reported):
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), self.number)

    def end(self) -> None: ...


@pytest.fixture
def slowly(unruly, monkeypatch) -> Path:
    """Every step takes a while and is kept."""
    monkeypatch.setenv("HARNESS_CHECKPOINT_EVERY", "0")
    monkeypatch.setenv("HARNESS_UNRULY_PAUSE", "0.02")
    return unruly


def interrupt(number: int, after: int, **request) -> None:
    before = signal.getsignal(number)
    signaller = Signaller(number, after)
    with pytest.raises(Interrupted, match="the same command goes on"):
        run_paper(Request("unruly", "cpu", jobs=1, **request), [signaller])
    assert "stopping" in signaller.said[0]
    assert signal.getsignal(number) is before


def measured(records) -> dict:
    assert records
    return {r.trial: (r.status, r.metrics, r.series) for r in records}


def checkpoints() -> list[Path]:
    return sorted(paths.runs().glob("unruly/cpu/*/checkpoints/*.ckpt"))


def test_signals_stop_a_run_and_the_same_command_goes_on(slowly) -> None:
    interrupt(signal.SIGINT, after=3)
    assert int(checkpoints()[-1].name[:9]) >= 3
    interrupt(signal.SIGTERM, after=14)
    folder = checkpoints()[-1].parents[1]
    resumed = reproduce("unruly", "cpu", jobs=2)
    assert len(resumed.records) == 4
    assert not checkpoints(), "done: nothing to go on from"
    rows = (folder / "curves.csv").read_text().splitlines()
    steps = [int(row.split(",")[0]) for row in rows if row[0].isdigit()]
    assert steps == sorted(set(steps)) and steps[0] == 1, "every step once in the curves"
    again = reproduce("unruly", "cpu", force=True)
    assert measured(resumed.records) == measured(again.records)


def test_what_a_power_cut_left_of_the_curves_fails_no_trial(slowly) -> None:
    interrupt(signal.SIGINT, after=4, variants=["loop"], seeds=1)
    path = checkpoints()[-1].parents[1] / "curves.csv"
    with path.open("ab") as file:  # a block of zeros, a blank line, half a header, half a row
        file.write(b"\0\0\0\0\0\n\nstep,tot\n4,0.\0\xff\n3,")
    resumed = reproduce("unruly", "cpu", variants=["loop"], seeds=1)
    assert not resumed.failed
    rows = [row.split(",") for row in path.read_text().splitlines()]
    assert [int(row[0]) for row in rows if row[0] != "step"] == list(range(1, 13))
    assert all(len(row) == 2 and float(row[1]) for row in rows if row[0] != "step")
    again = reproduce("unruly", "cpu", variants=["loop"], seeds=1, force=True)
    assert measured(resumed.records) == measured(again.records)


def test_a_trial_that_was_stopped_for_its_time_goes_on_when_it_gets_more(
    slowly, monkeypatch
) -> None:
    """It hangs after its third step, so that no machine is fast or slow enough to matter."""
    loop = ["run", "unruly", "--variant", "loop", "--seeds", "1"]
    monkeypatch.setenv("HARNESS_UNRULY_HANG", "3")
    slow = CliRunner().invoke(app, [*loop, "--timeout", "0.1"])
    assert slow.exit_code == 1
    said = " ".join(slow.stderr.split())
    assert "stopped after 6 s at step 3 of 12" in said, "a tenth of the tier's minute"
    assert "`--timeout 3` allows three times as long (`TIMEOUT=3` with make)" in said
    assert int(checkpoints()[-1].name[:9]) == 3
    monkeypatch.delenv("HARNESS_UNRULY_HANG")
    steps = []
    watcher = Signaller(0, 10**6)
    watcher.event = lambda event: steps.append(event) if isinstance(event, Reported) else None
    more = run_paper(Request("unruly", "cpu", variants=["loop"], seeds=1, timeout=3), [watcher])
    assert [event.progress.step for event in steps] == list(range(4, 13))
    assert [record.status for record in more.records] == ["done"] and not checkpoints()


def test_checkpoints_of_other_code_are_not_used(slowly) -> None:
    interrupt(signal.SIGINT, after=2, variants=["net"], seeds=1)
    note = checkpoints()[-1].parents[1] / "made_by.json"
    made_by = json.loads(note.read_text())["made_by"]
    parts = slowly / "experiments" / "unruly" / "parts.py"
    parts.write_text(parts.read_text().replace("nn.Dropout(0.1)", "nn.Dropout(0.5)"))
    changed = reproduce("unruly", "cpu", variants=["net"], seeds=1)
    assert json.loads(note.read_text())["made_by"] != made_by
    clean = reproduce("unruly", "cpu", variants=["net"], seeds=1, force=True)
    assert measured(changed.records) == measured(clean.records)


def test_a_checkpoint_that_does_not_fit_fails_its_trial_once(slowly) -> None:
    interrupt(signal.SIGINT, after=4, variants=["net"], seeds=1)
    Checkpoints(checkpoints()[-1].parent, every=0).write(999, {"of": "something else"})
    first = reproduce("unruly", "cpu", variants=["net"], seeds=1)
    assert [record.status for record in first.records] == ["failed"] and not checkpoints()
    second = reproduce("unruly", "cpu", variants=["net"], seeds=1)
    clean = reproduce("unruly", "cpu", variants=["net"], seeds=1, force=True)
    assert not second.failed and measured(second.records) == measured(clean.records)


def test_force_starts_afresh(slowly) -> None:
    interrupt(signal.SIGINT, after=4, variants=["loop"], seeds=1)
    signaller = Signaller(0, 10**6)
    run_paper(Request("unruly", "cpu", variants=["loop"], seeds=1, force=True), [signaller])
    assert 10**6 - signaller.left == 12, "all twelve steps were done again"


def test_ctrl_c_while_workers_are_being_prepared_is_one_line(unruly) -> None:
    """The terminal sends it to all processes, also to the server that is importing torch."""
    command = [sys.executable, "-m", "harness", "run", "unruly", "--tier", "smoke"]
    out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    run = subprocess.Popen(command, start_new_session=True, **out)
    while "forkserver" not in commands_below(run.pid):
        assert run.poll() is None
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGINT)
    printed, _ = run.communicate(timeout=900)
    said = [line for line in printed.splitlines() if not line.startswith("note: this harness")]
    assert run.returncode == 130
    assert said == ["interrupted; the same command goes on where this stopped"]


def commands_below(pid: int) -> str:
    """What the processes that one has started were started with."""
    found = []
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                found += child.cmdline()
    return " ".join(found)


def test_the_command_line_waits_for_a_trial_unless_told_twice(unruly) -> None:
    run = subprocess.Popen(
        [sys.executable, "-m", "harness", "run", "unruly", "--tier", "smoke", "--variant", "deaf"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    end = time.monotonic() + 900
    while not list(paths.runs().glob("unruly/smoke/*/deaf")):
        assert time.monotonic() < end and run.poll() is None
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGINT)
    time.sleep(0.5)
    assert run.poll() is None, "the first one waits for the trial to save its state"
    os.kill(run.pid, signal.SIGINT)
    printed, _ = run.communicate(timeout=600)
    assert run.returncode == 130 and "the same command goes on" in printed
    seeds = {record.seed for record in RecordStore(paths.records()).records()}
    assert 0 not in seeds, "a trial that was stopped has not failed"
