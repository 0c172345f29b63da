"""The local engine: every group of trials in its own process, forked from a warm server.

The fork server has torch and Lightning imported already, so a process costs milliseconds and not
the seconds of a fresh interpreter; nothing that one trial does can reach another.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from harness.catalog import Problem
from harness.engines.base import Event, Finished, Group, Reported, Started
from harness.plan import PlannedTrial
from harness.procedures.base import Progress
from harness.records import Record, RecordStore, Status
from harness.runner import Setting, failed, run_group, workdir

PRELOAD = ["harness.engines.preload", "harness.cli"]
GRACE = 10.0


class WorkerDied(RuntimeError):
    """The worker process ended without a record: killed, crashed or out of memory."""


class TimedOut(RuntimeError):
    """The trial ran longer than its tier allows."""


@dataclass
class _Worker:
    process: BaseProcess
    inbox: Connection
    group: Group
    started: datetime
    deadline: float
    records: dict[str, Record]


class LocalEngine:
    """Runs up to ``jobs`` groups at a time on this machine.

    Args:
        setting: what all trials share.
        store: where records are.
        jobs: worker processes at a time.
    """

    def __init__(self, setting: Setting, store: RecordStore, jobs: int) -> None:
        self.setting = setting
        self.store = store
        self.jobs = jobs
        self.workers: list[_Worker] = []
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(PRELOAD)

    def validate(self, key: str) -> list[Problem]:
        """Check the spec's classes in a worker, so that this process need not import torch."""
        inbox, outbox = self.context.Pipe(duplex=False)
        process = self.context.Process(target=_validate, args=(key, self.setting, outbox))
        process.start()
        outbox.close()
        try:
            return list(inbox.recv())
        except EOFError:
            raise WorkerDied("the process that checks the spec died") from None
        finally:
            process.join()
            inbox.close()

    def run(self, groups: Sequence[Group]) -> Iterator[Event]:
        """Yield events until all groups ended. Closing the iterator kills what still runs."""
        waiting = list(reversed(groups))
        try:
            while waiting or self.workers:
                while waiting and len(self.workers) < self.jobs:
                    worker = self._start(waiting.pop())
                    self.workers.append(worker)
                    yield from (Started(trial) for trial in worker.group)
                yield from self._listen()
        finally:
            self.kill()

    def interrupt(self, patience: float = GRACE) -> None:
        """Ask the workers to stop after writing a checkpoint; kill those that do not."""
        for worker in self.workers:
            _signal(worker.process, signal.SIGTERM)
        end = time.monotonic() + patience
        for worker in self.workers:
            worker.process.join(max(0.0, end - time.monotonic()))
        self.kill()

    def kill(self) -> None:
        """End all workers and whatever they started, at once."""
        for worker in self.workers:
            _signal(worker.process, signal.SIGKILL)
            worker.process.join()
            worker.inbox.close()
        self.workers.clear()

    def _start(self, group: Group) -> _Worker:
        inbox, outbox = self.context.Pipe(duplex=False)
        process = self.context.Process(
            target=_work, args=(list(group), self.setting, outbox), daemon=False
        )
        process.start()
        outbox.close()
        limit = sum(trial.timeout for trial in group)
        now = time.monotonic()
        return _Worker(process, inbox, group, datetime.now(UTC), now + limit, {})

    def _listen(self) -> Iterator[Event]:
        """Wait for messages, ends and deadlines, and turn them into events."""
        next_deadline = min(worker.deadline for worker in self.workers)
        sources = [w.inbox for w in self.workers]
        ready = wait(sources, timeout=max(0.0, next_deadline - time.monotonic()))
        for worker in list(self.workers):
            if worker.inbox in ready:
                yield from self._receive(worker)
            elif time.monotonic() > worker.deadline:
                seconds = sum(trial.timeout for trial in worker.group)
                yield from self._end(worker, TimedOut(f"stopped after {seconds:.0f} s"))

    def _receive(self, worker: _Worker) -> Iterator[Event]:
        trials = {trial.id: trial for trial in worker.group}
        try:
            message = worker.inbox.recv()
        except (EOFError, OSError):
            worker.process.join(5.0)
            yield from self._end(worker, WorkerDied(_cause(worker.process)))
            return
        if isinstance(message, Record):
            worker.records[message.trial] = message
            yield Finished(trials[message.trial], message)
        else:
            trial_id, progress = message
            yield Reported(trials[trial_id], progress)

    def _end(self, worker: _Worker, cause: Exception) -> Iterator[Event]:
        """Clean up after a worker, and record what it left without a record."""
        _signal(worker.process, signal.SIGKILL)
        worker.process.join()
        worker.inbox.close()
        self.workers.remove(worker)
        status: Status = "timed out" if isinstance(cause, TimedOut) else "failed"
        for trial in worker.group:
            if trial.id in worker.records:
                continue
            seconds = (datetime.now(UTC) - worker.started).total_seconds()
            record = failed(trial, self.setting, cause, worker.started, seconds, status)
            self.store.write(record)
            yield Finished(trial, record)


def _signal(process: BaseProcess, number: signal.Signals) -> None:
    """Signal a worker and all it started: each worker leads a process group.

    The group is signalled even when the worker itself is gone, for what it left behind.
    """
    if process.pid is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        if process.is_alive():  # it may not have become a group's leader yet
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)


def _cause(process: BaseProcess) -> str:
    code = process.exitcode
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return f"the worker was killed by {name}{hint}"
    return f"the worker exited with code {code}"


def _validate(key: str, setting: Setting, outbox: Connection) -> None:
    os.environ.update(setting.environment)
    from harness.validate import validate

    outbox.send(validate(key))


def _work(group: list[PlannedTrial], setting: Setting, outbox: Connection) -> None:
    """In the worker: run the group with its output in the log, and send what happens."""
    os.environ.update(setting.environment)
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder = workdir(group[0])
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("a", buffering=1) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        sys.stdout = sys.stderr = log

        def report(trial: str, progress: Progress) -> None:
            outbox.send((trial, progress))

        for record in run_group(group, setting, report):
            outbox.send(record)
    outbox.close()
