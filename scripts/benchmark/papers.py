"""What each paper's ``cpu`` tier costs, so that a change shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from harness import paths
from harness.records import Record, RecordStore
from harness.specs import catalog
from scripts.benchmark.timing import Finding, Row

ABOUT = """\
From the committed records of the tier `cpu`, which name their machines. *At work*: the wall time \
in which at least one trial went on, several side by side; their times added up; one trial (median \
and range over trials); its process's peak memory; and examples that training passed forward and \
backward by the second of a whole trial, its set-up and evaluations included (trials that train on \
no examples have none)."""
TIER = "cpu"
SPEED = ("per_second", "throughput")


def measure(repeats: int = 1, tiny: bool = False) -> Finding:
    """Read the records: there is nothing to repeat, or to make smaller but the number of papers."""
    rows: list[Row] = []
    store = RecordStore(paths.records())
    for key in catalog.paper_keys()[: 2 if tiny else None]:
        records = [r for r in store.records(key, TIER) if r.status == "done"]
        rows += _rows(key, records) if records else ()
    return Finding("papers", "Papers", ABOUT, rows, {"tier": TIER})


def _rows(key: str, records: Sequence[Record]) -> Iterator[Row]:
    seconds = [r.resources.seconds for r in records]
    yield Row(f"{key}: at work", "s", [at_work(records)])
    yield Row(f"{key}: all {len(records)} trials", "s", [sum(seconds)])
    yield Row(f"{key}: a trial", "s", seconds)
    yield Row(f"{key}: peak memory", "MB", [r.resources.peak_memory_mb for r in records])
    speeds = [speed for r in records if (speed := r.resources.samples_per_second)]
    if speeds:
        yield Row(f"{key}: examples", "/s", speeds)
    names = {name: None for r in records for name in r.metrics if name.endswith(SPEED)}
    for name in names:
        values = [r.metrics[name].value for r in records if name in r.metrics]
        yield Row(f"{key}: {name.replace('_', ' ')}", "/s", values)


def at_work(records: Sequence[Record]) -> float:
    """Seconds in which at least one trial went on; records know their times to the second."""
    total, until = 0.0, 0.0
    for start, end in sorted(_times(record) for record in records):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def _times(record: Record) -> tuple[float, float]:
    start, end = record.resources.started, record.resources.ended
    return datetime.fromisoformat(start).timestamp(), datetime.fromisoformat(end).timestamp()
