"""The local engine: every group of trials in its own process, forked from a warm server.

The fork server has torch and Lightning imported already, so a process costs milliseconds and not
the seconds of a fresh interpreter; nothing that one trial does can reach another. A keeper whose
worker ended by itself is given the next group, for it has itself run nothing of a trial: that
saves one of the two processes, half of what an empty trial costs.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import recv_handle, send_handle

from harness import paths
from harness.desk import Setting, workdir
from harness.engines.base import (
    Event,
    Finished,
    Group,
    Interrupted,
    Reported,
    Started,
    alone_last,
)
from harness.engines.forked import ask, end_group, server, start
from harness.engines.keeper import End, Order, become_keeper, keep
from harness.engines.leftovers import sweep
from harness.engines.locks import Locks
from harness.engines.queue import Queue
from harness.plan import PlannedTrial
from harness.privacy import scrub
from harness.procedures.base import Progress
from harness.procedures.checkpoints import Stopped
from harness.records import Failure, Record, RecordStore, Status
from harness.runner import failed, run_group
from harness.specs.catalog import Problem

GRACE = 30.0
TICK = 0.2
NO_RESULT = "the worker ended without a result"
SLOW = (
    "it was getting on: on a slow or busy machine, `--timeout 3` allows three times as long "
    "(`TIMEOUT=3` with make), and the trial goes on from its last checkpoint"
)


@dataclass(frozen=True)
class _Keeper:
    """A keeper's process, and where it gets its orders and says how workers ended."""

    process: BaseProcess
    orders: Connection


@dataclass
class _Worker:
    """A group in a worker, and its keeper; ``left`` are the trials without a record."""

    keeper: _Keeper
    events: Connection
    group: Group
    started: datetime
    left: dict[str, PlannedTrial] = field(default_factory=dict)
    unwritten: str = ""
    progress: dict[str, Progress] = field(default_factory=dict)


