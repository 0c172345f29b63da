"""YAML read safely, with the line of every value kept for error messages.

Only plain data is built (no tags), duplicate keys are errors, and size, depth and the number of
values after expanding aliases are bounded, so that a hostile file is refused and not expanded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
MAX_VALUES = 100_000
MAX_DIGITS = 400

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Location = tuple[str | int, ...]
_TEXT = "tag:yaml.org,2002:str"
_NUMERIC = frozenset("+-.0123456789")  # what a number may begin with
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_NO_NUMBER = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_MERGE = "merge keys (<<) are not read: write the keys out, or let one variant be `like:` another"


class YamlError(ValueError):
    """The file is not YAML that may be read; ``line`` counts from 1 (0: the whole file)."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True)
class YamlFile:
    """The data of a file, and on which line each value stands."""

    path: Path
    data: Any
    lines: dict[Location, int]

    def line(self, where: Sequence[str | int]) -> int:
        """The line of a value, or of the closest thing around it that exists."""
        location = tuple(where)
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)


def load(path: Path) -> YamlFile:
    """Read a YAML file.

    Raises:
        YamlError: for anything but plain, bounded, well-formed data.
    """
    raw = _bytes(path)
    _refuse_deep_nesting(raw)
    try:
        node = yaml.compose(raw, Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise _unreadable(error) from error
    reader = _Reader()
    data = reader.build(node, (), 0) if node is not None else None
    return YamlFile(path, data, reader.lines)


def _bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise YamlError(f"cannot be read: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        raise YamlError(f"{len(raw):,} bytes; a spec has at most {MAX_BYTES:,}")
    return raw


Outline = dict[str, str | list[str] | int]


def outline(path: Path) -> Outline:
    """The outermost level of a mapping, read several times faster than the whole.

    Texts and numbers as they are written, the names in a mapping, how many items a sequence has.

    Raises:
        YamlError: the file cannot be read, is not well-formed, or has an alias on that level.
    """
    found = Outline()
    try:
        events = iter(yaml.parse(_bytes(path), Loader=_Loader))
        while not isinstance(event := next(events), yaml.NodeEvent):
            pass
        if not isinstance(event, yaml.MappingStartEvent):
            raise YamlError("not a mapping", _line(event.start_mark))
        while not isinstance(key := next(events), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent):
                raise YamlError("a key is not text", _line(key.start_mark))
            value = next(events)
            if isinstance(value, yaml.ScalarEvent):
                found[key.value] = value.value
            elif isinstance(value, yaml.MappingStartEvent):
                found[key.value] = _inside(events)[::2]
            elif isinstance(value, yaml.SequenceStartEvent):
                found[key.value] = len(_inside(events))
            else:
                raise YamlError("an alias", _line(value.start_mark))
    except StopIteration:
        raise YamlError("not a mapping") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _unreadable(error) from error
    return found


def _inside(events: Iterator[yaml.Event]) -> list[str]:
    """What stands directly in a collection, up to its end; only texts and numbers are named."""
    inside, depth = [], 1
    for event in events:
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
            if depth == 0:
                break
            continue
        if depth == 1:
            inside.append(event.value if isinstance(event, yaml.ScalarEvent) else "")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
    return inside


def _refuse_deep_nesting(raw: bytes) -> None:
    """Bound the depth on the event stream: composing recurses in C and would overflow the stack."""
    depth = 0
    try:
        for event in yaml.parse(raw, Loader=_Loader):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > MAX_DEPTH:
                raise YamlError("nested too deeply", _line(event.start_mark))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _unreadable(error) from error


def _line(mark: Any) -> int:
    """The line of a mark, from 1; 0 where the parser has none."""
    return int(getattr(mark, "line", -1)) + 1


def _unreadable(error: Exception) -> YamlError:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        return YamlError(str(error.problem or error), _line(mark))
    return YamlError(f"not readable as YAML: {str(error).splitlines()[0]}")


class _Reader:
    """Builds data from nodes; aliases count every time they are used."""

    def __init__(self) -> None:
        self.lines: dict[Location, int] = {}
        self.count = 0
        self.scalars = _Loader(b"")

    def build(self, node: yaml.Node, where: Location, depth: int) -> Any:
        self.count += 1
        line = node.start_mark.line + 1
        self.lines.setdefault(where, line)
        if self.count > MAX_VALUES or depth > MAX_DEPTH:
            raise YamlError("too many values or nested too deeply (aliases count as copies)", line)
        if isinstance(node, yaml.CollectionNode) and not node.tag.endswith((":map", ":seq")):
            raise YamlError(f"{node.tag} is not plain data", line)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, where, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(n, (*where, i), depth + 1) for i, n in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, where: Location, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, line = self._scalar(key_node), key_node.start_mark.line + 1
            if key == "<<" and not key_node.style:
                raise YamlError(_MERGE, line)
            if not isinstance(key, str):
                raise YamlError(f"the key {key!r} is not text (quote it)", line)
            if key in result:
                raise YamlError(f"the key {key!r} stands here twice", line)
            self.lines[(*where, key)] = line
            result[key] = self.build(value_node, (*where, key), depth + 1)
        return result

    def _scalar(self, node: yaml.Node) -> Any:
        line = node.start_mark.line + 1
        if not isinstance(node, yaml.ScalarNode) or not node.tag.startswith("tag:yaml.org,2002:"):
            raise YamlError(f"{node.tag} is not plain data", line)
        if node.style or (node.tag == _TEXT and node.value[:1] not in _NUMERIC):
            plain = node.tag == _TEXT
        else:
            plain = node.tag == self.scalars.resolve(yaml.ScalarNode, node.value, (True, False))
            if plain:
                return _core(node.value, line)
        return node.value if plain or node.tag == _TEXT else self._tagged(node, line)

    def _tagged(self, node: yaml.ScalarNode, line: int) -> Any:
        """A value with an explicit tag, such as ``!!int "3"``."""
        if len(node.value) > MAX_DIGITS:
            raise YamlError("a number with too many digits", line)
        try:
            value = self.scalars.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError, OverflowError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise YamlError(f"{node.value!r} cannot be read: {reason}", line) from error
        if isinstance(value, float) and not math.isfinite(value):
            raise YamlError(f"{node.value} is not a finite number", line)
        if not isinstance(value, (str, int, float, bool, type(None))):
            raise YamlError(f"{node.tag} is not plain data", line)
        return value


def _core(text: str, line: int) -> Any:
    """What unquoted text stands for in the core schema of YAML 1.2 (section 10.3.2).

    Dates, ``yes`` and ``on``, ``1:30`` and ``1_000`` are text there, and ``010`` is ten.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text) or _FLOAT.fullmatch(text):
        if len(text) > MAX_DIGITS:
            raise YamlError("a number with too many digits", line)
        if text[:2] in ("0o", "0x"):
            return int(text, 0)
        value = int(text) if _INTEGER.fullmatch(text) else float(text)
        if isinstance(value, float) and not math.isfinite(value):
            raise YamlError(f"{text} is not a finite number", line)
        return value
    if _NO_NUMBER.fullmatch(text):
        raise YamlError(f"{text} is not a finite number", line)
    return text
