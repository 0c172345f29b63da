"""Text and tables in Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

_SPECIAL = re.compile(r"[\\`*\[\]<>|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def text(value: str) -> str:
    """Text that Markdown shows as it is, in one line of a table."""
    clean = " ".join(value.split()).replace("&", "&amp;")
    return _SPECIAL.sub(lambda match: f"\\{match[0]}", clean)


def table(
    head: Sequence[str], body: Iterable[Sequence[str]], right: Iterable[int] = ()
) -> list[str]:
    """A Markdown table; ``right`` are the columns of numbers."""
    aligned = set(right)
    rule = ["---:" if i in aligned else "---" for i in range(len(head))]
    line: Callable[[Sequence[str]], str] = lambda cells: f"| {' | '.join(cells)} |"  # noqa: E731
    return [line(head), line(rule), *map(line, body)]
