"""Records: what one trial measured, with its provenance. One JSON file each, written once."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness import paths
from harness.files import write_atomically
from harness.privacy import scrubbed
from harness.visible import may_act, visible_in

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
MAX_POINTS = 2000
WORDED = ("fold", "error", "metrics", "series", "config")  # in the words of specs and procedures
Status = Literal["done", "failed", "timed out"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Measured(_Part):
    """A number with what is known of its error: a standard error, or that it is exact.

    ``df`` are the degrees of freedom of a standard error that one trial estimates from a few
    independent units (16 people: 15). Giving them says that these units are the whole sample, so
    that one trial of a trained model has an interval.
    """

    value: float
    stderr: float | None = Field(default=None, ge=0)
    exact: bool = False
    df: float | None = Field(default=None, gt=0)


class Series(_Part):
    """A metric over a swept variable, in recorded units; ``stderr`` point by point if known."""

    over: str
    x: list[float] = Field(max_length=MAX_POINTS)
    y: list[float] = Field(max_length=MAX_POINTS)
    stderr: list[float] | None = Field(default=None, max_length=MAX_POINTS)

    @model_validator(mode="after")
    def _same_length(self) -> Series:
        if len(self.x) != len(self.y) or (self.stderr and len(self.stderr) != len(self.x)):
            raise ValueError("x, y and stderr of a series need equal lengths")
        return self


def _finite(value: Any) -> Any:
    """JSON has no NaN, though readers take ``1e999`` for infinity."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in inner:
        _finite(item)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is not finite")
    return value


Plain = Annotated[dict[str, Any], AfterValidator(_finite)]


class Failure(_Part):
    """Why a trial has no metrics."""

    type: str
    message: str
    traceback: str = ""


class Provenance(_Part):
    """What made the record: code, data, versions, hardware."""

    code: str
    data: str
    commit: str = ""
    dirty: bool | None = None
    versions: dict[str, str] = {}
    hardware: Plain = {}


COSTS = ("seconds", "peak_memory_mb", "device_memory_mb")  # metrics that every trial has


class Resources(_Part):
    """What the trial cost. Times are UTC, ISO 8601; ``samples`` were trained on in ``seconds``.

    Memory is that of the process that ran it, shared by seeds trained together: the most that was
    resident, and the most that tensors took on the device (``None`` without one).
    """

    started: str
    ended: str
    seconds: float
    peak_memory_mb: float = 0.0
    device_memory_mb: float | None = None
    samples: int | None = None

    @property
    def samples_per_second(self) -> float | None:
        """Training examples by the trial's whole time, its set-up and evaluations included."""
        return self.samples / self.seconds if self.samples and self.seconds > 0 else None


class Record(_Part):
    """One trial at one tier."""

    schema_version: int = SCHEMA_VERSION
    trial: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    paper: str
    tier: str
    variant: str
    dataset: str
    fold: Plain = {}
    seed: int
    protocol: Literal["paper", "reduced"]
    status: Status
    error: Failure | None = None
    metrics: dict[str, Measured] = {}
    series: dict[str, Series] = {}
    config: Plain = {}
    provenance: Provenance
    resources: Resources

    @property
    def made_with(self) -> dict[str, str]:
        """Versions and kind of machine, on which a figure's last digits depend."""
        kind = {k: str(self.provenance.hardware.get(k, "")) for k in ("cpu", "accelerator")}
        return self.provenance.versions | kind

    def measured(self, name: str) -> Measured | None:
        """A metric, what the procedure returned or a cost of the trial; ``None``: not measured."""
        cost = getattr(self.resources, name) if name in COSTS else None
        known = None if cost is None else Measured(value=cost)
        return self.metrics.get(name, known)


@dataclass(frozen=True)
class Unreadable:
    """A file in the store that is not a record, and why."""

    path: Path
    reason: str


