"""How verdicts changed: the committed table of verdicts, revision by revision."""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from harness.report.markdown import VERDICTS_CSV

REVISIONS = 30
Verdicts = dict[tuple[str, str], str]


@dataclass(frozen=True)
class Revision:
    """One committed state: the day, and each claim's verdict by paper and claim."""

    day: str
    verdicts: Verdicts


@dataclass(frozen=True)
class Change:
    """A claim whose verdict changed on a day; empty where it was new or went."""

    day: str
    claim: str
    before: str
    after: str


def revisions(results: Path) -> list[Revision]:
    """The last committed states of a results folder, oldest first; none outside git."""
    log = _git(results, "log", f"-{REVISIONS}", "--format=%H %cs", "--", VERDICTS_CSV)
    found = []
    for line in reversed(log.splitlines()):
        commit, day = line.split()
        table = _git(results, "show", f"{commit}:./{VERDICTS_CSV}")
        rows = csv.DictReader(table.splitlines())
        found.append(Revision(day, {(r["paper"], r["claim"]): r["verdict"] for r in rows}))
    return found


def trend(history: Sequence[Revision], paper: str) -> list[int]:
    """How many claims were reproduced, revision by revision, repetitions left out."""
    counts: list[int] = []
    for revision in history:
        ours = [verdict for (key, _), verdict in revision.verdicts.items() if key == paper]
        count = ours.count("reproduced")
        if ours and (not counts or counts[-1] != count):
            counts.append(count)
    return counts


def changes(history: Sequence[Revision], paper: str) -> list[Change]:
    """Each change of a verdict, the newest first."""
    found = []
    for before, after in pairwise(history):
        claims = {key: None for key in [*before.verdicts, *after.verdicts] if key[0] == paper}
        for key in claims:
            old, new = before.verdicts.get(key, ""), after.verdicts.get(key, "")
            if old != new:
                found.append(Change(after.day, key[1], old, new))
    return found[::-1]


def _git(folder: Path, *arguments: str) -> str:
    """What git says, or nothing where there is no repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""
