"""Plain data with the line of every value: what a spec is before the schema reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.specs.yamlfile import Location, YamlFile


class ShortFormError(ValueError):
    """A short form that cannot be written out; ``line`` is where."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True)
class Node:
    """A value and its line; a mapping or list holds nodes."""

    line: int
    value: Any

    def get(self, key: str) -> Node | None:
        """What stands under a key; ``None`` also where this is no mapping."""
        return self.value.get(key) if isinstance(self.value, dict) else None

    def without(self, *keys: str) -> Node:
        return Node(self.line, {k: v for k, v in self.value.items() if k not in keys})


def read(source: YamlFile) -> Node:
    """The data of a file as nodes."""
    return _tree(source.data, source.lines, ())


def write(root: Node, source: YamlFile) -> YamlFile:
    """The file with the data of these nodes in place of its own."""
    lines: dict[Location, int] = {}
    return YamlFile(source.path, _plain(root, (), lines), lines)


def _tree(data: Any, lines: dict[Location, int], where: Location) -> Node:
    value = data
    if isinstance(data, dict):
        value = {key: _tree(item, lines, (*where, key)) for key, item in data.items()}
    elif isinstance(data, list):
        value = [_tree(item, lines, (*where, i)) for i, item in enumerate(data)]
    return Node(lines.get(where, 1), value)


def _plain(node: Node, where: Location, lines: dict[Location, int]) -> Any:
    lines[where] = node.line
    if isinstance(node.value, dict):
        return {key: _plain(item, (*where, key), lines) for key, item in node.value.items()}
    if isinstance(node.value, list):
        return [_plain(item, (*where, i), lines) for i, item in enumerate(node.value)]
    return node.value


def merged(base: Node, over: Node) -> Node:
    """Mappings merged key by key; anything else of ``over`` replaces what was there."""
    if not (isinstance(base.value, dict) and isinstance(over.value, dict)):
        return over
    both = {
        key: merged(base.value[key], item) for key, item in over.value.items() if key in base.value
    }
    return Node(over.line, {**base.value, **over.value, **both})
