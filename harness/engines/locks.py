"""Locks on trials, so that two runs in one checkout never work on the same one.

A lock is a file that only one process can create (``O_EXCL``), which also holds on file systems
where ``flock`` does not. Its modification time is refreshed as long as its holder lives. A lock is
stale when its holder is known to be dead (same machine), or was not refreshed for a while (any
other machine); it is then taken over, by one process only. Machines are told apart by a hash, no
name of one is written.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import threading
import uuid
from pathlib import Path

import psutil

BEAT = 10.0
STALE = 90.0


class Locks:
    """The locks that this process holds, refreshed by a thread while there are any.

    Args:
        beat: seconds between two refreshes.
        stale: seconds without a refresh after which a lock from another machine is stale.
    """

    def __init__(self, beat: float = BEAT, stale: float = STALE) -> None:
        self.beat = beat
        self.stale = stale
        self.token = uuid.uuid4().hex
        self.held: set[Path] = set()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self, path: Path) -> bool:
        """Take the lock at ``path``, if no living process has it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if not (_create(path, self._content()) or self._take_over(path)):
            return False
        self.held.add(path)
        if self._thread is None:
            self._thread = threading.Thread(target=self._refresh, name="locks", daemon=True)
            self._thread.start()
        return True

    def release(self, path: Path) -> None:
        """Give a lock back; one that another process has taken over meanwhile is left alone."""
        self.held.discard(path)
        if _read(path).get("token") == self.token:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Give all locks back."""
        self._closed.set()
        for path in list(self.held):
            self.release(path)

    def _content(self) -> str:
        holder = {"token": self.token, "machine": machine(), "pid": os.getpid()}
        return json.dumps(holder | {"began": _began(os.getpid())})

    def _refresh(self) -> None:
        while not self._closed.wait(self.beat):
            for path in list(self.held):
                with contextlib.suppress(OSError):
                    os.utime(path)

    def _take_over(self, path: Path) -> bool:
        """Replace a stale lock. Who creates the file that stands for this replacement does it."""
        holder = _read(path)
        if not self._is_stale(path, holder):
            return False
        right = path.with_name(f"{path.name}.{holder.get('token', 'unreadable')}")
        if not _create(right, self._content()):
            if _age(right) > self.stale:  # whoever had the right died before using it
                right.unlink(missing_ok=True)
            return False
        try:
            if _read(path) != holder:
                return False
            mine = path.with_name(f"{path.name}.{self.token}")
            mine.write_text(self._content())
            os.replace(mine, path)
            return True
        finally:
            right.unlink(missing_ok=True)

    def _is_stale(self, path: Path, holder: dict[str, object]) -> bool:
        if holder.get("machine") == machine():
            return _began(holder.get("pid")) != holder.get("began")
        return _age(path) > self.stale


@functools.cache
def machine() -> str:
    """A hash that tells apart machines, their restarts, and containers on them."""
    parts = [platform.node()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        with contextlib.suppress(OSError):
            parts.append(os.readlink(path) if "/ns/" in path else Path(path).read_text())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _began(pid: object) -> str | None:
    """When a living process started, for a process number alone may be in use again."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _began_elsewhere(pid)
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _began_elsewhere(pid: object) -> str | None:
    """The same where there is no /proc."""
    try:
        return str(round(psutil.Process(int(str(pid))).create_time()))
    except (psutil.Error, ValueError):
        return None


def _create(path: Path, content: str) -> bool:
    """Create a file with content, unless there is one.

    The content is there from the beginning (written under another name, then linked), so that a
    lock whose holder was killed at this moment is never empty.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    temporary.write_text(content)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        return _create_exclusively(path, content)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _create_exclusively(path: Path, content: str) -> bool:
    try:
        with path.open("x") as file:
            file.write(content)
    except FileExistsError:
        return False
    return True


def _read(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _age(path: Path) -> float:
    """Seconds since the last refresh by the clock of the file system; clocks may disagree."""
    probe = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except OSError:
        return 0.0
    finally:
        probe.unlink(missing_ok=True)