class LocalEngine:
    """Runs up to ``jobs`` groups at a time on this machine.

    Args:
        setting: what all trials share.
        store: where records are.
        jobs: worker processes at a time.
        grace: seconds that trials get to save their state when the run is stopped.
        exclusive: lock the trials, so that no other run works on them (but on other nodes).
        cpus: processors of each job; a group whose limits say more takes the room of several.
    """

    def __init__(
        self,
        setting: Setting,
        store: RecordStore,
        jobs: int,
        grace: float = GRACE,
        exclusive: bool = True,
        cpus: int = 1,
    ) -> None:
        self.setting = setting
        self.store = store
        self.jobs = jobs
        self.grace = grace
        self.exclusive = exclusive
        self.cpus = cpus
        self.held: Group | None = None
        self.workers: list[_Worker] = []
        self.idle: list[_Keeper] = []
        self.stopping = 0
        self._unfinished = False
        self._kill_at = float("inf")
        self.context = server()

    def validate(self, key: str) -> list[Problem]:
        """Check the spec's classes in a worker, so that this process need not import torch."""
        return list(ask(_validate, key))

    def run(self, groups: Sequence[Group]) -> Iterator[Event]:
        """Yield events until all groups ended. Closing the iterator kills what still runs.

        Raises:
            Interrupted: the run was stopped and trials are left.
        """
        locks = Locks() if self.exclusive else None
        if locks:
            sweep(groups, locks)
        queue = Queue(alone_last(groups), self.store, self.setting.force, locks)
        try:
            while self.workers or ((queue or self.held) and not self.stopping):
                while not self.stopping and (group := self._next(queue)):
                    self.workers.append(self._start(group))
                    if self.stopping:  # since this round began: it has not been told
                        self._order(self.workers[-1].keeper, "stop")
                    yield from (Started(trial) for trial in group)
                yield from queue.joined(self._listen())
            if queue or self.held or self._unfinished:
                raise Interrupted("stopped; the same command goes on where this run was")
        finally:
            self._kill()
            queue.close()

    def _next(self, queue: Queue) -> Group | None:
        """The next group if there is room for it; those behind one that is too large wait."""
        free = self.jobs - sum(self._size(worker.group) for worker in self.workers)
        if free <= 0:
            return None
        group, self.held = self.held or queue.take(), None
        if group and self._size(group) > free:
            self.held, group = group, None
        return group

    def _size(self, group: Group) -> int:
        """How many of the jobs' rooms a group takes: all of them where it is to be alone."""
        limits = group[0].limits
        return self.jobs if limits.alone else min(self.jobs, math.ceil(limits.cpus / self.cpus))

    def stop(self) -> None:
        """Let the running trials save their state and end; the second time, end them at once."""
        self.stopping += 1
        self._kill_at = time.monotonic() + (self.grace if self.stopping == 1 else 0.0)
        for worker in self.workers:
            self._order(worker.keeper, "stop")

    def _kill(self) -> None:
        """End all workers and whatever they started, at once."""
        keepers = [*self.idle, *(worker.keeper for worker in self.workers)]
        for keeper in keepers:
            self._order(keeper, "kill")
        for keeper in keepers:
            self._reap(keeper)
        for worker in self.workers:
            worker.events.close()
        self.workers.clear()
        self.idle.clear()

    @staticmethod
    def _order(keeper: _Keeper, order: Order) -> None:
        with contextlib.suppress(OSError):  # it has ended
            keeper.orders.send(order)

    @staticmethod
    def _reap(keeper: _Keeper) -> None:
        keeper.process.join(10.0)
        if keeper.process.is_alive():  # its worker dies with it
            keeper.process.kill()
            keeper.process.join()
        keeper.orders.close()

    def _start(self, group: Group) -> _Worker:
        """Hand a group to a keeper, with the pipe that its worker alone will write to."""
        events, outbox = self.context.Pipe(duplex=False)
        keeper = self._keeper()
        keeper.orders.send(list(group))
        send_handle(keeper.orders, outbox.fileno(), keeper.process.pid)
        outbox.close()
        left = {trial.id: trial for trial in group}
        return _Worker(keeper, events, group, datetime.now(UTC), left)

    def _keeper(self) -> _Keeper:
        """One that has nothing to do, or a new one."""
        while self.idle:
            keeper = self.idle.pop()
            if keeper.process.is_alive():
                return keeper
            self._reap(keeper)  # somebody killed it
        orders, theirs = self.context.Pipe()
        process = start(self.context, _keep, self.setting, theirs)
        theirs.close()
        return _Keeper(process, orders)

    def _listen(self) -> Iterator[Event]:
        """Wait a moment for messages and ends, and turn them into events."""
        if not self.workers:
            time.sleep(TICK)
            return
        if time.monotonic() > self._kill_at:
            for worker in self.workers:
                self._order(worker.keeper, "kill")
            self._kill_at = float("inf")
        sources = [c for w in self.workers for c in (w.events, w.keeper.orders)]
        ready = wait(sources, timeout=TICK)
        for worker in list(self.workers):
            if worker.events in ready:
                yield from self._receive(worker)
            elif worker.keeper.orders in ready:
                yield from self._end(worker)

    def _receive(self, worker: _Worker) -> Iterator[Event]:
        """One message: progress, the id of a trial whose record is written, or why one is not."""
        try:
            trial_id, news = worker.events.recv()
        except (EOFError, OSError):  # cut off; the keeper says why
            yield from self._end(worker)
            return
        trial = next(t for t in worker.group if t.id == trial_id)
        if isinstance(news, Progress):
            worker.progress[trial_id] = news
            yield Reported(trial, news)
        elif news:
            worker.unwritten = news
        else:
            yield from self._recorded(worker, trial)

    def _recorded(self, worker: _Worker, trial: PlannedTrial) -> Iterator[Event]:
        record = self.store.read(trial.paper, trial.tier, trial.id)
        if record is not None and trial.id in worker.left:
            del worker.left[trial.id]
            yield Finished(trial, record)

    def _end(self, worker: _Worker) -> Iterator[Event]:
        """Clean up after a worker, and record what it left without a record."""
        try:
            end = worker.keeper.orders.recv()
        except (EOFError, OSError):
            end = End("WorkerDied", "its keeper was killed", last=True)
            end_group(worker.keeper.process)
        if end.last:
            self._reap(worker.keeper)
        with contextlib.suppress(EOFError, OSError):
            while worker.left and worker.events.poll():
                yield from self._receive_last(worker)
        worker.events.close()
        self.workers.remove(worker)
        if not end.last:
            self.idle.append(worker.keeper)
        for trial in list(worker.left.values()):
            written = self.store.read(trial.paper, trial.tier, trial.id)
            if written is not None and _since(written, worker.started):
                yield Finished(trial, written)  # killed between writing it and saying so
            elif self.stopping:
                self._unfinished = True
            else:
                yield Finished(trial, self._failed(worker, trial, end))

    def _receive_last(self, worker: _Worker) -> Iterator[Event]:
        trial_id, news = worker.events.recv()
        if trial_id in worker.left and not isinstance(news, Progress):
            worker.unwritten = worker.unwritten or news
            yield from self._recorded(worker, worker.left[trial_id]) if not news else ()

    def _failed(self, worker: _Worker, trial: PlannedTrial, end: End) -> Record:
        """Write the record of a trial whose worker could not."""
        failure = Failure(type=end.error or "WorkerDied", message=end.message or NO_RESULT)
        if worker.unwritten:
            failure = Failure(type="RecordNotWritten", message=worker.unwritten)
        status: Status = "timed out" if end.error == "TimedOut" else "failed"
        if status == "timed out" and (reached := worker.progress.get(trial.id)):
            text = f"{failure.message} at step {reached.step} of {reached.steps}; {SLOW}"
            failure = Failure(type=failure.type, message=text)
        seconds = (datetime.now(UTC) - worker.started).total_seconds()
        record = failed(trial, self.setting, failure, worker.started, seconds, status)
        try:
            self.store.write(record)
        except OSError as problem:
            text = f"{failure.message} (nor could this be recorded: {problem.strerror})"
            failure = Failure(type=failure.type, message=text)
            return record.model_copy(update={"error": failure})
        return record


