"""Where a trial is worked on: its folder, its checkpoints, the rows of its curves."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import paths, provenance
from harness.files import write_atomically
from harness.plan import PlannedTrial
from harness.privacy import scrubbed
from harness.procedures.base import Progress
from harness.procedures.checkpoints import Checkpoints

if TYPE_CHECKING:  # the process that plans and displays does not need torch
    from harness.procedures.parts import Parts

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setting:
    """What is the same for all trials of a run.

    Attributes:
        roots: folder of each catalogue entry in use, its checksums verified.
        threads: for each worker.
        accelerator: ``auto``, ``cpu`` or ``cuda``.
        commit, dirty: the state of the checkout when the run began (``""``, ``None``: unknown).
        force: run from the beginning, whatever an interrupted run left.
        share: take parts that other trials made; otherwise each trial makes its own.
        environment: ``HARNESS_…`` variables, for workers are forked from a server that may have
            been started with others.
    """

    roots: Mapping[str, Path]
    threads: int = 1
    accelerator: str = "auto"
    commit: str = ""
    dirty: bool | None = False
    force: bool = False
    share: bool = True
    environment: Mapping[str, str] = field(default_factory=paths.environment)


def workdir(trial: PlannedTrial) -> Path:
    """Where a trial's checkpoints, curves and log are."""
    return paths.workdir(trial.paper, trial.tier, trial.id)


@dataclass(frozen=True)
class Desk:
    """Where a trial is worked on: its folder, and what an interrupted run left there."""

    trial: PlannedTrial
    folder: Path
    accelerator: str
    started: datetime
    checkpoints: Checkpoints

    @classmethod
    def prepare(
        cls, trial: PlannedTrial, setting: Setting, stopping: Callable[[], bool] = lambda: False
    ) -> Desk:
        """Open the folder; checkpoints of other code, versions or devices are not used.

        The folder's name says what is measured (the trial's id), not with what.
        """
        folder = workdir(trial)
        folder.mkdir(parents=True, exist_ok=True)
        accelerator = _accelerator(setting)
        made_by = {
            "code": trial.code,
            "versions": provenance.versions(),
            "accelerator": accelerator,
        }
        checkpoints = Checkpoints(folder / "checkpoints", stopping=stopping)
        desk = cls(trial, folder, accelerator, datetime.now(UTC), checkpoints)
        note = folder / "made_by.json"
        found = _read_json(note)
        if setting.force or found.get("made_by") != made_by:
            desk.clear()
        elif checkpoints.any():
            return replace(desk, started=datetime.fromisoformat(found["started"]))
        started = desk.started.isoformat(timespec="seconds")
        write_atomically(note, json.dumps({"made_by": made_by, "started": started}))
        return desk

    def parts(self, setting: Setting) -> Parts | None:
        """Where parts that trials share are kept.

        ``None`` if several processes run this one: they could not agree on who waits for whom.
        """
        from harness.procedures.parts import Parts, environment

        trial = self.trial
        fabric = trial.config["procedure"].get("init_args", {}).get("fabric") or {}
        if not setting.share or fabric.get("devices", 1) != 1 or fabric.get("num_nodes", 1) != 1:
            return None
        depends = {
            "paper": trial.paper,
            "code": trial.code,
            "data": [trial.config["data"], trial.data, trial.contents],
            "fabric": fabric,
            "versions": provenance.versions(),
            "processor": provenance.hardware()["cpu"],
            "threads": setting.threads,
            "accelerator": [self.accelerator, provenance.accelerator_name()],
            "environment": environment(),
        }
        return Parts(paths.parts(trial.paper), depends)

    def clear(self) -> None:
        """Remove checkpoints, also those that a procedure wrote by itself."""
        self.checkpoints.clear()
        for name in ("parts", "lightning"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for path in self.folder.glob("*.ckpt"):
            path.unlink(missing_ok=True)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _accelerator(setting: Setting) -> str:
    import torch

    if setting.accelerator != "auto":
        return setting.accelerator
    return "cuda" if torch.cuda.is_available() else "cpu"


class Curves:
    """Rows of progress as CSV, written as they come; new columns start a new header.

    A convenience beside the record: whatever is wrong with the file, or with writing it, the
    trial goes on.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []

    def add(self, progress: Progress) -> None:
        row = {
            "step": progress.step,
            **{" ".join(scrubbed(n).split()): v for n, v in progress.metrics.items()},
        }
        try:
            if not self.columns:
                self._rewind(progress.step, list(row))
            with self.path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                if list(row) != self.columns:
                    self.columns = list(row)
                    writer.writerow(self.columns)
                writer.writerow(row.values())
        except OSError as error:
            _log.warning("no curve of step %d: %s", progress.step, error.strerror)

    def _rewind(self, step: int, columns: Sequence[str]) -> None:
        """Drop what an interrupted run wrote from ``step`` on: it is measured again."""
        if self.path.exists():
            text = self.path.read_text("utf-8", errors="replace")
            write_atomically(self.path, "".join(_rows_before(step, columns, text)))


def _rows_before(step: int, columns: Sequence[str], text: str) -> Iterator[str]:
    """Rows that hold as many numbers as their header names, until the training reaches a step.

    A trial may train several times, and each training counts from 1: its name begins its columns.
    """
    header, width, name, again = "", 0, "", _training(columns)
    for line in text.splitlines(keepends=True):
        fields = line.rstrip("\r\n").split(",")
        if fields[0] == "step" and line.endswith("\n"):
            header, width, name = line, len(fields), _training(fields)
        elif len(fields) == width and _numbers(fields):
            if name == again and int(fields[0]) >= step:
                return
            yield header + line
            header = ""


def _training(columns: Sequence[str]) -> str:
    """The name of the training that rows belong to, if it has one."""
    return columns[1].rpartition(" ")[0] if len(columns) > 1 else ""


def _numbers(fields: Sequence[str]) -> bool:
    try:
        return int(fields[0]) >= 0 and all(float(field) is not None for field in fields)
    except ValueError:
        return False
