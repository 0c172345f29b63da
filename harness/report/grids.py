"""Rows as a table where it fits, else each row as a few lines: names are never cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text


class Grid:
    """A table of which the first column, and for more than five all but the last, is one line.

    Args:
        columns: names of what is shown of each row.
        cut: columns that may be cut to a number of characters.
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        columns: Sequence[str],
        title: str = "",
        cut: Mapping[str, int] | None = None,
    ) -> None:
        self.rows = rows
        self.columns = columns
        self.title = title
        self.cut = cut or {}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.title:
            yield Text(self.title, "bold")
        table = self._table()
        fits = Measurement.get(console, options.update(width=10_000), table).minimum
        if fits <= options.max_width:
            yield table
        else:
            yield from self._lines()

    def _table(self) -> Table:
        many = len(self.columns) > 5  # then only the last column may take several lines
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1) if many else (0, 1))
        for index, name in enumerate(self.columns):
            most = self.cut.get(name)
            single = index == 0 or most is not None or (many and index < len(self.columns) - 1)
            table.add_column(
                name,
                no_wrap=single,
                overflow="ellipsis" if most else "fold",
                max_width=most,
                min_width=None if single else min(self._longest(name), 16),
            )
        for row in self.rows:
            table.add_row(*(Text(cell(row.get(name))) for name in self.columns))
        return table

    def _longest(self, name: str) -> int:
        """Of the words in a column."""
        words = (word for row in self.rows for word in cell(row.get(name)).split())
        return max(map(len, [name, *words]))

    def _lines(self) -> RenderResult:
        first, *others = self.columns
        for row in self.rows:
            yield Text(cell(row.get(first)), "bold")
            for name in others:
                if shown := cell(row.get(name)).replace("\n", ", "):
                    yield Padding(Text(f"{name}: {shown}"), (0, 0, 0, 2), expand=False)


def cell(value: Any) -> str:
    """A value as text; items of a list on lines of their own."""
    if value is None:
        return ""
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)
