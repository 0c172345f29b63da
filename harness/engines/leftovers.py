"""What killed processes leave behind, removed when the next run begins.

Nothing that a living process needs is touched: locks and marks have holders that can be asked for,
scratch folders bear the number of their process, and files that are being written under another
name last for moments, not for an hour.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from harness import paths
from harness.desk import workdir
from harness.engines.base import Group
from harness.engines.locks import Locks, machine

OLD = 3600.0
MARK = ".shared-"  # files that tell nodes of a cluster whether they see this folder


def scratch(kind: str) -> Path:
    """A new temporary folder of this process, which :func:`sweep` knows from others'."""
    return Path(tempfile.mkdtemp(prefix=f"{_prefix()}{os.getpid()}-{kind}-"))


def sweep(groups: Iterable[Group], locks: Locks) -> None:
    """Remove leftovers of runs that were killed while they worked on these papers and tiers."""
    trials = [trial for group in groups for trial in group]
    for folder in {workdir(trial).parent for trial in trials}:
        _free(folder.glob("*.lock"), locks)
        _remove_old(folder.glob(".*"), folder.glob("*.lock.*"))
    _free(paths.runs().glob(f"{MARK}*"), locks)
    _remove_old(path for path in paths.runs().glob(".*") if not path.name.startswith(MARK))
    for trial in trials:
        folder = workdir(trial)
        _remove_old(folder.glob(".*"), (folder / "checkpoints").glob("*.part"))
    for key in {trial.paper for trial in trials}:
        _remove_old((paths.results() / "figures" / key).glob(".*"))
    _remove_scratch()


def _free(found: Iterable[Path], locks: Locks) -> None:
    """Take over what a dead process held, and give it back."""
    for path in found:
        with contextlib.suppress(OSError):
            if locks.acquire(path):
                locks.release(path)


def _remove_old(*found: Iterable[Path]) -> None:
    for path in (path for paths_ in found for path in paths_):
        with contextlib.suppress(OSError):
            if path.is_file() and time.time() - path.stat().st_mtime > OLD:
                path.unlink()


def _remove_scratch() -> None:
    for folder, pid in _scratch_folders():
        if not psutil.pid_exists(pid):
            shutil.rmtree(folder, ignore_errors=True)


def _scratch_folders() -> Iterator[tuple[Path, int]]:
    """Those of processes of this machine, by their numbers."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_prefix()}*"):
        number = folder.name.removeprefix(_prefix()).partition("-")[0]
        if number.isdecimal():
            yield folder, int(number)


def _prefix() -> str:
    return f"harness-{machine()}-"
