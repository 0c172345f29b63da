"""A keeper process watches over one worker at a time and lets nothing of it escape.

It enforces limits of time and memory, bounds the log, passes on the request to stop, adopts the
processes that the worker leaves behind (also those in sessions of their own) and ends all of them
with the worker. When the process that runs the trials dies, the keeper notices that its pipe is
closed and ends the worker: no trial runs on unseen.

Memory is the resident memory of the worker and all its descendants, read every tenth of a second
(pages that they share counted once). An address-space limit (RLIMIT_AS) would count what CUDA and
memory-mapped data only reserve, and a cgroup needs rights that few users have.
"""

from __future__ import annotations

import contextlib
import faulthandler
import mmap
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Literal

import psutil

from harness.engines.kernel import adopt_orphans, die_with_parent, oom_kills, prefer_as_oom_victim
from harness.engines.leftovers import scratch
from harness.engines.logs import BoundedLog
from harness.resolve import Limits

TICK = 0.1
SHARE = 20.0  # of the time, at most one part in so many is spent on looking at memory
END_PATIENCE = 5.0

Work = Callable[[Callable[[], bool]], None]
Order = Literal["stop", "kill"]


@dataclass(frozen=True)
class End:
    """How a worker ended: ``error`` is the class name of what is recorded for its trials.

    ``last``: its keeper ends too, for only one whose worker went by itself and left nothing
    behind is given another.
    """

    error: Literal["", "TimedOut", "OutOfMemory", "WorkerDied"] = ""
    message: str = ""
    last: bool = False


def become_keeper() -> None:
    """Make this process one that :func:`keep` may be called in."""
    os.setsid()  # Ctrl-C on the terminal is not for the workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    adopt_orphans()


def keep(work: Work, limits: Limits, log: Path, orders: Connection) -> End:
    """Run ``work`` in a forked worker, and send an :class:`End` when nothing of it is left.

    Args:
        work: gets a function that says whether it was asked to stop.
        log: what the worker and its children print, bounded.
        orders: ``"stop"`` and ``"kill"`` come from here, and the end is sent here.
    """
    output, printing = os.pipe()
    temporary = str(scratch("trial"))
    with mmap.mmap(-1, 1) as flag:
        pid = os.fork()
        if pid == 0:
            os.close(output)
            _run(work, flag, printing, temporary)
        os.close(printing)
        end = _Keeper(pid, limits, orders, flag, output, BoundedLog(log)).watch()
    os.close(output)
    shutil.rmtree(temporary, ignore_errors=True)
    with contextlib.suppress(OSError):  # nobody is there to be told
        orders.send(end)
    return end


def _run(work: Work, flag: mmap.mmap, printing: int, temporary: str) -> None:
    """In the worker; never returns."""
    code = 1
    try:
        die_with_parent()
        for number in (signal.SIGTERM, signal.SIGHUP):  # ignored by the keeper
            signal.signal(number, signal.SIG_DFL)
        prefer_as_oom_victim()
        os.dup2(printing, 1)
        os.dup2(printing, 2)
        os.close(printing)
        sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1, closefd=False)
        faulthandler.enable(file=2)
        os.environ["TMPDIR"] = tempfile.tempdir = temporary
        work(lambda: flag[0] != 0)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:  # threads and children left behind are not waited for
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        os._exit(code)


@dataclass
class _Keeper:
    pid: int
    limits: Limits
    orders: Connection
    flag: mmap.mmap
    output: int
    log: BoundedLog

    def watch(self) -> End:
        """Until the worker ends or has to be ended; then end all that it started."""
        self.worker = psutil.Process(self.pid)
        ooms = oom_kills()
        status: int | None = None
        end: End | None = None
        sources, closing = self._sources()
        deadline, look_again = time.monotonic() + self.limits.timeout, 0.0
        while end is None and status is None:
            ready = wait(sources, timeout=TICK)
            if self.output in ready and not self._copy():
                sources.remove(self.output)
            if self.orders in ready and self._order() == "kill":
                end = End("WorkerDied", "stopped")
            if time.monotonic() > deadline:
                end = End("TimedOut", f"stopped after {self.limits.timeout:.0f} s")
            if self.limits.memory and time.monotonic() > look_again:
                began = time.monotonic()
                end = self._over_memory(self.limits.memory) or end
                look_again = time.monotonic() + max(TICK, SHARE * (time.monotonic() - began))
            status = self._ended()
        gone = self._end_all()
        closing()
        while self._copy():
            pass
        self.log.close()
        end = end or _verdict(status or 0, oom_kills() > ooms)
        return replace(end, last=bool(end.error) or not gone)

    def _sources(self) -> tuple[list[Connection | int], Callable[[], None]]:
        """What to wait for; a handle of the worker wakes at its end, where the system has these."""
        sources: list[Connection | int] = [self.output, self.orders]
        os.set_blocking(self.output, False)
        try:
            handle = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            return sources, lambda: None
        return [*sources, handle], lambda: os.close(handle)

    def _copy(self) -> bool:
        """Move output to the log; whether there was any."""
        try:
            text = os.read(self.output, 1 << 16)
        except BlockingIOError:
            return False
        self.log.write(text)
        return bool(text)

    def _order(self) -> Order:
        try:
            order: Order = self.orders.recv()
        except (EOFError, OSError):
            return "kill"
        if order == "stop":
            self.flag[0] = 1
        return order

    def _ended(self) -> int | None:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return status if pid else None

    def _over_memory(self, limit: float) -> End | None:
        if _used(self.worker, "rss") <= limit:
            return None  # this counts shared pages several times: a cheap upper bound
        # Processes that end between two readings leave their shares to those read later, so that
        # the first sum may be too large.
        used = min(_used(self.worker, "pss") for _ in range(2))
        if used <= limit:
            return None
        return End("OutOfMemory", f"used {used / 1e9:.2f} GB, the limit is {limit / 1e9:.2f} GB")

    def _end_all(self) -> bool:
        """Kill and reap descendants, and new ones, until none is left; whether it came to that."""
        give_up = time.monotonic() + END_PATIENCE
        while time.monotonic() < give_up:
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                return True
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    process.kill()
            time.sleep(0.002)
        return False


def _family(worker: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return [worker, *worker.children(recursive=True)]
    return []


def _used(worker: psutil.Process, kind: Literal["rss", "pss"]) -> int:
    return sum(_memory(process, kind) for process in _family(worker))


def _memory(process: psutil.Process, kind: Literal["rss", "pss"]) -> int:
    """Bytes; 0 for a process that has ended, and ``rss`` where the system knows no ``pss``."""
    try:
        found = process.memory_info() if kind == "rss" else process.memory_full_info()
    except (psutil.Error, OSError):
        return 0
    return int(getattr(found, kind, found.rss))


def _verdict(status: int, out_of_memory: bool) -> End:
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return End()
    if code < 0:
        name = signal.Signals(-code).name
        if code == -signal.SIGKILL and out_of_memory:
            return End("OutOfMemory", "killed by the system, which ran out of memory")
        return End("WorkerDied", f"the worker was killed by {name}")
    return End("WorkerDied", f"the worker exited with code {code}")
