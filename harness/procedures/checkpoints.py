"""Checkpoints, from which an interrupted trial goes on.

A file's name ends in a digest of its content: one that was cut short, or damaged later, is known
by that and left out, and the one before it is used. Files appear whole (written under another
name, flushed to the disk, renamed), so a reader never meets half of one.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

EVERY = 5.0
SHARE = 20.0
KEPT = 2
_log = logging.getLogger(__name__)
_VARIABLE = "HARNESS_CHECKPOINT_EVERY"


class Stopped(BaseException):
    """The trial was asked to stop, and its state is saved.

    Not an ``Exception``, so that a procedure that catches those does not go on instead.
    """


class Checkpoints:
    """The last two checkpoints of a trial, in a folder of their own.

    Args:
        folder: where they are, as ``<step>-<digest>.ckpt``.
        every: seconds between two of them, so that short epochs do not spend their time on
            writing; 0 writes every time, otherwise at least 20 times what writing the last one
            took pass. By default 5, or what the variable ``HARNESS_CHECKPOINT_EVERY`` says.
        stopping: whether the trial was asked to stop.
        clock: seconds from any origin.
    """

    def __init__(
        self,
        folder: Path,
        every: float | None = None,
        stopping: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self.every = float(os.environ.get(_VARIABLE, EVERY)) if every is None else every
        self.stopping = stopping
        self.clock = clock
        self.began = self.last = clock()
        self.cost = 0.0
        self.earlier = 0.0
        self.within = 0.0
        self.parts: dict[str, float] = {}
        self.used = False
        self.whole = self

    def named(self, name: str) -> Checkpoints:
        """Those of one training of several, in a folder of its own; all go when the trial is done.

        Raises:
            ValueError: for a name that is no folder's.
        """
        if not name or Path(name).name != name:
            raise ValueError(f"{name!r} cannot be the name of a folder")
        inner = Checkpoints(self.folder / name, self.every, self.stopping, self.clock)
        inner.whole = self.whole
        return inner

    @property
    def own(self) -> float:
        """Time spent on the trial but for its parts, with the runs that this one goes on from."""
        whole = self.whole
        return whole.earlier + whole.clock() - whole.began - whole.within

    @property
    def seconds(self) -> float:
        """What the trial takes by itself: its own time, and that of its parts whoever made them."""
        return self.own + sum(self.whole.parts.values())

    def account(self, part: str, seconds: float, began: float) -> None:
        """Reckon with a part that took ``seconds`` to make, instead of the time since ``began``."""
        self.within += self.clock() - began
        self.parts[part] = seconds

    def due(self) -> bool:
        """Whether the state should be written now."""
        pause = max(self.every, SHARE * self.cost) if self.every > 0 else 0.0
        return self.stopping() or self.clock() - self.last >= pause

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Write a checkpoint if one is due.

        Args:
            step: how far the trial is; checkpoints of later steps are preferred.
            state: tensors, numbers, text, and lists and dictionaries of these.

        Raises:
            Stopped: the trial was asked to stop; its state is on the disk.
        """
        if self.due():
            self.write(step, state)
        if self.stopping():
            raise Stopped(f"stopped after step {step}")

    def write(self, step: int, state: Mapping[str, Any]) -> None:
        """Write a checkpoint now, and remove all but the last two.

        Those of later steps were not gone on from, and go, too: they are of another run. One that
        cannot be written (the disk is full) is warned of, and the trial goes on: what it measures
        is worth more than its checkpoints.
        """
        began = self.clock()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            new = _write(self.folder, step, {"state": dict(state), "seconds": self.own})
            others = [path for path in self._newest_first() if path != new]
            later = [path for path in others if int(path.name.partition("-")[0]) >= step]
            for old in (*later, *[path for path in others if path not in later][KEPT - 1 :]):
                old.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("no checkpoint of step %d: %s", step, error.strerror)
        self.last = self.clock()
        self.cost = self.last - began

    def latest(self) -> Path | None:
        """The newest checkpoint that is whole."""
        return next((path for path in self._newest_first() if _intact(path)), None)

    def any(self) -> bool:
        """Whether there is something to go on from, be it of a named part."""
        return any(_intact(path) for path in self.folder.rglob("[0-9]*-*.ckpt"))

    def load(self) -> dict[str, Any] | None:
        """The state to go on from; ``None`` if the trial starts from the beginning.

        A whole file that is no checkpoint gives way to the one before.
        """
        for path in filter(_intact, self._newest_first()):
            try:
                return self.read(path)
            except Exception as error:  # unpickling raises whatever it likes
                _log.warning("%s cannot be used: %s", path.name, type(error).__name__)
        return None

    def read(self, path: Path) -> dict[str, Any]:
        """The state in a file."""
        import torch

        content = torch.load(path, weights_only=True, map_location="cpu")
        state: dict[str, Any] = content["state"]
        self.whole.earlier = max(self.whole.earlier, content["seconds"])
        self.whole.used = True
        return state

    def clear(self) -> None:
        """Remove all checkpoints: the trial is done, or starts afresh."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if path.is_dir() and not path.is_symlink():
                    self.named(path.name).clear()
                else:
                    path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # somebody is writing into it
                self.folder.rmdir()

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*-*.ckpt"), reverse=True)


def _write(folder: Path, step: int, content: Mapping[str, Any]) -> Path:
    import torch

    temporary = folder / f"{step:09d}.part"
    try:
        with temporary.open("wb") as file:
            torch.save(dict(content), file)
            file.flush()
            os.fsync(file.fileno())
        target = folder / f"{step:09d}-{_digest(temporary)}.ckpt"
        os.replace(temporary, target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, RuntimeError) and isinstance(error.__context__, OSError):
            raise error.__context__ from None  # torch hides what the disk said
        raise
    _flush_folder(folder)
    return target


def _flush_folder(folder: Path) -> None:
    """Make a rename last through a power cut; not every file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def _intact(path: Path) -> bool:
    try:
        return path.stem.rpartition("-")[2] == _digest(path)
    except OSError:
        return False
