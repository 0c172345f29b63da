"""Verdicts for the terminal: a table where it fits, a block for each claim where it does not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.judging.deciding import count, direction_only, headlines
from harness.judging.verdicts import JUDGEMENTS, Judgement, Verdict
from harness.report.console import UNLIMITED
from harness.report.rows import marks, measured, reasons, reported, seeds_of
from harness.specs.schema import Paper

STYLES: dict[Judgement, str] = {
    "reproduced": "green",
    "not reproduced": "red",
    "inconclusive": "yellow",
    "not comparable": "cyan",
    "not run": "dim",
}
INDENT = 2


def verdict_table(paper: Paper, verdicts: Sequence[Verdict], width: int) -> RenderableType:
    """Claims with reported and measured figures, evidence, verdict and reason.

    A table where it fits; else a block for each claim, a line for each data set.
    """
    tiers = list(dict.fromkeys(v.tier for v in verdicts))
    named = f"tier{'s' if len(tiers) > 1 else ''} {', '.join(tiers)}"
    title = Text.assemble((paper.title, "bold"), f" ({paper.year}), {named}")
    table = _table(verdicts, width)
    everything = Console(width=UNLIMITED)
    fits = Measurement.get(everything, everything.options, table).minimum <= width
    return Group(title, table if fits else _blocks(verdicts, width), summary(verdicts))


def _table(verdicts: Sequence[Verdict], width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("claim", overflow="fold", min_width=_longest(v.claim for v in verdicts))
    table.add_column("measured on", overflow="fold", min_width=14)
    table.add_column("claimed", justify="right", overflow="fold", max_width=max(24, width // 10))
    table.add_column("measured [95 % CI]", justify="right", no_wrap=True)
    table.add_column("n", justify="right")
    table.add_column("evidence", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("reason", overflow="fold", min_width=40)
    above = ("", "")
    for v in verdicts:
        claimed = (v.claim, reported(v))
        table.add_row(
            Text(v.claim),
            Text(v.dataset),
            Text("" if claimed == above else claimed[1]),  # once for all data sets
            Text(measured(v)),
            Text(seeds_of(v)),
            Text(v.evidence or ""),
            _verdict(v),
            Text("; ".join(reasons(v))),
        )
        above = claimed
    return table


def _blocks(verdicts: Sequence[Verdict], width: int) -> Group:
    """Figures of all claims stand below each other; where that does not fit, on lines of their own.

    Names of data sets take what the other columns leave, and several lines if they have spaces.
    """
    figures = _longest(measured(v) for v in verdicts)
    evidence = _longest(v.evidence or "" for v in verdicts)
    verdict = _longest(_verdict(v).plain for v in verdicts)
    room = width - figures - evidence - verdict - 3  # a space between columns
    names = min(_longest(v.dataset for v in verdicts) + INDENT, room)
    fits = room >= _longest(word for v in verdicts for word in v.dataset.split()) + INDENT
    sizes = (names, figures, evidence, verdict) if fits else None
    parts: list[RenderableType] = []
    for _, group in groupby(verdicts, key=lambda v: v.claim):
        rows = list(group)
        first = rows[0]
        head = Text.assemble("\n", (first.claim, "bold"), f": {first.statement}")
        parts += [head, Text(f"  claimed: {reported(first)}", style="dim")]
        for v in rows:
            reason = Padding(Text("; ".join(reasons(v)), style="dim"), (0, 0, 0, 2 * INDENT))
            parts += [*_lines(v, sizes), reason]
    return Group(*parts, Text(""))


def _lines(v: Verdict, sizes: Sequence[int] | None) -> list[RenderableType]:
    cells = [Text(v.dataset), Text(measured(v)), Text(v.evidence or ""), _verdict(v)]
    if sizes is None:
        second = Text(" ").join(cell for cell in cells[2:] if cell)
        indented = [Text.assemble(cells[0], ": ", cells[1]), second]
        return [Padding(line, (0, 0, 0, INDENT * (1 + i))) for i, line in enumerate(indented)]
    line = Table.grid(padding=(0, 1))
    for size in sizes:
        line.add_column(width=size, overflow="fold")
    line.add_row(Padding(cells[0], (0, 0, 0, INDENT)), *cells[1:])
    return [line]


def _longest(texts: Iterable[str]) -> int:
    return max(map(len, texts), default=0)


def _verdict(verdict: Verdict) -> Text:
    found = marks(verdict)
    mark = f" ({', '.join(found)})" if found else ""
    return Text(verdict.verdict + mark, style=STYLES[verdict.verdict])


def summary(verdicts: Sequence[Verdict]) -> Text:
    """How many of the paper's own claims have each verdict, and how many are of others."""
    counts, only = count(verdicts), direction_only(verdicts)
    total = sum(counts.values())
    text = Text(f"{total} claim{'' if total == 1 else 's'} of the paper: ")
    for kind in JUDGEMENTS:
        if counts[kind]:
            apart = f" ({only} direction only)" if only and kind == "reproduced" else ""
            text.append(f"{counts[kind]} {kind}{apart}  ", style=STYLES[kind])
    if others := len(headlines(verdicts)) - total:
        text.append(f"({others} of others not counted)", style="dim")
    return text
