"""The short forms of a spec, written out before the schema reads it.

- *Groups*: an entry of ``claims`` that itself has ``claims`` holds defaults for these, merged key
  by key; a claim's own ``criterion`` replaces that of its group.
- *Tables*: an entry of ``claims`` or ``overrides`` with ``table: {rows, columns, cell}`` stands for
  one entry per cell that is not empty. In a claim the words ``value``, ``std``, ``n`` and
  ``error`` are what is reported.
- *Matrices*: an entry of ``variants`` or ``datasets`` with ``matrix: {axis: …}`` stands for one
  entry per combination, named by the words in its key.
- *Figures by data set*: where a claim's ``reported`` or ``criterion`` has a mapping in the place of
  a number, these become its ``each``.

How words are filled in is said in :mod:`harness.specs.words`.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.specs import nodes
from harness.specs.nodes import Node, ShortFormError
from harness.specs.words import Words, Writer
from harness.specs.yamlfile import YamlFile

FIGURES = ("value", "std", "n", "error")
TESTED = ("quantity", "criterion", "control", "no_control", "null", "mechanism")


def expand(source: YamlFile) -> YamlFile:
    """The file with its short forms written out; every value keeps its line.

    Raises:
        ShortFormError: for a form that makes no sense, or comes to more than a spec may hold.
    """
    root = nodes.read(source)
    if not isinstance(root.value, dict):
        return source
    writer = Writer()
    spec = {key: _section(writer, key, part) for key, part in root.value.items()}
    return nodes.write(Node(root.line, spec), source)


def _section(writer: Writer, key: str, part: Node) -> Node:
    if key == "claims" and isinstance(part.value, list):
        claims = (c for item in part.value for c in _claims(writer, item, Node(item.line, {})))
        return Node(part.line, [_by_dataset(claim) for claim in claims])
    if key in ("variants", "datasets") and isinstance(part.value, dict):
        return _matrices(writer, part)
    if key == "overrides":
        return _overrides(writer, part)
    if key == "tiers" and isinstance(part.value, dict):
        return Node(part.line, {name: _tier(writer, tier) for name, tier in part.value.items()})
    return part


def _tier(writer: Writer, tier: Node) -> Node:
    overrides = tier.get("overrides")
    if overrides is None:
        return tier
    return Node(tier.line, {**tier.value, "overrides": _overrides(writer, overrides)})


def _claims(writer: Writer, item: Node, defaults: Node) -> Iterator[Node]:
    """The claims that an entry stands for."""
    if not isinstance(item.value, dict):
        yield item
        return
    merged = writer.counted(_over_defaults(defaults, item))
    inner = item.get("claims")
    if inner is not None:
        if not isinstance(inner.value, list) or not inner.value:
            raise ShortFormError(inner.line, "claims: a list of the claims in this group")
        for claim in inner.value:
            yield from _claims(writer, claim, merged.without("claims"))
    elif "table" in merged.value:
        for words in writer.cells(merged.value["table"]):
            yield _with_reported(writer.filled(merged.without("table"), words), words)
    else:
        yield merged


def _over_defaults(defaults: Node, claim: Node) -> Node:
    """A claim with its group's defaults; what is not run takes over nothing of a test."""
    dropped = TESTED if "not_run" in claim.value else ()
    own = ("criterion",) if "criterion" in claim.value else ()
    return nodes.merged(defaults.without(*dropped, *own), claim)


def _overrides(writer: Writer, part: Node) -> Node:
    if not isinstance(part.value, list):
        return part
    found: list[Node] = []
    for item in part.value:
        table = item.get("table")
        if table is None:
            found.append(item)
        else:
            entry = item.without("table")
            found += [writer.filled(entry, words) for words in writer.cells(table)]
    return Node(part.line, found)


def _matrices(writer: Writer, part: Node) -> Node:
    found: Words = {}
    for name, item in part.value.items():
        axes = item.get("matrix")
        every = [(name, item)]
        if axes is not None:
            pair, entry = Node(item.line, name), item.without("matrix")
            every = [
                (str(writer.filled(pair, words).value), writer.filled(entry, words))
                for words in writer.combinations(axes)
            ]
        for key, entry in every:
            if key in found:
                raise ShortFormError(item.line, f"two entries have the name {key!r}")
            found[key] = entry
    return Node(part.line, found)


def _with_reported(claim: Node, words: Words) -> Node:
    """A claim of a table with what stands in its cell as the reported figure."""
    figures = {name: words[name] for name in FIGURES if name in words}
    given = claim.get("reported") or Node(claim.line, {})
    if not figures or not isinstance(given.value, dict):
        return claim
    reported = Node(given.line, {**figures, **given.value})
    return Node(claim.line, {**claim.value, "reported": reported})


def _by_dataset(claim: Node) -> Node:
    """A claim with figures by data set, as its ``each``: what is reported and asked for on each.

    What remains of ``reported`` says all figures in words.
    """
    parts = {key: claim.get(key) for key in ("reported", "criterion")}
    given = {key: part for key, part in parts.items() if part is not None}
    maps = [item for part in given.values() for item in _maps(part)]
    if not maps:
        return claim
    names = dict.fromkeys([*_datasets(claim), *(name for item in maps for name in item.value)])
    each = {
        name: Node(maps[0].line, {key: _on(part, name) for key, part in given.items()})
        for name in names
    }
    rest = dict(claim.without("criterion").value)
    if "not_run" not in rest:
        rest["each"] = Node(maps[0].line, each)
    if "reported" in given:
        rest["reported"] = _in_words(given["reported"])
    return Node(claim.line, rest)


def _datasets(claim: Node) -> list[str]:
    """The data sets that a claim is on."""
    quantity = claim.get("quantity")
    on = quantity.get("on") if quantity is not None else None
    names = on.value if on is not None and isinstance(on.value, list) else [on] if on else []
    return [name.value for name in names if isinstance(name.value, str)]


def _maps(part: Node) -> list[Node]:
    inside = part.value.values() if isinstance(part.value, dict) else ()
    return [item for item in inside if isinstance(item.value, dict)]


def _on(part: Node, dataset: str) -> Node:
    """What a reported figure or a criterion is on one data set."""
    if not isinstance(part.value, dict):
        return part
    found = {
        key: item.value.get(dataset) if isinstance(item.value, dict) else item
        for key, item in part.value.items()
    }
    found = {key: item for key, item in found.items() if item is not None}
    if "value" in part.value and not {"value", "text"} & found.keys():  # a figure of others alone
        found["text"] = _in_words(part).value["text"]
    return Node(part.line, found)


def _in_words(reported: Node) -> Node:
    """The text or, without one, figures by data set as ``94.1 % on ucf101, 69.4 % on hmdb51``."""
    value, text, unit = (reported.get(key) for key in ("value", "text", "unit"))
    given = value if text is None else text
    if given is None:
        return reported
    words = given.value
    if isinstance(words, dict):
        sign = f" {unit.value}" if unit is not None and unit.value and text is None else ""
        words = ", ".join(f"{item.value}{sign} on {name}" for name, item in words.items())
    elif given is value:
        return reported
    said = {"text": Node(given.line, words), "unit": unit}
    return Node(reported.line, {key: item for key, item in said.items() if item is not None})
