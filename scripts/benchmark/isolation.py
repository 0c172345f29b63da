"""What it costs to run every trial in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.engines.base import Event
from harness.plan import PlannedTrial
from harness.reproduction import Request, run
from harness.specs.schema import Paper
from scripts.benchmark import timing
from scripts.benchmark.project import Project, project
from scripts.benchmark.timing import Finding, Row, interleaved

ABOUT = """\
Trials that do nothing. Their cost is that of the process that each is given, forked from a \
server that has torch imported, of its keeper, lock, log and record (written to the disk for \
good). By the trial: from the first to the last of a hundred, the server running already. As a \
command: from its start to its exit, with two workers; tracking by W&B is what is on unless the \
user says otherwise. For comparison, a new interpreter that imports torch and Lightning and does \
nothing."""
TRIALS = 100
MANY = 1000


@dataclass
class Clock:
    """An observer that takes the time of the trials alone."""

    seconds: float = 0.0

    def announce(self, text: str) -> None: ...

    def begin(self, paper: Paper, trials: Sequence[PlannedTrial], skipped: int) -> None:
        self.began = timing.now()

    def event(self, event: Event) -> None: ...

    def end(self) -> None:
        self.seconds = timing.now() - self.began


def measure(repeats: int = 5, tiny: bool = False) -> Finding:
    """Run empty trials."""
    trials, many = (3, 5) if tiny else (TRIALS, MANY)
    with project("empty") as place:
        with place.here():
            each = interleaved(
                {
                    "one": lambda: _milliseconds(trials, jobs=1),
                    "two": lambda: _milliseconds(trials, jobs=2),
                },
                repeats,
                warm=0 if tiny else 1,
            )
        words = ("run", "empty", "--force", "--seeds", str(many), "--jobs", "2")
        commands: dict[str, Callable[[], float]] = {
            "plain": lambda: _afresh(place, *words),
            "tracked": lambda: _afresh(place, *words, WANDB_MODE="offline"),
        }
        whole = interleaved(commands, repeats, warm=0)
        fresh = interleaved({"fresh": _new_interpreter}, repeats, warm=0)
    rows = [
        Row("an empty trial, 1 worker", "ms", each["one"], at_most=50),
        Row("an empty trial, 2 workers", "ms", each["two"]),
        Row(f"`harness run` of {many:,} empty trials, 2 workers", "s", whole["plain"], at_most=40),
        Row("the same, tracked by W&B offline (the default)", "s", whole["tracked"]),
        Row("a new interpreter that imports torch and Lightning", "ms", fresh["fresh"]),
    ]
    return Finding("isolation", "A process for every trial", ABOUT, rows, {"trials": trials})


def _milliseconds(trials: int, jobs: int) -> float:
    """By the trial, from the first to the last."""
    clock = Clock()
    outcome = run(Request("empty", jobs=jobs, seeds=trials, force=True), [clock])
    if outcome.failed:
        raise timing.CommandFailed(f"an empty trial failed: {outcome.failed[0].error}")
    return 1000 * clock.seconds / trials


def _afresh(place: Project, *words: str, **environment: str) -> float:
    place.forget()
    return place.harness(*words, **environment)


def _new_interpreter() -> float:
    return 1000 * timing.command([sys.executable, "-c", "import lightning, torch"], {})[0]
