"""One trial (or seeds trained together) becomes a record. Runs inside a worker process."""

from __future__ import annotations

import math
import resource
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from harness import opening, paths, provenance
from harness.desk import Desk, Setting
from harness.engines import ranks
from harness.plan import PlannedTrial
from harness.privacy import scrub
from harness.procedures.base import Outcome, Progress, Separately
from harness.records import Failure, Measured, Provenance, Record, RecordStore, Resources, Status
from harness.specs.build import declaring, import_callable
from harness.visible import visible


class NonFinite(ValueError):
    """A procedure returned NaN or infinity as a measurement."""


class OtherMetrics(ValueError):
    """A procedure returned a metric or series that it does not declare, or not one that it does."""


def run_group(
    group: Sequence[PlannedTrial],
    setting: Setting,
    report: Callable[[str, Progress], None],
    stopping: Callable[[], bool] = lambda: False,
) -> Iterator[Record]:
    """Run trials that share a process, write their records, and yield these.

    What the trials raise becomes a failed record; only interrupts and exits are let through. A
    trial that several devices share is run by as many processes; the first one alone records it
    (on each node, if several share it: their records are equal).

    Raises:
        Stopped: a trial saved its state because ``stopping``; it has no record.
        OSError: a record could not be written.
    """
    with declaring(group[0].packages):
        yield from _run_group(group, setting, report, stopping)


def _run_group(
    group: Sequence[PlannedTrial],
    setting: Setting,
    report: Callable[[str, Progress], None],
    stopping: Callable[[], bool],
) -> Iterator[Record]:
    import torch

    torch.set_num_threads(setting.threads)
    procedure = group[0].config["procedure"]
    rank = ranks.spread(procedure.get("init_args", {}).get("fabric") or {})
    told = report if rank == 0 else None
    if len(group) > 1 and hasattr(import_callable(procedure["class_path"]), "run_together"):
        desks = [Desk.prepare(planned, setting, stopping) for planned in group]
        try:
            yield from _run(desks, setting, told)
            return
        except Separately as reason:
            print(f"one by one, and not together: {reason}")
    for planned in group:
        yield from _run([Desk.prepare(planned, setting, stopping)], setting, told)


def _run(
    desks: Sequence[Desk], setting: Setting, report: Callable[[str, Progress], None] | None
) -> Iterator[Record]:
    """Run a trial, or seeds that are trained together; without ``report`` nothing is recorded."""
    try:
        outcomes = opening.outcomes(desks, setting, report)
    except Exception as error:
        if isinstance(error, Separately) and len(desks) > 1:
            raise
        traceback.print_exc()
        outcomes = [error] * len(desks)
        _leave_behind(desks)
    if report is None:
        return
    store = RecordStore(paths.records())
    seconds = _seconds(desks)
    for desk, outcome in zip(desks, outcomes, strict=True):
        record = _recorded(desk, setting, outcome, seconds, len(desks))
        store.write(record)
        if record.status == "done":
            desk.clear()
        yield record


def _leave_behind(desks: Sequence[Desk]) -> None:
    """Let the next try begin anew where this one went on from a checkpoint: that may be why."""
    for desk in desks:
        if desk.checkpoints.used:
            print("the checkpoint that it went on from is removed")
            desk.clear()


def _seconds(desks: Sequence[Desk]) -> float:
    """A trial's share of the time; the first one alone holds their common state."""
    others = [desk.checkpoints for desk in desks[1:]]
    parts = sum(sum(each.parts.values()) - each.within for each in others)
    return (desks[0].checkpoints.seconds + parts) / len(desks)


def _recorded(
    desk: Desk, setting: Setting, outcome: Outcome | Exception, seconds: float, together: int
) -> Record:
    try:
        if isinstance(outcome, Exception):
            raise outcome
        refuse_no_outcome(outcome)
        refuse_non_finite(outcome)
        refuse_other_metrics(desk.trial.config["procedure"], outcome)
        return done(desk.trial, setting, outcome, desk.started, seconds, together)
    except Exception as error:  # whatever a procedure returned, there is a record of it
        return failed(desk.trial, setting, failure_of(error), desk.started, seconds)


