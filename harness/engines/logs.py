"""Logs of bounded size: whatever a trial prints, its end stays readable and the disk free."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

LIMIT = 1 << 20


class BoundedLog:
    """Appends to a file; at the limit the file becomes ``<name>.old`` and a new one is begun.

    Writing never fails: a log that cannot be kept, because the disk is full, is not worth a trial.
    """

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        self.path = path
        self.limit = limit
        self.handle: int | None = None
        self.size = 0
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open(os.O_APPEND)

    def _open(self, how: int) -> None:
        self.handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | how, 0o644)
        self.size = os.fstat(self.handle).st_size

    def write(self, text: bytes) -> None:
        with contextlib.suppress(OSError):
            if self.size + len(text) > self.limit:
                self.close()
                os.replace(self.path, self.path.with_suffix(f"{self.path.suffix}.old"))
                self._open(os.O_TRUNC)
            if self.handle is not None:
                self.size += os.write(self.handle, text)

    def close(self) -> None:
        if self.handle is not None:
            os.close(self.handle)
            self.handle = None
