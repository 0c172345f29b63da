"""The groups that still have to be run, shared with other runs of the same paper through locks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from harness.desk import workdir
from harness.engines.base import Event, Finished, Group, Waiting
from harness.engines.locks import Locks
from harness.plan import PlannedTrial, outdated, state
from harness.records import Record, RecordStore, Resources

LOOK_AGAIN = 1.0


class Queue:
    """Gives out groups, each trial locked, and finds records that another run has written.

    Args:
        groups: in the order in which they should be run.
        store: where records are.
        force: run also trials whose records are fresh (unless written since this run began).
        locks: ``None`` where somebody else holds the locks on these trials for us.
    """

    def __init__(
        self, groups: Sequence[Group], store: RecordStore, force: bool, locks: Locks | None
    ) -> None:
        self.waiting = list(groups)
        self.busy: list[Group] = []
        self.store = store
        self.force = force
        self.locks = locks
        self.before = {t.id: self._cost(t) for group in groups for t in group}
        self._events: list[Event] = []
        self._announced: set[str] = set()
        self._look_at = 0.0

    def __bool__(self) -> bool:
        """Whether any trial is still to be run, here or elsewhere."""
        return bool(self.waiting or self.busy or self._events)

    def take(self) -> Group | None:
        """The next trials to run, locked; ``None`` if there are none at the moment."""
        if self.busy and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_AGAIN
            self.waiting += self.busy
            self.busy = []
        while self.waiting:
            group = self.waiting.pop(0)
            locked = {trial.id for trial in group if self._lock(trial)}
            if len(locked) < len(group):
                self.busy.append([trial for trial in group if trial.id not in locked])
            if todo := [t for t in group if t.id in locked and self._is_needed(t)]:
                return todo
        return None

    def joined(self, events: Iterable[Event]) -> Iterator[Event]:
        """What other runs did since the last call, then what this one does: events of an engine,
        whose trials are given back when they finish."""
        found, self._events = self._events, []
        yield from found
        for event in events:
            if isinstance(event, Finished):
                self.done(event.trial)
            yield event

    def done(self, trial: PlannedTrial) -> None:
        """The trial has its record, or will not get one from this run."""
        if self.locks:
            self.locks.release(lock_path(trial))

    def close(self) -> None:
        """Give all locks back."""
        if self.locks:
            self.locks.close()

    def _lock(self, trial: PlannedTrial) -> bool:
        if self.locks is None or self.locks.acquire(lock_path(trial)):
            return True
        if trial.id not in self._announced:
            self._announced.add(trial.id)
            self._events.append(Waiting(trial))
        return False

    def _is_needed(self, trial: PlannedTrial) -> bool:
        """Whether a locked trial has to be run; if not, its lock is given back."""
        record = self._record(trial)
        if record is not None and self._written_elsewhere(trial, record):
            self._events.append(Finished(trial, record))
            self.done(trial)
            return False
        self.store.sweep(trial.paper, trial.tier, trial.id)
        return True

    def _written_elsewhere(self, trial: PlannedTrial, record: Record) -> bool:
        """Whether a record makes running the trial superfluous: another run was faster."""
        if outdated(trial, record):
            return False
        changed = record.resources != self.before[trial.id]
        return changed or (state(trial, record) == "fresh" and not self.force)

    def _cost(self, trial: PlannedTrial) -> Resources | None:
        """What tells one record of a trial from another: when it was made."""
        record = self._record(trial)
        return record.resources if record else None

    def _record(self, trial: PlannedTrial) -> Record | None:
        return self.store.read(trial.paper, trial.tier, trial.id)


def lock_path(trial: PlannedTrial) -> Path:
    """The lock on a trial, beside its working files."""
    return workdir(trial).with_suffix(".lock")
