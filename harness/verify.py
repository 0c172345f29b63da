"""Run recorded trials again, elsewhere, and say whether they measure the same.

In the environment that made a record (code, data, versions, kind of processor, threads,
accelerator) every figure must come out the same, bit for bit; in another one, or where the record
does not say, within a relative tolerance. Each trial makes its parts by itself, so that one which
depends on more than its settings say is found out. Committed results are not touched.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import data, paths, plan, provenance
from harness.desk import Setting
from harness.engines.base import Event, Finished
from harness.engines.local import LocalEngine
from harness.plan import PlannedTrial
from harness.records import Measured, Record, RecordStore, Series
from harness.specs import catalog

TOLERANCE = 0.01


@dataclass(frozen=True)
class Difference:
    """A figure that came out otherwise; ``None`` where one side lacks it."""

    name: str
    recorded: float | None
    measured: float | None


@dataclass(frozen=True)
class Verification:
    """One record against a new measurement.

    Attributes:
        environment: what is not as it was, as ``name: then → now``.
        tolerance: relative; 0 where nothing has changed, and figures are compared bit for bit.
        differences: figures beyond the tolerance.
        failure: why there is no new measurement.
    """

    trial: PlannedTrial
    environment: list[str]
    differences: list[Difference]
    failure: str = ""
    tolerance: float = 0.0

    @property
    def same(self) -> bool:
        return not self.differences and not self.failure


def verify(
    key: str,
    tier: str,
    tolerance: float = TOLERANCE,
    leave_out: Collection[str] = (),
    jobs: int | None = None,
    watch: Callable[[Event], None] = lambda event: None,
) -> list[Verification]:
    """Repeat every finished trial that the spec still has.

    Args:
        tolerance: relative, for records of another environment.
        leave_out: metrics that are not compared (times, memory).
        watch: is told of the progress.

    Raises:
        PlanError: the paper has no such tier, or no record at it.
        DataUnavailable: data of a record is not on this machine.
    """
    paper = catalog.load(key)
    plan.tier_of(paper, tier)
    planned_for = plan.planner(paper)
    pairs = [
        (trial, record)
        for record in RecordStore(paths.records()).records(key, tier)
        if record.status == "done" and (trial := planned_for(record)) is not None
    ]
    if not pairs:
        raise plan.PlanError(f"{key} has no record at the tier {tier!r} that could be verified")
    again = _measure(pairs, paper.tiers[tier].together, jobs, watch)
    return [compare(t, r, again.get(t.id), tolerance, leave_out) for t, r in pairs]


def _measure(
    pairs: Sequence[tuple[PlannedTrial, Record]],
    together: int,
    jobs: int | None,
    watch: Callable[[Event], None],
) -> dict[str, Record]:
    """Run the trials in a scratch folder, grouped as the tier says, with as many threads as their
    records had."""
    by_threads: dict[int, list[PlannedTrial]] = defaultdict(list)
    for trial, record in pairs:
        by_threads[int(record.provenance.hardware.get("threads", 1))].append(trial)
    sources = {entry for trial, _ in pairs for entry in trial.sources.values()}
    roots = {name: data.resolve(name, fetch_missing=True) for name in sources}
    commit, dirty = provenance.checkout()
    found: dict[str, Record] = {}
    with tempfile.TemporaryDirectory(prefix="harness-verify-") as scratch:
        folders = {"HARNESS_RESULTS": f"{scratch}/results", "HARNESS_RUNS": f"{scratch}/runs"}
        environment = paths.environment() | {"HARNESS_ROOT": str(paths.root())} | folders
        store = RecordStore(Path(scratch) / "results" / "records")
        for threads, trials in by_threads.items():
            setting = Setting(
                roots, threads, "auto", commit, dirty, True, share=False, environment=environment
            )
            workers = jobs or max(1, provenance.cores() // threads)
            engine = LocalEngine(setting, store, workers, exclusive=False)
            for event in engine.run(plan.groups(trials, together)):
                watch(event)
                if isinstance(event, Finished):
                    found[event.trial.id] = event.record
    return found


def compare(
    trial: PlannedTrial,
    recorded: Record,
    measured: Record | None,
    tolerance: float = TOLERANCE,
    leave_out: Collection[str] = (),
) -> Verification:
    """Compare a record with the new one of the same trial."""
    if measured is None or measured.status != "done":
        error = measured.error if measured else None
        failure = f"{error.type}: {error.message}" if error else "it was not run"
        return Verification(trial, [], [], failure)
    changed = environment(recorded, measured)
    allowed = tolerance if changed else 0.0
    differences = [
        Difference(name, one, other)
        for name, one, other in _pairs(recorded, measured)
        if name.split("[")[0] not in leave_out and not _close(one, other, allowed)
    ]
    return Verification(trial, changed, differences, tolerance=allowed)


def environment(recorded: Record, measured: Record) -> list[str]:
    """What in code, data, versions and hardware is not as it was."""
    one, other = recorded.provenance, measured.provenance
    hardware = ("cpu", "kind", "os", "threads", "accelerator", "together")
    before: dict[str, object] = {"code": one.code, "data": one.data, **one.versions}
    after: dict[str, object] = {"code": other.code, "data": other.data, **other.versions}
    before |= {name: one.hardware.get(name, "none") for name in hardware}
    after |= {name: other.hardware.get(name, "none") for name in hardware}
    return [
        f"{name}: {before.get(name, 'none')} → {after.get(name, 'none')}"
        for name in before | after
        if before.get(name) != after.get(name)
    ]


def _pairs(recorded: Record, measured: Record) -> Iterator[tuple[str, float | None, float | None]]:
    """All figures of both records by name; points of a series as ``name[i]``."""
    before = dict(_figures(recorded.metrics, recorded.series))
    after = dict(_figures(measured.metrics, measured.series))
    for name in before | after:
        yield name, before.get(name), after.get(name)


def _figures(
    metrics: Mapping[str, Measured], series: Mapping[str, Series]
) -> Iterator[tuple[str, float]]:
    for name, value in metrics.items():
        yield name, value.value
    for name, curve in series.items():
        for index, point in enumerate((*curve.x, *curve.y)):
            yield f"{name}[{index}]", point


def _close(one: float | None, other: float | None, tolerance: float) -> bool:
    if one is None or other is None:
        return False
    return math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance * 1e-6)


def lines(found: Verification, shown: int = 5) -> list[str]:
    """A verification in words, the largest differences first."""
    label = found.trial.label
    if found.failure:
        return [f"FAILED  {label}: {found.failure}"]
    changed = f"; not as it was: {', '.join(found.environment)}" if found.environment else ""
    if found.same:
        return [f"same    {label}, {how(found.tolerance)}{changed}"]
    worst = sorted(found.differences, key=_size, reverse=True)
    text = [f"DIFFERS {label}, not {how(found.tolerance)}: {len(worst)} figures{changed}"]
    text += [f"          {d.name}: {d.recorded} → {d.measured}" for d in worst[:shown]]
    return text


def how(tolerance: float) -> str:
    """How figures were compared: ``bit for bit``, or ``within 1 %``."""
    return f"within {100 * tolerance:g} %" if tolerance else "bit for bit"


def summary(found: Sequence[Verification]) -> str:
    """How many trials measure the same, and by which comparison."""
    same = sum(one.same for one in found)
    kinds = Counter(how(one.tolerance) for one in found if not one.failure)
    compared = ", ".join(f"{n} {kind}" for kind, n in kinds.items()) or "none"
    return f"{same} of {len(found)} trials measure the same; compared: {compared}"


def _size(difference: Difference) -> float:
    one, other = difference.recorded, difference.measured
    if one is None or other is None:
        return math.inf
    return abs(one - other) / max(abs(one), abs(other), 5e-324)
