"""Tables for the terminal: everything at 200 columns, what matters at 80."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.report.rows import measured, reported
from harness.spec import Paper
from harness.verdicts import JUDGEMENTS, Judgement, Verdict

STYLES: dict[Judgement, str] = {
    "reproduced": "green",
    "not reproduced": "red",
    "inconclusive": "yellow",
    "not comparable": "cyan",
    "not run": "dim",
}
WIDE = 140


def verdict_table(paper: Paper, verdicts: Sequence[Verdict], width: int) -> RenderableType:
    """Claims with reported and measured figures, evidence and verdict; reasons below if narrow."""
    wide = width >= WIDE
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False)
    several = len({v.dataset for v in verdicts}) > 1
    table.add_column("claim", overflow="fold", ratio=None)
    if several:
        table.add_column("measured on", overflow="fold")
    table.add_column("claimed", justify="right", overflow="fold")
    table.add_column("measured, 95 % CI", justify="right", overflow="fold")
    if wide:
        table.add_column("n", justify="right")
    table.add_column("evidence", overflow="fold")
    table.add_column("verdict", overflow="fold")
    if wide:
        table.add_column("reason", overflow="fold", ratio=1)
    for verdict in verdicts:
        table.add_row(*_cells(verdict, several, wide))
    parts: list[RenderableType] = [_title(paper, verdicts), table]
    if not wide:
        parts.append(_reasons(verdicts))
    parts.append(summary(verdicts))
    return Group(*parts)


def _title(paper: Paper, verdicts: Sequence[Verdict]) -> Text:
    tier = verdicts[0].tier if verdicts else ""
    return Text.assemble((paper.title, "bold"), f" ({paper.year}), tier {tier}")


def _cells(verdict: Verdict, several: bool, wide: bool) -> list[Text]:
    style = STYLES[verdict.verdict]
    cells = [Text(verdict.claim)]
    if several:
        cells.append(Text(verdict.dataset))
    cells += [Text(reported(verdict)), Text(measured(verdict))]
    if wide:
        cells.append(Text("" if verdict.n is None else str(verdict.n)))
    cells.append(Text(verdict.evidence or ""))
    mark = " (stale)" if verdict.stale else ""
    cells.append(Text(verdict.verdict + mark, style=style))
    if wide:
        cells.append(Text(_reason(verdict)))
    return cells


def _reason(verdict: Verdict) -> str:
    parts = [verdict.reason]
    if verdict.control and verdict.control != verdict.reason:
        parts.append(verdict.control)
    return "; ".join(parts)


def _reasons(verdicts: Iterable[Verdict]) -> Group:
    """Why, one line a claim: a narrow table has no room for it."""
    lines = []
    for v in verdicts:
        head = Text(f"{v.claim} on {v.dataset}: ", style="bold")
        lines.append(head + Text(_reason(v), style="not bold"))
    return Group(*lines, Text(""))


def summary(verdicts: Sequence[Verdict]) -> Text:
    """How many verdicts of each kind."""
    counts = Counter(v.verdict for v in verdicts)
    text = Text()
    for kind in JUDGEMENTS:
        if counts[kind]:
            text.append(f"{counts[kind]} {kind}  ", style=STYLES[kind])
    return text


def console(stderr: bool = False) -> Console:
    """A console that neither guesses markup in data nor colours what is piped."""
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)
