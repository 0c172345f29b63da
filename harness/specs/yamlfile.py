"""YAML 1.2 read safely, with the line of every value kept for error messages.

Only plain data is built (no tags), duplicate keys are errors, and size, depth and the number of
values after expanding aliases are bounded, so that a hostile file is refused and not expanded.
"""

from __future__ import annotations

import math
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.visible import acting

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
MAX_VALUES = 100_000
MAX_DIGITS = 400
SHORT_FORMS = frozenset({"claims", "table", "matrix"})  # keys of entries that stand for several

PLAIN = "a scalar that is neither quoted nor tagged"
_SafeLoader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):  # type: ignore[misc]  # which of the two is known at run time
    """Marks plain scalars instead of guessing their type by the rules of YAML 1.1."""

    def resolve(self, kind: type[yaml.Node], value: str, implicit: Any) -> Any:
        if kind is yaml.ScalarNode and implicit[0]:
            return PLAIN
        return super().resolve(kind, value, implicit)


Location = tuple[str | int, ...]
_TEXT = "tag:yaml.org,2002:str"
_FLOAT_TAG = "tag:yaml.org,2002:float"
_TAGGED: dict[str, type] = {
    _FLOAT_TAG: float,
    "tag:yaml.org,2002:int": int,
    "tag:yaml.org,2002:bool": bool,
    "tag:yaml.org,2002:null": type(None),
}
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMERIC = frozenset("+-.0123456789")  # what a number may begin with
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
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
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise YamlError("is no regular file")
        if found.st_size > MAX_BYTES:
            raise YamlError(f"{found.st_size:,} bytes; a spec has at most {MAX_BYTES:,}")
        with path.open("rb") as file:
            return file.read(MAX_BYTES)
    except OSError as error:
        raise YamlError(f"cannot be read: {error.strerror}") from error


Outline = dict[str, Any]


def outline(path: Path) -> Outline:
    """The outermost level of a mapping, read several times faster than the whole.

    Scalars, the names in a mapping as a list, and a sequence as a tuple of the texts in it (empty
    ones for what is no scalar).

    Raises:
        YamlError: the file cannot be read or is not well-formed, or has an alias, a tag or a merge
            key on that level, or an entry that may stand for several.
    """
    found = Outline()
    try:
        events = iter(yaml.parse(_bytes(path), Loader=_Loader))
        while not isinstance(event := next(events), yaml.NodeEvent):
            pass
        if not isinstance(event, yaml.MappingStartEvent):
            raise YamlError("not a mapping", _line(event.start_mark))
        while not isinstance(key := next(events), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent) or not isinstance(_value(key), str):
                raise YamlError("a key is not text", _line(key.start_mark))
            if key.value == "<<":
                raise YamlError(_MERGE, _line(key.start_mark))
            value = next(events)
            if isinstance(value, yaml.ScalarEvent):
                found[key.value] = _value(value)
            elif isinstance(value, yaml.MappingStartEvent):
                found[key.value] = _inside(events)[::2]
            elif isinstance(value, yaml.SequenceStartEvent):
                found[key.value] = tuple(_inside(events))
            else:
                raise YamlError("an alias", _line(value.start_mark))
    except StopIteration:
        raise YamlError("not a mapping") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _unreadable(error) from error
    return found


def _value(event: yaml.ScalarEvent) -> Any:
    line = _line(event.start_mark)
    if event.tag is not None:
        raise YamlError("a tag", line)
    refuse_acting(event.value, line)
    return scalar(event.value, PLAIN if event.implicit[0] else _TEXT, line)


def _inside(events: Iterator[yaml.Event]) -> list[str]:
    """What stands directly in a collection, up to its end; only texts and numbers are named."""
    inside, depth = [], 1
    for event in events:
        text = event.value if isinstance(event, yaml.ScalarEvent) else ""
        if depth == 2 and text in SHORT_FORMS:
            raise YamlError("an entry that may stand for several", _line(event.start_mark))
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
            if depth == 0:
                break
            continue
        if depth == 1:
            inside.append(text)
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
            if key == "<<" and key_node.tag == PLAIN:
                raise YamlError(_MERGE, line)
            if key is None and key_node.value == "null":
                key = "null"  # the word names null models; as a key it can mean nothing else
            if not isinstance(key, str):
                raise YamlError(f"the key {key!r} is not text (quote it)", line)
            if key in result:
                raise YamlError(f"the key {key!r} stands here twice", line)
            self.lines[(*where, key)] = line
            result[key] = self.build(value_node, (*where, key), depth + 1)
        return result

    def _scalar(self, node: yaml.Node) -> Any:
        line = node.start_mark.line + 1
        if not isinstance(node, yaml.ScalarNode):
            raise YamlError(f"{node.tag} is not plain data", line)
        refuse_acting(node.value, line)
        return scalar(node.value, node.tag, line)


def refuse_acting(text: str, line: int) -> None:
    """Raises YamlError for a text that would act on a terminal or a page that shows it."""
    if character := acting(text):
        raise YamlError(f"a text holds the control character {character}", line)


def scalar(text: str, tag: str, line: int) -> Any:
    """What a scalar stands for in the core schema of YAML 1.2 (section 10.3.2).

    Dates, ``yes`` and ``on``, ``1:30`` and ``1_000`` are text there, and ``010`` is ten.

    Args:
        tag: ``PLAIN`` for what is neither quoted nor tagged.

    Raises:
        YamlError: for infinities and NaN, and for a tag that the text does not fit.
    """
    if tag == _TEXT:
        return text
    value = _plain(text, line)
    if tag == PLAIN:
        return value
    if tag == _FLOAT_TAG and type(value) is int:
        return float(value)
    if type(value) is not _TAGGED.get(tag):
        raise YamlError(f"{text!r} cannot be read as {tag}", line)
    return value


def _plain(text: str, line: int) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if text[:1] not in _NUMERIC:
        return text
    if _NO_NUMBER.fullmatch(text):
        raise YamlError(f"{text} is not a finite number", line)
    integer = _INTEGER.fullmatch(text)
    if not integer and not _FLOAT.fullmatch(text):
        return text
    if len(text) > MAX_DIGITS:
        raise YamlError("a number with too many digits", line)
    if integer:
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if not math.isfinite(value := float(text)):
        raise YamlError(f"{text} is not a finite number", line)
    return value