def refuse_no_outcome(outcome: Any) -> None:
    if not isinstance(outcome, Outcome):
        raise OtherMetrics(f"the procedure returned {type(outcome).__name__}, and no Outcome")


def refuse_non_finite(outcome: Outcome) -> None:
    """Metrics are finite numbers, and no texts or vectors."""
    for name, value in outcome.metrics.items():
        number = value.value if isinstance(value, Measured) else value
        try:
            finite = math.isfinite(number)
        except OverflowError:
            raise NonFinite(f"metric {name} is too large for a number") from None
        except (TypeError, ValueError, RuntimeError):  # the last two: of arrays and of tensors
            raise NonFinite(f"metric {name} is no number, but {type(number).__name__}") from None
        if not finite:
            raise NonFinite(f"metric {name} is {number}")
    for name, series in outcome.series.items():
        if not all(map(math.isfinite, (*series.x, *series.y))):
            raise NonFinite(f"series {name} has a value that is not finite")


def refuse_other_metrics(config: Mapping[str, Any], outcome: Outcome) -> None:
    """Hold an outcome against what the procedure's ``produces`` names.

    What ``sometimes`` names may be missing; without it any of them may.
    """
    procedure: Any = import_callable(config["class_path"])
    arguments = config.get("init_args", {})
    declared, got = set(procedure.produces(arguments)), {*outcome.metrics, *outcome.series}
    if more := sorted(got - declared):
        raise OtherMetrics(f"{', '.join(more)}: measured, and not among what produces() names")
    if hasattr(procedure, "sometimes"):
        less = sorted(declared - got - set(procedure.sometimes(arguments)))
        if less:
            raise OtherMetrics(f"{', '.join(less)}: named by produces(), and not measured")


def done(
    trial: PlannedTrial,
    setting: Setting,
    outcome: Outcome,
    started: datetime,
    seconds: float,
    together: int = 1,
) -> Record:
    """The record of a trial, which was trained ``together`` with others or by itself."""
    metrics = {
        name: value if isinstance(value, Measured) else Measured(value=float(value))
        for name, value in outcome.metrics.items()
    }
    record = _blank(trial, setting, started, seconds, "done")
    if together > 1:
        record.provenance.hardware["together"] = together
    resources = record.resources.model_copy(update={"samples": outcome.samples})
    measured = {"metrics": metrics, "series": dict(outcome.series), "resources": resources}
    return record.model_copy(update=measured)


def failed(
    trial: PlannedTrial,
    setting: Setting,
    failure: Failure,
    started: datetime,
    seconds: float,
    status: Status = "failed",
) -> Record:
    """The record of a trial that has no outcome."""
    record = _blank(trial, setting, started, seconds, status)
    return record.model_copy(update={"error": failure})


def failure_of(error: BaseException) -> Failure:
    """What a record says of an exception: no path of this machine."""
    trace = "".join(traceback.format_exception(error)[-8:]) if error.__traceback__ else ""
    try:
        message = str(error)
    except Exception as another:
        message = f"(its text cannot be made: {type(another).__name__})"
    return Failure(
        type=type(error).__name__,
        message=visible(scrub(message))[:2000],
        traceback=visible(scrub(trace))[-4000:],
    )


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
            data=trial.contents or trial.data,
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
            device_memory_mb=_device_memory_mb(),
        ),
    )


def _peak_memory_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def _device_memory_mb() -> float | None:
    """The most that tensors took on all devices together; ``None`` where none was used."""
    cuda = sys.modules["torch"].cuda if "torch" in sys.modules else None
    if cuda is None or not cuda.is_initialized():
        return None
    peak: int = sum(cuda.max_memory_allocated(device) for device in range(cuda.device_count()))
    return round(peak / 2**20, 1)
