"""How the reports grow with the number of records."""

from __future__ import annotations

from itertools import pairwise

from harness.judging.rounding import figure
from scripts.benchmark.project import Project, project
from scripts.benchmark.timing import Finding, Row
from scripts.benchmark.written import write_papers

ABOUT = """\
Whole commands over the records of ten papers of ten variants, with 10, 100 and 1,000 seeds: each \
record has two metrics, two curves of twenty points, settings and provenance (about {size} kB). \
`leaderboard` reads all, judges every claim, draws and writes every page; `results` judges; \
`status` says what is fresh. Peak memory is that of the process. Linear: ten times the records \
cost no more than {linear:g} times the time."""
PAPERS = 10
COMMANDS = ("leaderboard", "results", "status")
LINEAR = 12.0


def measure(repeats: int = 5, tiny: bool = False) -> Finding:
    """Time every report at each number of records."""
    times: dict[tuple[str, int], list[float]] = {}
    memory: dict[tuple[str, int], list[float]] = {}
    size, counts = 0.0, []
    for seeds in (1, 2) if tiny else (10, 100, 1000):
        with project() as place:
            count = write_papers(place, 2 if tiny else PAPERS, seeds)
            counts.append(count)
            size = _kilobytes(place)
            for _ in range(repeats):
                for name in COMMANDS:
                    took, peak = place.measured(name)
                    times.setdefault((name, count), []).append(took)
                    memory.setdefault((name, count), []).append(peak)
    rows = []
    for name in COMMANDS:
        for count in counts:
            what = f"`harness {name}`, {count:,} records"
            rows.append(Row(what, "s", times[name, count]))
            rows.append(Row(f"{what}: peak memory", "MB", memory[name, count]))
        for fewer, more in pairwise(counts):
            grown = [b / a for a, b in zip(times[name, fewer], times[name, more], strict=True)]
            rows.append(Row(f"`{name}`: {more:,} records / {fewer:,} records", "×", grown, LINEAR))
    about = ABOUT.format(size=figure(size), linear=LINEAR)
    return Finding("reports", "Reports", about, rows, {"counts": counts})


def _kilobytes(place: Project) -> float:
    path = next((place.root / "results" / "records").rglob("*.json"))
    return path.stat().st_size / 1000
