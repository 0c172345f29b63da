"""Tables and matrices: one entry of a spec that stands for many, its ``{words}`` filled in.

A table gives the words of each cell, row by row, a matrix those of each combination of its axes.
``{row}``, ``{column}`` and the names of axes are keys; what is written at a key are further
words, and ``cell`` names what stands in a cell. A text that is one ``{word}`` and nothing else
becomes the word's value, of whatever type; ``{word:,}`` and ``{word:.2f}`` say how a number is
written inside a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import product

from harness.specs.nodes import Node, ShortFormError
from harness.specs.yamlfile import MAX_VALUES

MAX_TEXT = 10_000  # characters of a text, and of a word inside one
MAX_WORD = 1_000
TABLE = ("rows", "columns", "cell")
_WORD = re.compile(r"(?<!\$)\{([A-Za-z_]\w*)(?::(,?(?:\.\d{1,2}[efg])?))?\}", re.ASCII)

Words = dict[str, Node]


class Writer:
    """Writes short forms out, within the number of values that a spec may hold."""

    def __init__(self) -> None:
        self.count = 0

    def spend(self, node: Node) -> None:
        self.count += 1
        if self.count > MAX_VALUES:
            raise ShortFormError(node.line, f"written out, more than {MAX_VALUES:,} values")

    def counted(self, node: Node) -> Node:
        """A node that is used once more, with all that it holds."""
        self.spend(node)
        inside = node.value.values() if isinstance(node.value, dict) else node.value
        if isinstance(node.value, (dict, list)):
            for item in inside:
                self.counted(item)
        return node

    def combinations(self, axes: Node) -> Iterator[Words]:
        """The words of every combination of a matrix's axes, the last one fastest."""
        if not isinstance(axes.value, dict) or not axes.value:
            raise ShortFormError(axes.line, "matrix: a mapping of axes, like {width: [64, 128]}")
        every = [_axis(name, values) for name, values in axes.value.items()]
        for chosen in product(*every):
            self.spend(axes)
            yield _together(axes.line, chosen)

    def cells(self, table: Node) -> Iterator[Words]:
        """The words of every cell of a table that is not empty, row by row."""
        given = table.value if isinstance(table.value, dict) else {}
        if "rows" not in given or not given.keys() <= set(TABLE):
            raise ShortFormError(table.line, f"a table has rows, and may have {', '.join(TABLE)}")
        columns = _axis("column", given["columns"]) if "columns" in given else [{}]
        names = _names(given.get("cell"))
        for row in _axis("row", given["rows"]):
            inside = _row(row.pop("cells", None), columns)
            for column, cell in zip(columns, inside, strict=True):
                self.spend(table)
                if cell is None:
                    yield _together(table.line, [row, column])
                elif cell.value is not None:
                    yield _together(cell.line, [row, column, _named(cell, names)])

    def filled(self, node: Node, words: Words) -> Node:
        """A copy in which words stand in the place of their names."""
        self.spend(node)
        if isinstance(node.value, dict):
            return Node(node.line, {k: self.filled(v, words) for k, v in node.value.items()})
        if isinstance(node.value, list):
            return Node(node.line, [self.filled(item, words) for item in node.value])
        if not isinstance(node.value, str):
            return node
        whole = _WORD.fullmatch(node.value)
        if whole and whole[2] is None:
            return self.counted(_word(node, whole[1], words))
        text = _WORD.sub(lambda m: _written(node, m, words), node.value[:MAX_TEXT])
        if max(len(text), len(node.value)) > MAX_TEXT:
            raise ShortFormError(node.line, f"a text of more than {MAX_TEXT:,} characters")
        return Node(node.line, text)


def _axis(name: str, values: Node) -> list[Words]:
    """The words of each place on an axis: its key under the axis's name, and what it brings."""
    if isinstance(values.value, list) and values.value:
        return [{name: key} for key in values.value]
    if not isinstance(values.value, dict) or not values.value:
        raise ShortFormError(values.line, f"{name}: a list of keys, or keys with words for each")
    found = []
    for key, words in values.value.items():
        if not isinstance(words.value, (dict, type(None))):
            raise ShortFormError(words.line, f"{name} {key}: words for it, like {{label: …}}")
        found.append(_together(words.line, [{name: Node(words.line, key)}, words.value or {}]))
    return found


def _together(line: int, parts: Iterable[Words]) -> Words:
    words: Words = {}
    for part in parts:
        if twice := words.keys() & part.keys():
            raise ShortFormError(line, f"the word {min(twice)!r} is given twice")
        words |= part
    return words


def _names(cell: Node | None) -> list[str]:
    if cell is None:
        return ["value"]
    names = [part.value for part in cell.value] if isinstance(cell.value, list) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise ShortFormError(cell.line, "cell: names of what stands in a cell, like [value, std]")
    return names


def _row(cells: Node | None, columns: list[Words]) -> list[Node | None]:
    """What a row holds in each column; ``None`` where the row has no cells at all."""
    if cells is None:
        return [None for _ in columns]
    keys = [column["column"].value for column in columns if column]
    if isinstance(cells.value, list):
        if len(cells.value) != len(keys):
            raise ShortFormError(cells.line, f"{len(cells.value)} cells for {len(keys)} columns")
        return list(cells.value)
    if not isinstance(cells.value, dict) or not cells.value.keys() <= set(keys):
        raise ShortFormError(cells.line, "cells: a list with one for each column, or by column")
    return [cells.value.get(key, Node(cells.line, None)) for key in keys]


def _named(cell: Node, names: list[str]) -> Words:
    parts = cell.value if isinstance(cell.value, list) else [cell]
    if len(parts) != len(names):
        raise ShortFormError(cell.line, f"a cell holds {', '.join(names)}")
    return dict(zip(names, parts, strict=True))


def _word(node: Node, name: str, words: Words) -> Node:
    if name not in words:
        known = ", ".join(words) or "none"
        raise ShortFormError(node.line, f"no word for {{{name}}}; there are {known}")
    return words[name]


def _written(node: Node, match: re.Match[str], words: Words) -> str:
    """A word inside a text; numbers as their author wrote them, or by the format."""
    value, how = _word(node, match[1], words).value, match[2]
    if isinstance(value, str) and len(value) > MAX_WORD:
        raise ShortFormError(node.line, f"a word of more than {MAX_WORD:,} characters in a text")
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (number or (isinstance(value, str) and how is None)):
        kind = "a number" if how is not None else "a text or a number"
        raise ShortFormError(node.line, f"{match[0]} stands inside a text: it must be {kind}")
    if not number:
        return str(value)
    return format(value, how if how is not None else ".15g" if isinstance(value, float) else "d")
