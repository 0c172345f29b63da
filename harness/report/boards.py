"""Which model is best on a data set: variants of all papers ranked by a metric."""

from __future__ import annotations

import hashlib
import json
import math
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from harness.report.leaderboard import Cell, PaperResults
from harness.specs.schema import Paper

MAX_ENTRIES = 100


@dataclass(frozen=True)
class Entry:
    """One variant of one paper on the board's data set.

    ``place`` is one more than the entries that are clearly better.
    """

    paper: str
    title: str
    label: str
    role: str
    tier: str
    cell: Cell
    place: int = 1


@dataclass
class Board:
    """Variants ranked by one metric, best first; ``left_out`` were not shown."""

    metric: str
    label: str
    unit: str
    better: str
    entries: list[Entry] = field(default_factory=list)
    left_out: int = 0


@dataclass
class DatasetBoards:
    """All boards of one data set, with the name of its page."""

    slug: str
    label: str
    boards: list[Board]

    @property
    def papers(self) -> int:
        return len({entry.paper for board in self.boards for entry in board.entries})


class Boards:
    """Collects measurements paper by paper.

    Papers share a board where they share a source in the data catalogue, or a generator outside
    their own folder with the same arguments. What a paper generates itself is its own data set,
    whatever its name.
    """

    def __init__(self) -> None:
        self.found: dict[str, dict[tuple[str, str, str], Board]] = defaultdict(dict)
        self.labels: dict[str, str] = {}

    def add(self, results: PaperResults) -> None:
        """Take each variant's measurement at the strongest tier that has it; controls excepted."""
        seen: set[tuple[str, str, str]] = set()
        for tier in results.tiers:
            for cell in tier.cells:
                place = (cell.variant, cell.dataset, cell.metric)
                if place not in seen:
                    seen.add(place)
                    self._add(results.paper, tier.tier, cell)

    def _add(self, paper: Paper, tier: str, cell: Cell) -> None:
        metric, variant = paper.metrics.get(cell.metric), paper.variants[cell.variant]
        if metric is None or metric.better is None or variant.role == "control":
            return
        identity, label = same_data(paper, cell.dataset)
        self.labels.setdefault(identity, label)
        kind = (cell.metric, metric.unit, metric.better)
        board = self.found[identity].setdefault(
            kind, Board(cell.metric, metric.label, metric.unit, metric.better)
        )
        board.entries.append(Entry(paper.key, paper.title, variant.label, variant.role, tier, cell))

    def datasets(self) -> list[DatasetBoards]:
        """Every data set with its boards, by label."""
        pages = []
        for identity, boards in self.found.items():
            slug = re.sub(r"[^a-z0-9]+", "-", self.labels[identity].lower()).strip("-")
            mark = hashlib.sha256(identity.encode()).hexdigest()[:6]
            ranked = [_ranked(board) for board in boards.values()]
            pages.append(DatasetBoards(f"{slug}-{mark}", self.labels[identity], ranked))
        return sorted(pages, key=lambda page: (page.label.lower(), page.slug))


def same_data(paper: Paper, dataset: str) -> tuple[str, str]:
    """What makes two papers' data sets the same one, and its label."""
    spec = paper.datasets[dataset]
    if source := spec.entries.get("root"):
        return f"source {source}", spec.label
    path = spec.class_path or ""
    if path and not path.startswith("experiments."):
        arguments = json.dumps(spec.init_args, sort_keys=True)
        return f"class {path} {arguments}", spec.label
    return f"paper {paper.key} {dataset}", f"{spec.label} ({paper.key})"


def _ranked(board: Board) -> Board:
    sign = -1.0 if board.better == "higher" else 1.0

    def place(entry: Entry) -> tuple[float, str, str]:
        return sign * entry.cell.estimate.value, entry.paper, entry.label

    shown = _placed(sorted(board.entries, key=place), sign)
    board.entries, board.left_out = shown[:MAX_ENTRIES], max(0, len(shown) - MAX_ENTRIES)
    return board


def _placed(entries: Sequence[Entry], sign: float) -> list[Entry]:
    """Give each entry its place: how many have their whole interval on the better side, plus one.

    Args:
        sign: 1 where lower is better, else −1.
    """
    nearest = [_end(entry, sign, worst=False) for entry in entries]
    worst = sorted(_end(entry, sign, worst=True) for entry in entries)
    return [
        replace(e, place=1 + bisect_left(worst, end))
        for e, end in zip(entries, nearest, strict=True)
    ]


def _end(entry: Entry, sign: float, *, worst: bool) -> float:
    """One end of an entry's interval, as a number of which lower is better."""
    found = entry.cell.estimate
    ends = [sign * end for end in (found.low, found.high) if end is not None]
    if len(ends) < 2:
        return math.inf if worst else -math.inf
    return max(ends) if worst else min(ends)
