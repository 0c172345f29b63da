"""One trial (or seeds trained together) becomes a record. Runs inside a worker process."""

from __future__ import annotations

import csv
import math
import resource
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness import paths, provenance
from harness.build import build
from harness.plan import PlannedTrial
from harness.procedures.base import Outcome, Progress, Trial
from harness.records import Failure, Measured, Provenance, Record, RecordStore, Resources, Status
from harness.seeding import seed_all


class NonFinite(ValueError):
    """A procedure returned NaN or infinity as a measurement."""


@dataclass(frozen=True)
class Setting:
    """What is the same for all trials of a run.

    Attributes:
        roots: folder of each catalogue entry in use, its checksums verified.
        threads: for each worker.
        accelerator: ``auto``, ``cpu`` or ``cuda``.
        commit, dirty: the state of the checkout when the run began.
        environment: ``HARNESS_…`` variables, for workers are forked from a server that may have
            been started with others.
    """

    roots: Mapping[str, Path]
    threads: int = 1
    accelerator: str = "auto"
    commit: str = ""
    dirty: bool = False
    environment: Mapping[str, str] = field(default_factory=paths.environment)


def workdir(trial: PlannedTrial) -> Path:
    """Where a trial's checkpoints, curves and log are."""
    return paths.runs() / trial.paper / trial.tier / trial.id


def run_group(
    group: Sequence[PlannedTrial],
    setting: Setting,
    report: Callable[[str, Progress], None],
) -> list[Record]:
    """Run trials that share a process, write their records, and return these.

    What the trials raise becomes a failed record; only interrupts and exits are let through.
    """
    started, clock = datetime.now(UTC), time.monotonic()
    outcomes: list[Outcome] | Exception
    try:
        outcomes = _outcomes(group, setting, report)
        for outcome in outcomes:
            _refuse_non_finite(outcome)
    except Exception as error:
        traceback.print_exc()
        outcomes = error
    seconds = (time.monotonic() - clock) / len(group)
    store = RecordStore(paths.records())
    records = []
    for index, trial in enumerate(group):
        if isinstance(outcomes, Exception):
            record = failed(trial, setting, outcomes, started, seconds)
        else:
            record = _done(trial, setting, outcomes[index], started, seconds)
            _clear_checkpoints(workdir(trial))
        store.write(record)
        records.append(record)
    return records


def _outcomes(
    group: Sequence[PlannedTrial], setting: Setting, report: Callable[[str, Progress], None]
) -> list[Outcome]:
    import torch

    torch.set_num_threads(setting.threads)
    trials, procedure = [], None
    for planned in group:
        trial, dims = _open(planned, setting, report)
        trials.append(trial)
        procedure = procedure or build(planned.config["procedure"], dims)
    assert procedure is not None
    seed_all(group[0].seed, "trial")
    if len(trials) > 1 and hasattr(procedure, "run_together"):
        return list(procedure.run_together(trials))
    outcomes = []
    for trial in trials:
        seed_all(trial.seed, "trial")
        outcomes.append(procedure.run(trial))
    return outcomes


def _open(
    planned: PlannedTrial, setting: Setting, report: Callable[[str, Progress], None]
) -> tuple[Trial, dict[str, int]]:
    """Load the data and make the trial that the procedure gets."""
    import torch

    seed_all(planned.seed, "data")
    config, data = planned.config, None
    if config["data"]["class_path"]:
        given: dict[str, Any] = {"seed": planned.seed}
        if planned.source:
            given["root"] = setting.roots[planned.source]
        data = build(config["data"], given=given)
    dims = dict(getattr(data, "dims", {}))
    folder = workdir(planned)
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = _accelerator(setting, planned)
    curves = Curves(folder / "curves.csv")

    def publish(progress: Progress) -> None:
        curves.add(progress)
        report(planned.id, progress)

    trial = Trial(
        seed=planned.seed,
        data=data,
        model=lambda: build(config["model"], dims),
        device=torch.device(accelerator),
        workdir=folder,
        accelerator=accelerator,
        report=publish,
    )
    return trial, dims


def _accelerator(setting: Setting, planned: PlannedTrial) -> str:
    import torch

    if setting.accelerator != "auto":
        return setting.accelerator
    return "cuda" if torch.cuda.is_available() else "cpu"


class Curves:
    """Rows of progress as CSV, written as they come; new columns start a new header."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []

    def add(self, progress: Progress) -> None:
        row = {"step": progress.step, **progress.metrics}
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if list(row) != self.columns:
                self.columns = list(row)
                writer.writerow(self.columns)
            writer.writerow(row.values())


def _refuse_non_finite(outcome: Outcome) -> None:
    for name, value in outcome.metrics.items():
        number = value.value if isinstance(value, Measured) else value
        if not math.isfinite(number):
            raise NonFinite(f"metric {name} is {number}")
    for name, series in outcome.series.items():
        if not all(map(math.isfinite, (*series.x, *series.y))):
            raise NonFinite(f"series {name} has a value that is not finite")


def _clear_checkpoints(folder: Path) -> None:
    for path in folder.glob("*.ckpt"):
        path.unlink(missing_ok=True)


def _done(
    trial: PlannedTrial, setting: Setting, outcome: Outcome, started: datetime, seconds: float
) -> Record:
    metrics = {
        name: value if isinstance(value, Measured) else Measured(value=float(value))
        for name, value in outcome.metrics.items()
    }
    record = _blank(trial, setting, started, seconds, "done")
    return record.model_copy(update={"metrics": metrics, "series": dict(outcome.series)})


def failed(
    trial: PlannedTrial,
    setting: Setting,
    error: BaseException,
    started: datetime,
    seconds: float,
    status: Status = "failed",
) -> Record:
    """The record of a trial that has no outcome."""
    trace = "".join(traceback.format_exception(error)[-8:]) if error.__traceback__ else ""
    failure = Failure(
        type=type(error).__name__,
        message=provenance.scrub(str(error))[:2000],
        traceback=provenance.scrub(trace)[-4000:],
    )
    record = _blank(trial, setting, started, seconds, status)
    return record.model_copy(update={"error": failure})


def _blank(
    trial: PlannedTrial, setting: Setting, started: datetime, seconds: float, status: Status
) -> Record:
    hardware = provenance.hardware() | {"threads": setting.threads}
    if "torch" in sys.modules and (name := provenance.accelerator_name()):
        hardware |= {"accelerator": name}
    return Record(
        trial=trial.id,
        paper=trial.paper,
        tier=trial.tier,
        variant=trial.variant,
        dataset=trial.dataset,
        fold=trial.fold,
        seed=trial.seed,
        protocol=trial.protocol,
        status=status,
        config=trial.config,
        provenance=Provenance(
            code=trial.code,
            data=trial.data,
            commit=setting.commit,
            dirty=setting.dirty,
            versions=provenance.versions(),
            hardware=hardware,
        ),
        resources=Resources(
            started=started.isoformat(timespec="seconds"),
            ended=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(seconds, 3),
            peak_memory_mb=_peak_memory_mb(),
        ),
    )


def _peak_memory_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
