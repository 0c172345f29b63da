"""What a run shows while it goes: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from harness.engines.base import Event, Finished, Reported, Started
from harness.judging.rounding import figure
from harness.plan import PlannedTrial
from harness.procedures.base import Progress
from harness.specs.schema import Paper

LINES_EVERY = 10.0


class ProgressDisplay:
    """Counts trials, shows those that run with epoch and metric, and estimates the time left.

    Args:
        console: where to write; a live display if it is a terminal.
        jobs: workers, for the estimate.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.total = self.done = self.failed = 0
        self.running: dict[str, tuple[PlannedTrial, Progress | None]] = {}
        self.began = self.ended = self.last_line = time.monotonic()
        self.live: Live | None = None

    def announce(self, text: str) -> None:
        self.console.print(Text(text))

    def begin(self, paper: Paper, trials: Sequence[PlannedTrial], skipped: int) -> None:
        self.total = len(trials)
        self.began = self.ended = time.monotonic()
        already = f", {skipped} done already" if skipped else ""
        self.announce(f"{paper.key}: {self.total} trials to run{already}")
        if self.console.is_terminal:
            self.live = Live(
                console=self.console, refresh_per_second=5, transient=True, get_renderable=self.view
            )
            self.live.start()

    def event(self, event: Event) -> None:
        if isinstance(event, Started):
            self.running[event.trial.id] = (event.trial, None)
        elif isinstance(event, Reported):
            self.running[event.trial.id] = (event.trial, event.progress)
        elif isinstance(event, Finished):
            self._finish(event)
        if self.live is None and time.monotonic() - self.last_line > LINES_EVERY:
            self._line()

    def _finish(self, event: Finished) -> None:
        self.running.pop(event.trial.id, None)
        self.done += 1
        self.ended = time.monotonic()
        error = event.record.error
        if error is not None:
            self.failed += 1
            first = error.message.splitlines()[0] if error.message else ""
            self.announce(f"{event.record.status}: {event.trial.label}: {error.type}: {first}")

    def end(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None
        self._line()

    def _line(self) -> None:
        self.last_line = time.monotonic()
        current = next(iter(self.running.values()), None)
        now = f"; {current[0].label}{_epoch(current[1])}" if current else ""
        self.console.print(Text(f"{self._count()}{now}"), soft_wrap=True)

    def _count(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done}/{self.total} trials{failed}, {self._clock()}"

    def _clock(self) -> str:
        elapsed = time.monotonic() - self.began
        text = f"{duration(elapsed)} so far"
        partial = sum(_share(p) for _, p in self.running.values() if p)
        finished = self.done + partial
        if self.total > finished > 0.5 and elapsed > 5:
            spent = elapsed if partial else self.ended - self.began
            left = spent / finished * (self.total - finished) - (elapsed - spent)
            text += f", about {duration(left)} left" if left > 0 else ""
        return text

    def view(self) -> Table:
        """The live display: one line for the whole, one for each running trial."""
        table = Table.grid(padding=(0, 2))
        width = max(10, min(40, self.console.width - 50))
        share = self.done / self.total if self.total else 1.0
        bar = "━" * round(share * width)
        table.add_row(Text(bar.ljust(width, "╌"), style="green"), Text(self._count()))
        for trial, progress in list(self.running.values())[:8]:
            table.add_row(
                Text(trial.label, style="dim", overflow="ellipsis", no_wrap=True),
                Text(_epoch(progress).lstrip(", ")),
            )
        return table


def _share(progress: Progress) -> float:
    """How much of a trial is done; 0 where a named training is one of several, each from step 1."""
    named = any(name.endswith(" epoch") for name in progress.metrics)
    return progress.step / progress.steps if progress.steps and not named else 0.0


def _epoch(progress: Progress | None) -> str:
    if progress is None:
        return ""
    shown = [f"{k} {figure(v)}" for k, v in progress.metrics.items() if k != "epoch"][:2]
    return ", ".join(["", f"{progress.step}/{progress.steps}", *shown])


def duration(seconds: float) -> str:
    """``45 s``, ``3 min 05 s``, ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
