"""Results as Markdown, committed beside the records that they are made from."""

from __future__ import annotations

from pathlib import Path

from harness import catalog, paths
from harness.records import RecordStore, write_atomically
from harness.report.rows import measured, reported
from harness.spec import Paper
from harness.verdicts import judge


def write_paper(paper: Paper, tier: str) -> Path:
    path = paths.results() / f"{paper.key}.md"
    verdicts = judge(paper, tier, RecordStore(paths.records()).records(paper.key, tier))
    lines = [
        f"# {paper.title}",
        "",
        "| claim | on | claimed | measured | verdict | reason |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for v in verdicts:
        lines.append(
            f"| {v.claim} | {v.dataset} | {reported(v)} | {measured(v)} | {v.verdict} | {v.reason} |"
        )
    write_atomically(path, "\n".join(lines) + "\n")
    return path


def write_all() -> list[Path]:
    from harness.results import best_tier

    store = RecordStore(paths.records())
    return [
        write_paper(p, best_tier(store, list(p.tiers), p.key))
        for p in map(catalog.load, catalog.paper_keys())
    ]
