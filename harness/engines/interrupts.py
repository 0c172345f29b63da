"""Ctrl-C, a shutdown or a closed terminal stop a run; nothing that was done is lost."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from harness.engines.base import Engine

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def deaf() -> Iterator[None]:
    """While inside, Ctrl-C waits; programs that are started meanwhile never hear it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def stoppable(engine: Engine, announce: Callable[[str], None]) -> Iterator[None]:
    """While inside, the first signal stops the engine, the second at once, the third kills.

    A signal that is ignored (``nohup``) stays ignored. Outside the main thread, where Python
    handles no signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked += 1
        engine.stop()
        if asked == 1:
            announce("stopping: running trials save their state (once more: at once)")
        else:
            for name in SIGNALS:
                signal.signal(name, signal.SIG_DFL)

    handled = {n: old for n in SIGNALS if (old := signal.getsignal(n)) is not signal.SIG_IGN}
    for number in handled:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, old in handled.items():
            signal.signal(number, old)
