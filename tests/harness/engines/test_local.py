"""Workers on this machine, asked one question."""

from __future__ import annotations

import gc
import os
import signal

import pytest

from harness import paths
from harness.engines.forked import WorkerDied, ask


def test_a_worker_that_is_asked_works_on_the_project_at_hand(monkeypatch, tmp_path) -> None:
    assert ask(paths.root) == paths.root(), "this starts the server that later ones come from"
    monkeypatch.setenv("HARNESS_ROOT", str(tmp_path))
    assert ask(paths.root) == tmp_path.resolve()


def test_the_server_has_come_to_the_end_of_what_it_prepares() -> None:
    """It says nothing of an import that fails, and goes on with whatever stood before that."""
    assert ask(gc.isenabled)
    assert ask(gc.get_freeze_count) > 1000


def test_a_server_that_was_killed_is_started_again() -> None:
    os.kill(ask(os.getppid), signal.SIGKILL)
    assert ask(os.getpid) != os.getpid()


def test_a_worker_that_dies_of_a_script_without_a_guard_says_what_it_needs() -> None:
    with pytest.raises(WorkerDied, match=r"asked to exit died; a script .* under `if __name__"):
        ask(os._exit, 3)
