"""Parts of a trial that others need as well: a trained teacher, an encoder, a solver's labels.

A part is made once for all trials that agree in what it depends on: its own settings, the code,
the data, the seed, and the environment that decides its last bits. It is kept in ``runs/`` and may
be lost at any time; then it is made anew. What a trial measures is the same bit for bit either
way: whether the part was made or found, the trial goes on with what was read from the part's
bytes, and with generators seeded afresh.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import torch

from harness.files import write_atomically
from harness.procedures.checkpoints import Checkpoints, Stopped
from harness.seeding import seed_all

T = TypeVar("T")
POLL = 0.1
DIGEST = 32
NAME = r"[a-z0-9][a-z0-9_.-]{0,63}"
KERNELS = ("ATEN_CPU", "MKL_CBWR", "ONEDNN_", "CUBLAS_")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """Where a trial's parts are kept, as ``<name>-<hash>.part``, and what all of them depend on.

    ``depends`` is plain data: paper, code, data, versions, device.
    """

    folder: Path
    depends: Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """One part, as one trial needs it, or several that are run together.

    Args:
        name: lower-case letters, digits, ``_``, ``.`` and ``-``.
        config: plain data: the settings that it depends on.
        seeds: of the trials, in their order: sums depend on the company they are vectorised in.
        device: where its tensors are wanted.
        workdir: the trial's folder.
        checkpoints: the trial's own, if it has any.
        store: where the part is kept; without, it is made each time.
    """

    name: str
    config: Mapping[str, Any]
    seeds: Sequence[int]
    device: torch.device
    workdir: Path
    checkpoints: Checkpoints | None = None
    store: Parts | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(NAME, self.name):
            raise ValueError(f"{self.name!r} names no part: lower-case letters, digits, '_.-'")

    def get(self, make: Callable[[Checkpoints | None, Path], T]) -> T:
        """The part, found or made.

        Args:
            make: gets checkpoints of the part's own, and a folder for working files.
        """
        began = self.checkpoints.clock() if self.checkpoints else 0.0
        content = self._read()
        if content is None:
            with self._alone():
                content = self._read() or self._made(make)
        found = torch.load(BytesIO(content), map_location=self.device, weights_only=True)
        if self.checkpoints:
            self.checkpoints.account(self.title, found["seconds"], began)
        seed_all(self.seeds[0], "after part", self.name)
        value: T = found["value"]
        return value

    @functools.cached_property
    def title(self) -> str:
        """The name and a hash of everything that the part depends on."""
        depends = {
            "name": self.name,
            "config": self.config,
            "seeds": list(self.seeds),
            "trial": self.store.depends if self.store else {},
        }
        try:
            text = json.dumps(depends, sort_keys=True)
        except TypeError as error:
            message = f"the settings of part {self.name!r} are plain data, as in a spec: {error}"
            raise TypeError(message) from error
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    @property
    def file(self) -> Path | None:
        return self.store.folder / f"{self.title}.part" if self.store else None

    def _read(self) -> bytes | None:
        """The part's bytes, if its file is there and whole."""
        try:
            found = self.file.read_bytes() if self.file else b""
        except OSError:
            return None
        digest, content = found[:DIGEST], found[DIGEST:]
        return content if _digest(content) == digest else None

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """While no other process makes this part; the lock goes with the process that holds it.

        On a file system without locks a part may be made twice, which costs time alone.

        Raises:
            Stopped: the trial was asked to stop while it waited.
        """
        from filelock import FileLock, Timeout

        if self.file is None:
            yield
            return
        lock = FileLock(self.file.with_suffix(".lock"))
        with contextlib.suppress(OSError, NotImplementedError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            while not lock.is_locked:
                with contextlib.suppress(Timeout):
                    lock.acquire(timeout=POLL, poll_interval=POLL)
                if not lock.is_locked and self._stopping():
                    raise Stopped(f"stopped while another trial made {self.title}")
        try:
            yield
        finally:
            lock.release()

    def _stopping(self) -> bool:
        return self.checkpoints is not None and self.checkpoints.stopping()

    def _made(self, make: Callable[[Checkpoints | None, Path], Any]) -> bytes:
        """Make the part, keep it if it can be written, and return its bytes."""
        folder = (
            self.store.folder / self.title if self.store else self.workdir / "parts" / self.name
        )
        outer, checkpoints = self.checkpoints, None
        if outer:  # in the part's folder, so that any trial which needs the part goes on from them
            again = (outer.every, outer.stopping, outer.clock)
            checkpoints = Checkpoints(folder / "checkpoints", *again)
        seed_all(self.seeds[0], "part", self.name)
        value = self._plain(make(checkpoints, folder))
        buffer = BytesIO()
        torch.save({"value": value, "seconds": checkpoints.seconds if checkpoints else 0.0}, buffer)
        content = buffer.getvalue()
        if self.file:
            try:
                write_atomically(self.file, _digest(content) + content)
            except OSError as error:
                _log.warning("part %s is not kept: %s", self.name, error.strerror)
        if outer:
            shutil.rmtree(folder, ignore_errors=True)
        return content

    def _plain(self, value: Any) -> Any:
        """Tensors by themselves: without gradients, or the storage they are views of."""
        if isinstance(value, torch.Tensor):
            return value.detach().cpu().clone()
        if isinstance(value, Mapping):
            return {key: self._plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self._plain(item) for item in value)
        if value is None or type(value) in (bool, int, float, str):
            return value
        raise TypeError(
            f"part {self.name!r} holds a {type(value).__name__}: it may hold tensors, numbers, "
            "text, and lists and dictionaries of these (of a model its state_dict())"
        )


def environment() -> dict[str, str]:
    """What else decides which kernels compute, and so a figure's last bits."""
    found = {name: value for name, value in os.environ.items() if name.startswith(KERNELS)}
    return {"capability": torch.backends.cpu.get_cpu_capability(), **found}


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST).digest()
