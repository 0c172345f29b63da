"""What each paper's ``cpu`` tier costs, so that a change shows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence

from harness import catalog, paths
from harness.records import Record, RecordStore
from scripts.benchmark.project import project
from scripts.benchmark.timing import Finding, Row

ABOUT = """\
From the committed records of the tier `cpu`, which name their machines: the time of all trials \
together (not the wall time of the run, in which several go on at once), of one trial (median and \
range over trials), its process's peak memory, and, where a procedure measures one, its \
throughput."""
RUN = """ *Wall time* is that of the whole command on the machine named below, run afresh."""
TIER = "cpu"
SPEED = ("per_second", "throughput")


def measure(repeats: int = 1, tiny: bool = False, run: Sequence[str] = ()) -> Finding:
    """Read the records.

    Args:
        run: papers to run afresh, in a temporary folder, ``repeats`` times.
    """
    rows: list[Row] = []
    store = RecordStore(paths.records())
    for key in catalog.paper_keys()[: 2 if tiny else None]:
        records = [r for r in store.records(key, TIER) if r.status == "done"]
        rows += _rows(key, records) if records else ()
    walls = [Row(f"{key}: wall time", "s", list(_walls(key, repeats))) for key in run]
    return Finding("papers", "Papers", ABOUT + RUN * bool(run), [*rows, *walls], {"tier": TIER})


def _rows(key: str, records: Sequence[Record]) -> Iterator[Row]:
    seconds = [r.resources.seconds for r in records]
    yield Row(f"{key}: all {len(records)} trials", "s", [sum(seconds)])
    yield Row(f"{key}: a trial", "s", seconds)
    yield Row(f"{key}: peak memory", "MB", [r.resources.peak_memory_mb for r in records])
    names = {name: None for r in records for name in r.metrics if name.endswith(SPEED)}
    for name in names:
        values = [r.metrics[name].value for r in records if name in r.metrics]
        yield Row(f"{key}: {name.replace('_', ' ')}", "/s", values)


def _walls(key: str, repeats: int) -> Iterator[float]:
    """Seconds of the whole command; data comes from where the user has it."""
    with project() as place:
        place.experiments.rmdir()
        shutil.copytree(paths.experiments(), place.experiments)
        shutil.copytree(paths.root() / "baselines", place.root / "baselines")
        for _ in range(repeats):
            place.forget()
            yield place.harness("run", key, "--tier", TIER)