def _since(record: Record, start: datetime) -> bool:
    return datetime.fromisoformat(record.resources.ended) >= start.replace(microsecond=0)


def _validate(key: str) -> list[Problem]:
    from harness.specs.validate import validate

    return validate(key)


def _keep(setting: Setting, orders: Connection) -> None:
    """In the keeper's process: one group after another, each in a worker of its own."""
    paths.adopt(setting.environment)
    become_keeper()
    last = False
    while not last and (group := _next_group(orders)):
        events = Connection(recv_handle(orders), readable=False)
        work = functools.partial(_work, group, setting, events, orders)
        seconds = sum(trial.limits.timeout for trial in group)
        limits = replace(group[0].limits, timeout=seconds)
        last = keep(work, limits, workdir(group[0]) / "log.txt", orders).last
        events.close()


def _next_group(orders: Connection) -> list[PlannedTrial] | None:
    """The next trials to run; ``None`` when there will be none."""
    with contextlib.suppress(EOFError, OSError):
        while (order := orders.recv()) != "kill":
            if order != "stop":  # meant for a worker that had just ended
                return list(order)
    return None


def _work(
    group: list[PlannedTrial],
    setting: Setting,
    events: Connection,
    orders: Connection,
    stopping: Callable[[], bool],
) -> None:
    """In the worker: a trial's progress, then ``""`` when its record is written."""
    orders.close()
    left = [trial.id for trial in group]

    def report(trial: str, progress: Progress) -> None:
        events.send((trial, progress))

    try:
        for record in run_group(group, setting, report, stopping):
            left.remove(record.trial)
            events.send((record.trial, ""))
    except OSError as error:
        reason = f"{error.strerror}: {error.filename or ''}".rstrip(": ")
        events.send((left[0], scrub(reason)))
    except Stopped as stopped:
        print(stopped)
