"""Verdicts for the terminal: a table where it fits, a block for each claim where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.judging.deciding import count
from harness.judging.verdicts import JUDGEMENTS, Judgement, Verdict
from harness.report.rows import measured, reported
from harness.specs.schema import Paper

STYLES: dict[Judgement, str] = {
    "reproduced": "green",
    "not reproduced": "red",
    "inconclusive": "yellow",
    "not comparable": "cyan",
    "not run": "dim",
}
WIDE = 140


def verdict_table(paper: Paper, verdicts: Sequence[Verdict], width: int) -> RenderableType:
    """Claims with reported and measured figures, evidence, verdict and reason.

    A table where it fits; below that width a block for each claim, a line for each data set.
    """
    tier = verdicts[0].tier if verdicts else ""
    title = Text.assemble((paper.title, "bold"), f" ({paper.year}), tier {tier}")
    body = _table(verdicts) if width >= WIDE else _blocks(verdicts)
    return Group(title, body, summary(verdicts))


def _table(verdicts: Sequence[Verdict]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("claim", no_wrap=True)
    table.add_column("measured on", no_wrap=True)
    table.add_column("claimed", justify="right", max_width=24, no_wrap=True, overflow="ellipsis")
    table.add_column("measured [95 % CI]", justify="right", no_wrap=True)
    table.add_column("n", justify="right")
    table.add_column("evidence", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("reason", ratio=1)
    for v in verdicts:
        table.add_row(
            Text(v.claim),
            Text(v.dataset),
            Text(reported(v)),
            Text(measured(v)),
            Text("" if v.n is None else str(v.n)),
            Text(v.evidence or ""),
            _verdict(v),
            Text(_reason(v)),
        )
    return table


def _blocks(verdicts: Sequence[Verdict]) -> Group:
    parts: list[RenderableType] = []
    for _, group in groupby(verdicts, key=lambda v: v.claim):
        rows = list(group)
        first = rows[0]
        head = Text.assemble("\n", (first.claim, "bold"), f": {first.statement}")
        parts += [head, Text(f"  claimed: {reported(first)}", style="dim")]
        for v in rows:
            line = Table.grid(padding=(0, 1))
            for size in (16, 26, 8, 22):
                line.add_column(min_width=size, overflow="fold")
            line.add_row(
                Text(f"  {v.dataset}"), Text(measured(v)), Text(v.evidence or ""), _verdict(v)
            )
            parts += [line, Padding(Text(_reason(v), style="dim"), (0, 0, 0, 4))]
    return Group(*parts, Text(""))


def _verdict(verdict: Verdict) -> Text:
    mark = " (stale)" if verdict.stale else ""
    return Text(verdict.verdict + mark, style=STYLES[verdict.verdict])


def _reason(verdict: Verdict) -> str:
    parts = [verdict.reason]
    if verdict.control and verdict.control != verdict.reason:
        parts.append(verdict.control)
    return "; ".join(parts)


def summary(verdicts: Sequence[Verdict]) -> Text:
    """How many claims have each verdict."""
    counts = count(verdicts)
    total = sum(counts.values())
    text = Text(f"{total} claim{'' if total == 1 else 's'}: ")
    for kind in JUDGEMENTS:
        if counts[kind]:
            text.append(f"{counts[kind]} {kind}  ", style=STYLES[kind])
    return text
