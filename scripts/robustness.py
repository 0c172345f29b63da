"""docs/robustness.md, from what `make chaos` and `make faults` left below results/robustness/."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
INTERRUPTED = ROOT / "results" / "robustness"
PLANTED = INTERRUPTED / "planted"
PAGE = ROOT / "docs" / "robustness.md"
CHAOS = """\
Papers are interrupted at random moments and run again until they are done; then every metric and
series of every record is compared, bit for bit, with those of a run that was left alone. *With a
checkpoint*: faults after which some trial had a checkpoint to go on from. *Survived*: the records
came out complete and the same. *Lost*: records that were missing, unreadable or gone; *duplicated*:
two records of one trial; *different*: another figure.
"""
FAULTS = """\
Each fault is a line of code changed so that one idea is lost: a mask shifted by one, a wrong split,
an interval with one side. The tests that ought to notice pass without it, and must fail with it.
Those that nothing noticed are named. The list is in [tests/faults](../tests/faults) and grows with
every fault that is found.
"""


def write() -> None:
    """The page, anew."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(_read(INTERRUPTED), {f.stem: json.loads(f.read_text()) for f in _files()}))


def _files() -> list[Path]:
    return sorted(PLANTED.glob("*.json"))


def _read(folder: Path) -> list[Any]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def page(interrupted: list[dict[str, Any]], planted: dict[str, list[dict[str, Any]]]) -> str:
    """The whole text."""
    lines = [
        "# What was tried to break the harness",
        "",
        "Written by `make chaos` and `make faults`; not by hand.",
        "",
        *_interruptions(interrupted),
        "",
        *_planted(planted),
    ]
    return "\n".join(lines) + "\n"


def _interruptions(findings: list[dict[str, Any]]) -> Iterator[str]:
    yield from ("## Interruptions: is work lost?", "", *CHAOS.splitlines(), "")
    yield "| paper | fault | tried | with a checkpoint | survived | lost | duplicated | different |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    columns = ("struck", "resumed", "survived", "lost", "duplicated", "different")
    total = Counter[str]()
    for finding in findings:
        for kind, tally in finding["faults"].items():
            total.update(tally)
            figures = " | ".join(str(tally[c]) for c in columns)
            yield f"| {finding['paper']} ({finding['tier']}) | {kind} | {figures} |"
    yield f"| **all** | | {' | '.join(f'**{total[c]}**' for c in columns)} |"
    yield ""
    for finding in findings:
        left_out = ", ".join(finding["unstable"]) or "none"
        yield (
            f"- {finding['paper']}: {finding['trials']} trials, {finding['seconds']:.0f} s "
            f"undisturbed with {finding['jobs']} workers; not compared, for they differ between "
            f"undisturbed runs too: {left_out}."
        )


def _planted(areas: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    yield from ("## Planted faults: is wrong code noticed?", "", *FAULTS.splitlines(), "")
    yield from ("| code of | planted | noticed | share |", "| --- | ---: | ---: | ---: |")
    for area, findings in areas.items():
        yield _row(area, findings)
    yield _row("**all**", [finding for findings in areas.values() for finding in findings])
    missed = [f for findings in areas.values() for f in findings if not f["noticed"]]
    if missed:
        yield from ("", "Not noticed:", "")
        yield from (f"- {finding['file']}: {finding['why']}" for finding in missed)


def _row(name: str, findings: list[dict[str, Any]]) -> str:
    noticed = sum(bool(finding["noticed"]) for finding in findings)
    share = f"{100 * noticed / len(findings):.0f} %" if findings else ""
    return f"| {name} | {len(findings)} | {noticed} | {share} |"
