"""The page of the benchmark, from what its parts wrote."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.files import write_atomically
from harness.judging.rounding import figure
from harness.report.leaderboard import described
from harness.report.tables import table

PARTS = ("overhead", "sweep", "isolation", "start", "reports", "papers")
INTRODUCTION = """\
Written by `make benchmark`; not by hand. Medians, and the range of all repeats; what is compared \
is measured in turns, in one run. Other work on the machine makes everything slower, so the load \
average when a part began is given with it. Every repeat is in `benchmark/<part>.json`."""


def save(document: Mapping[str, Any], results: Path) -> None:
    """Keep what a part found, and write the page anew."""
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    write_atomically(results / "benchmark" / f"{document['part']}.json", text)
    write(results)


def write(results: Path) -> Path:
    """Write ``benchmark.md`` from ``benchmark/*.json`` alone."""
    found = [json.loads(path.read_text()) for path in (results / "benchmark").glob("*.json")]
    order = {part: i for i, part in enumerate(PARTS)}
    path = results / "benchmark.md"
    documents = sorted(found, key=lambda document: order.get(document["part"], len(order)))
    write_atomically(path, "\n".join(page(documents)) + "\n")
    return path


def page(documents: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The lines of the page."""
    yield from ("# What the harness costs", "", INTRODUCTION)
    for document in documents:
        yield from ("", f"## {document['title']}", "", document["about"], "")
        rows = [row for row in document["rows"] if row["shown"]]
        asked = any(row["at_most"] is not None for row in rows)
        head = ["", "median", "range", "repeats", *(["asked", ""] if asked else [])]
        body = [_cells(row)[: len(head)] for row in rows]
        yield from table(head, body, right=range(1, 5))
        yield from ("", _circumstances(document))


def _cells(row: Mapping[str, Any]) -> list[str]:
    values, unit, limit = row["values"], row["unit"], row["at_most"]
    middle = statistics.median(values)
    spread = f"{figure(min(values))} – {figure(max(values))}" if len(values) > 1 else ""
    asked = "" if limit is None else f"≤ {limit:g} {unit}"
    met = "" if limit is None else ("met" if middle <= limit else "**missed**")
    return [row["what"], f"{figure(middle)} {unit}", spread, str(len(values)), asked, met]


def _circumstances(document: Mapping[str, Any]) -> str:
    hardware, versions = document["hardware"], document["versions"]
    commit = described(document["commit"], document["dirty"])
    shown = ("python", "torch", "lightning")
    parts = [
        document["date"][:10],
        f"{hardware['cpu']}, {hardware['cores']} cores, {figure(hardware['memory_gb'])} GB",
        f"load {document['load_before']:g}",
        f"commit {commit}" if commit else "no commit",
        *(f"{name} {versions[name]}" for name in shown if name in versions),
    ]
    return f"Measured: {'; '.join(parts)}."
