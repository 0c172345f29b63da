"""Logs of bounded size: whatever a trial prints, its end stays readable and the disk free.

They are sent to others when something went wrong, and say nothing of this machine, either.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from harness.privacy import scrub

LIMIT = 1 << 20
LONGEST = 1 << 16  # bytes of a line that are waited for


class BoundedLog:
    """Appends to a file; at the limit the file becomes ``<name>.old`` and a new one is begun.

    Writing never fails: a log that cannot be kept, because the disk is full, is not worth a trial.
    """

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        self.path = path
        self.limit = limit
        self.handle: int | None = None
        self.size = 0
        self.begun = b""
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open(os.O_APPEND)

    def _open(self, how: int) -> None:
        self.handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | how, 0o644)
        self.size = os.fstat(self.handle).st_size

    def write(self, text: bytes) -> None:
        """Write the lines that are whole by now; the rest waits, for a path may go on."""
        text = self.begun + text
        end = 1 + max(text.rfind(b"\n"), text.rfind(b"\r"))
        if not end and len(text) > LONGEST:
            end = len(text)
        self.begun = text[end:]
        if end:
            self._write(_scrubbed(text[:end]))

    def _write(self, text: bytes) -> None:
        with contextlib.suppress(OSError):
            if self.size + len(text) > self.limit:
                self._close()
                os.replace(self.path, self.path.with_suffix(f"{self.path.suffix}.old"))
                self._open(os.O_TRUNC)
            if self.handle is not None:
                self.size += os.write(self.handle, text)

    def close(self) -> None:
        self._write(_scrubbed(self.begun))
        self.begun = b""
        self._close()

    def _close(self) -> None:
        if self.handle is not None:
            os.close(self.handle)
            self.handle = None


def _scrubbed(text: bytes) -> bytes:
    return scrub(text.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
