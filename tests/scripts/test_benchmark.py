"""Every part of the benchmark measures something, and the page follows from what was written."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import paths
from scripts.benchmark import report
from scripts.benchmark.timing import CommandFailed, Finding, Row, command, interleaved

HARDWARE = {"cpu": "Some CPU", "cores": 2, "memory_gb": 8.0, "os": "Linux"}


@pytest.mark.parametrize("part", ["overhead", "sweep", "isolation", "start", "reports"])
def test_a_part_measures_every_row_at_its_smallest(project: Path, part: str) -> None:
    """Of the toy papers alone: the figures mean nothing, but every command and loop was run."""
    before = sorted(path for path in project.rglob("*") if "__pycache__" not in path.parts)
    found = importlib.import_module(f"scripts.benchmark.{part}").measure(repeats=1, tiny=True)
    assert found.part == part and len(found.rows) >= 5
    assert all(len(row.values) == 1 and row.values[0] > 0 for row in found.rows)
    assert any(row.at_most for row in found.rows) or part == "sweep"
    after = sorted(path for path in project.rglob("*") if "__pycache__" not in path.parts)
    assert after == before, "it works elsewhere"
    report.save(found.document(0.5), paths.results())
    assert f"## {found.title}" in (paths.results() / "benchmark.md").read_text()


def test_papers_are_read_from_their_records(project: Path) -> None:
    from harness.reproduction import reproduce
    from scripts.benchmark import papers

    assert not papers.measure().rows
    reproduce("toy", "cpu", seeds=2, variants=["good"])
    rows = {row.what: row for row in papers.measure().rows}
    assert len(rows["toy: a trial"].values) == 2
    assert rows["toy: all 2 trials"].values == [sum(rows["toy: a trial"].values)]
    assert min(rows["toy: peak memory"].values) > 0
    assert "toy: examples" not in rows, "nothing was trained"
    everything = reproduce("toy", "cpu", seeds=1, variants=["net"]).records
    speeds = [r.resources.samples_per_second for r in everything if r.variant == "net"]
    rows = {row.what: row for row in papers.measure().rows}
    assert rows["toy: examples"].values == speeds


def test_time_at_work_counts_what_overlaps_once() -> None:
    from scripts.benchmark.papers import at_work

    def record(start: int, end: int) -> Any:
        times = [f"2026-01-01T00:{at // 60:02d}:{at % 60:02d}+00:00" for at in (start, end)]
        return SimpleNamespace(resources=SimpleNamespace(started=times[0], ended=times[1]))

    assert at_work([record(*at) for at in ((100, 130), (0, 50), (10, 20), (40, 60))]) == 90
    assert at_work([record(5, 5)]) == 0


def document(part: str, **changes: Any) -> dict[str, Any]:
    rows = [
        Row("quick", "s", [0.2, 0.1, 0.9], at_most=0.3),
        Row("slow", "×", [3.0, 2.0], at_most=1.05),
        Row("raw", "ms", [1.0], shown=False),
    ]
    found = Finding(part, f"About {part}", "How.", rows).document(1.25)
    return found | {"hardware": HARDWARE, "commit": "0123456789abcdef", "dirty": True} | changes


def test_the_page_is_made_of_the_files_alone(tmp_path: Path) -> None:
    for part in ("start", "overhead"):
        report.save(document(part), tmp_path)
    page = (tmp_path / "benchmark.md").read_text()
    assert page.index("## About overhead") < page.index("## About start")
    assert "| quick | 0.2 s | 0.1 – 0.9 | 3 | ≤ 0.3 s | met |" in page
    assert "| slow | 2.50 × | 2.00 – 3.00 | 2 | ≤ 1.05 × | **missed** |" in page
    assert "raw" not in page and "Some CPU, 2 cores" in page
    assert "load 1.25" in page and "commit 0123456789 with changes" in page
    stored = json.loads((tmp_path / "benchmark" / "start.json").read_text())
    assert stored["rows"][2]["values"] == [1.0], "every repeat is kept, shown or not"
    (tmp_path / "benchmark.md").unlink()
    assert report.write(tmp_path).read_text() == page


def test_a_part_measured_again_replaces_what_it_was(tmp_path: Path) -> None:
    report.save(document("start"), tmp_path)
    report.save(document("start", title="Anew"), tmp_path)
    page = (tmp_path / "benchmark.md").read_text()
    assert "## Anew" in page and "About start" not in page


def test_kinds_take_turns_and_the_first_round_does_not_count() -> None:
    order: list[str] = []

    def kind(name: str) -> Any:
        return lambda: order.append(name) or float(len(order))

    found = interleaved({"a": kind("a"), "b": kind("b")}, repeats=2)
    assert order == ["b", "a", "a", "b", "b", "a"]
    assert found == {"a": [3.0, 6.0], "b": [4.0, 5.0]}


def test_a_command_that_fails_is_no_measurement() -> None:
    with pytest.raises(CommandFailed, match="no such file"):
        command(["sh", "-c", "echo no such file >&2; exit 3"], {})