class RecordStore:
    """The folder ``records/<paper>/<tier>/<trial>.json``.

    Args:
        root: the folder; whatever is written goes there.
        base: another store, whose records are read where ``root`` has none of that trial.
    """

    def __init__(self, root: Path, base: RecordStore | None = None) -> None:
        self.root = root
        self.base = base

    @classmethod
    def here(cls) -> RecordStore:
        """The records that are read and written now: in a quick run its own before the
        committed ones."""
        if paths.results() == paths.committed():
            return cls(paths.records())
        return cls(paths.records(), cls(paths.committed() / "records"))

    def path(self, paper: str, tier: str, trial: str) -> Path:
        return self.root.joinpath(paper, tier, f"{trial}.json")

    def find(self, paper: str, tier: str, trial: str) -> Path:
        """Where the record of a trial is read: here, or in the store below."""
        path = self.path(paper, tier, trial)
        return self.base.find(paper, tier, trial) if self.base and not path.exists() else path

    def write(self, record: Record) -> Path:
        """Write atomically: a reader sees the whole record or none, also after a power cut.

        Folders of this machine, its user and host are left out of whatever texts there are.
        """
        path = self.path(record.paper, record.tier, record.trial)
        content = record.model_dump(mode="json")
        content |= {name: scrubbed(content[name]) for name in WORDED}
        write_atomically(path, json.dumps(content, indent=1, sort_keys=True) + "\n")
        return path

    def sweep(self, paper: str, tier: str, trial: str) -> None:
        """Remove what a process that was killed while writing this record left behind."""
        path = self.path(paper, tier, trial)
        for temporary in path.parent.glob(f".{path.name}.*"):
            temporary.unlink(missing_ok=True)

    def read(self, paper: str, tier: str, trial: str) -> Record | None:
        """The record of a trial; ``None`` where there is none or it cannot be read."""
        found = read_record(self.path(paper, tier, trial))
        if isinstance(found, Record) and (found.paper, found.tier) == (paper, tier):
            return found
        return self.base.read(paper, tier, trial) if self.base else None

    def scan(self, paper: str = "*", tier: str = "*") -> Iterator[Record | Unreadable]:
        """Every file of a paper and tier, in the order of their paths."""
        for place, path in sorted(self._files(paper, tier).items()):
            found = read_record(path)
            if isinstance(found, Record) and (found.paper, found.tier) != place.parts[:2]:
                found = Unreadable(path, f"belongs to {found.paper}/{found.tier}")
            yield found

    def _files(self, paper: str, tier: str) -> dict[Path, Path]:
        """Files by their place in the store; one's own before those of ``base``."""
        found = self.base._files(paper, tier) if self.base else {}
        own = self.root.glob(f"{paper}/{tier}/*.json")
        return found | {path.relative_to(self.root): path for path in own}

    def records(self, paper: str = "*", tier: str = "*") -> list[Record]:
        """Those files that are records."""
        return [found for found in self.scan(paper, tier) if isinstance(found, Record)]


def read_record(path: Path) -> Record | Unreadable:
    """Read one file; what is wrong with it comes back as a value, for reports go on without it."""
    try:
        raw = path.read_bytes()
        record = Record.model_validate_json(raw)
        if may_act(raw):
            record = Record.model_validate(visible_in(record.model_dump()))
    except OSError as error:
        return Unreadable(path, f"cannot be read: {error.strerror}")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return Unreadable(path, f"{where}: {first['msg']}" if where else str(first["msg"]))
    if record.schema_version > SCHEMA_VERSION:
        return Unreadable(path, f"schema version {record.schema_version} is newer than this code")
    if path.stem != record.trial:
        return Unreadable(path, f"holds trial {record.trial}, which its name does not say")
    return record


def frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row per record: what identifies it, its metrics as columns, its cost."""
    import pandas as pd

    rows = [
        {
            "paper": r.paper,
            "tier": r.tier,
            "variant": r.variant,
            "dataset": r.dataset,
            "seed": r.seed,
            **{f"fold.{k}": v for k, v in r.fold.items()},
            "status": r.status,
            **{name: measured.value for name, measured in r.metrics.items()},
            "seconds": r.resources.seconds,
            "trial": r.trial,
        }
        for r in records
    ]
    return pd.DataFrame(rows)
