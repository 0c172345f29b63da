"""Processes forked from a server that has torch imported, so that each costs milliseconds."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from harness import paths
from harness.engines.interrupts import deaf

PATIENCE = 30.0
PRELOAD = ["harness.engines.preload"]
GUARD = (
    'a script that runs trials does so under `if __name__ == "__main__":`, for workers import it'
)


class WorkerDied(RuntimeError):
    """The process that checks a spec ended without an answer."""


def server() -> Any:
    """Processes from the fork server, which hears no Ctrl-C, not even while it starts."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    resource_tracker.ensure_running()  # the server starts it, too, and would hear again
    with deaf():
        forkserver.ensure_running()
    return context


def start(context: Any, target: Callable[..., None], *arguments: Any) -> BaseProcess:
    """A new process; if somebody has killed the server that forks it, from a new server.

    Raises:
        WorkerDied: that one gave none either.
    """
    give_up = time.monotonic() + PATIENCE
    while True:
        process: BaseProcess = context.Process(target=target, args=arguments, daemon=False)
        try:
            process.start()
            return process
        except (EOFError, OSError) as error:
            if time.monotonic() > give_up:
                raise WorkerDied(f"the server that starts workers was killed ({error!r})") from None
            time.sleep(0.1)  # it may not have ended yet
            server()


def end_group(keeper: BaseProcess) -> None:
    """End what a killed keeper leaves: its worker dies with it, its worker's children do not."""
    with contextlib.suppress(OSError, TypeError):  # there is nothing left
        os.killpg(keeper.pid, signal.SIGKILL)  # type: ignore[arg-type]


def ask(question: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a worker and return its answer: this process need not import torch.

    Raises:
        WorkerDied: it gave none.
    """
    asked = question.__name__.strip("_")
    context = server()
    inbox, outbox = context.Pipe(duplex=False)
    process = start(context, _answer, outbox, paths.environment(), question, arguments)
    outbox.close()
    try:
        return inbox.recv()
    except EOFError:
        raise WorkerDied(f"the process that was asked to {asked} died; {GUARD}") from None
    finally:
        process.kill()  # it has answered, or nobody waits for that any more
        process.join()
        inbox.close()


def _answer(
    outbox: Connection,
    environment: Mapping[str, str],
    question: Callable[..., Any],
    arguments: Sequence[Any],
) -> None:
    """Nothing to whoever has gone: Ctrl-C ends a program while its fork server is starting."""
    asker = multiprocessing.parent_process()
    if asker is None or asker.is_alive():
        paths.adopt(environment)  # the server was started with those of its first user
        answer = question(*arguments)
        with contextlib.suppress(BrokenPipeError):
            outbox.send(answer)
