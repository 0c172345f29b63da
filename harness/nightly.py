"""A night's work: papers whose records are missing, stale or oldest, until the time is spent.

It is spent where most claims are decided per second, and then on what was measured longest ago.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from harness import paths, plan, rounds
from harness.judging.sequential import judged_on
from harness.judging.verdicts import judge
from harness.plan import PlannedTrial
from harness.records import Record, RecordStore
from harness.specs import catalog
from harness.specs.schema import Paper
from harness.specs.types import Seconds

COMMAND = [sys.executable, "-m", "harness", "run"]
GRACE = 60.0
LEAST = 5.0


class BadBudget(ValueError):
    """Not a time such as 60m."""


@dataclass(frozen=True)
class Due:
    """A paper in the queue.

    Attributes:
        stale: trials are missing, failed or stale, or more seeds may decide claims.
        last: when the last trial ended.
        rate: claims that rest on these trials, by the seconds that they take; infinite where
            nothing was measured yet.
    """

    key: str
    stale: bool
    last: str
    rate: float = math.inf

    @property
    def command(self) -> list[str]:
        """Arguments of ``harness run``; what is fresh is measured anew, to see whether it holds."""
        return [self.key] if self.stale else [self.key, "--force"]


@dataclass
class Night:
    """What was done: keys that ran to their end, failed, were stopped, or were not begun."""

    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = {k: ", ".join(v) for k, v in vars(self).items() if v}
        return "; ".join(f"{kind}: {keys}" for kind, keys in parts.items()) or "nothing to do"


def seconds(budget: str) -> float:
    """A time such as ``60m`` in seconds.

    Raises:
        BadBudget: it is no such time.
    """
    try:
        return float(TypeAdapter(Seconds).validate_python(budget))
    except ValidationError as error:
        raise BadBudget(str(error.errors()[0]["msg"])) from error


def queue(keys: Sequence[str], tier: str) -> list[Due]:
    """Papers that have the tier: those with trials to run first, the most claims per second before
    others, then the longest unmeasured."""
    due = [_due(key, tier) for key in keys if tier in catalog.load(key).tiers]
    return sorted(due, key=lambda d: (not d.stale, -d.rate if d.stale else 0, d.last, d.key))


def _due(key: str, tier: str) -> Due:
    from harness.data import DataUnavailable
    from harness.reproduction import available_data

    paper, store = catalog.load(key), RecordStore(paths.records())
    records = store.records(key, tier)
    last = max((r.resources.ended for r in records), default="")
    try:
        chosen = available_data(paper, tier, lambda text: None, fetch=False)
    except DataUnavailable:
        return Due(key, True, last)
    trials = rounds.planned(paper, tier, list(chosen))
    states = plan.states(trials, store)
    todo = [trial for trial in trials if states[trial.id] != "fresh"]
    if not todo:
        verdicts = judge(paper, tier, records, list(chosen))
        todo = list(rounds.following(paper, tier, verdicts, records).trials)
    return Due(key, bool(todo), last, _rate(paper, todo, records))


def _rate(paper: Paper, todo: Sequence[PlannedTrial], records: Sequence[Record]) -> float:
    """Claims that rest on these trials, by the seconds that such trials took before."""
    places, datasets = {(t.variant, t.dataset) for t in todo}, {t.dataset for t in todo}
    claims = [c for c in paper.claims if c.quantity and places & {*judged_on(c, list(datasets))}]
    seconds = rounds.expected(todo, records)
    return len(claims) / seconds if seconds else math.inf


def run(
    budget: float,
    tier: str = "cpu",
    keys: Sequence[str] | None = None,
    announce: Callable[[str], None] = lambda text: None,
    launch: Callable[[Sequence[str], float], int | None] | None = None,
) -> Night:
    """Reproduce papers one after the other until the budget is spent.

    A paper that is running then is interrupted; its finished trials stay, and the next night goes
    on from there.

    Args:
        budget: in seconds.
        keys: only these papers; default all.
        launch: runs ``harness run`` with these arguments for at most so many seconds and returns
            its exit code, or ``None`` if it was stopped.
    """
    launch = launch or interruptible
    end = time.monotonic() + budget
    night = Night()
    for due in queue(keys or catalog.paper_keys(), tier):
        remaining = end - time.monotonic()
        if remaining < LEAST:
            night.left.append(due.key)
            continue
        announce(f"{due.key}: {'missing, failed or stale trials' if due.stale else 'once more'}")
        code = launch([*due.command, "--tier", tier], remaining)
        {None: night.stopped, 0: night.done}.get(code, night.failed).append(due.key)
    return night


def interruptible(arguments: Sequence[str], limit: float) -> int | None:
    """Run ``harness run`` in a process of its own; interrupt it as Ctrl-C would at the limit."""
    here = os.environ | {"HARNESS_RESULTS": str(paths.results())}  # none of its runs is a quick one
    process = subprocess.Popen([*COMMAND, *arguments], env=here)
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    except BaseException:
        process.send_signal(signal.SIGINT)
        process.wait(GRACE)
        raise
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return None
