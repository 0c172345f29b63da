"""A night's work: papers whose records are missing, stale or oldest, until the time is spent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from harness import paths, plan
from harness.records import RecordStore
from harness.specs import catalog
from harness.specs.types import Seconds

COMMAND = [sys.executable, "-m", "harness", "run"]
GRACE = 60.0
LEAST = 5.0


class BadBudget(ValueError):
    """Not a time such as 60m."""


@dataclass(frozen=True)
class Due:
    """A paper in the queue; ``stale`` says that trials are missing, failed or stale."""

    key: str
    stale: bool
    last: str

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
    """Papers that have the tier: those with trials to run first, then the longest unmeasured."""
    due = [_due(key, tier) for key in keys if tier in catalog.load(key).tiers]
    return sorted(due, key=lambda d: (not d.stale, d.last, d.key))


def _due(key: str, tier: str) -> Due:
    from harness.data import DataUnavailable
    from harness.reproduction import available_data

    paper, store = catalog.load(key), RecordStore(paths.records())
    last = max((r.resources.ended for r in store.records(key, tier)), default="")
    try:
        chosen = available_data(paper, tier, lambda text: None, fetch=False)
    except DataUnavailable:
        return Due(key, True, last)
    states = plan.states(plan.plan(paper, tier, chosen), store)
    return Due(key, any(state != "fresh" for state in states.values()), last)


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
