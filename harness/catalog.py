"""Finds and loads ``experiments/*/spec.yaml``, without importing torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from harness import paths, yamlfile
from harness.spec import KEY, QUANTITIES, Paper


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a spec, where, and what would be right."""

    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        try:
            shown = self.path.relative_to(paths.root())
        except ValueError:
            shown = self.path
        return f"{shown}:{self.line}: {self.message}" if self.line else f"{shown}: {self.message}"


class SpecError(ValueError):
    """A spec that cannot be used, with all its problems."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class UnknownPaper(LookupError):
    """No folder of this key; suggests the nearest one."""


def paper_keys() -> list[str]:
    """Keys of all papers, sorted."""
    return sorted(path.parent.name for path in paths.experiments().glob("*/spec.yaml"))


def spec_path(key: str) -> Path:
    """The spec of a paper.

    Raises:
        UnknownPaper: naming the nearest keys.
    """
    path = paths.experiments() / key / "spec.yaml"
    if not re.match(KEY, key) or not path.is_file():
        close = get_close_matches(key, paper_keys(), n=3, cutoff=0.4)
        hint = (
            f"did you mean {' or '.join(close)}?"
            if close
            else f"there are {', '.join(paper_keys())}"
        )
        raise UnknownPaper(f"no paper has the key {key!r}; {hint}")
    return path


def load(key: str) -> Paper:
    """Load one paper's spec.

    Raises:
        UnknownPaper: there is no such folder.
        SpecError: the file breaks the schema.
    """
    return read(spec_path(key))[0]


def read(path: Path) -> tuple[Paper, yamlfile.YamlFile]:
    """Load a spec file together with the lines of its values.

    Raises:
        SpecError: with every problem found.
    """
    try:
        source = yamlfile.load(path)
    except yamlfile.YamlError as error:
        raise SpecError([Problem(path, error.line, str(error))]) from error
    try:
        paper = Paper.model_validate(source.data)
    except ValidationError as error:
        raise SpecError([_explain(source, dict(e)) for e in error.errors()]) from error
    if paper.key != path.parent.name:
        message = f"key {paper.key!r} must be the folder's name {path.parent.name!r}"
        raise SpecError([Problem(path, source.line(["key"]), message)])
    return paper, source


def _explain(source: yamlfile.YamlFile, error: dict[str, Any]) -> Problem:
    """A pydantic error as one line: where, what, and the nearest valid key."""
    where = _within_data(source.data, error["loc"])
    shown = ".".join(map(str, where)) or "the spec"
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = f"unknown key{_nearest(error['loc'])}"
    elif error["type"] == "missing":
        shown = ".".join(map(str, error["loc"]))
        message = "this key is required"
    elif error["type"] == "literal_error":
        message = f"{message}, not {error['input']!r}"
    return Problem(source.path, source.line(where), f"{shown}: {message}")


def _within_data(data: Any, loc: tuple[int | str, ...]) -> list[int | str]:
    """The part of an error's location that exists in the file: union tags are left out."""
    where: list[int | str] = []
    for step in loc:
        if where and where[-1] == "quantity" and step in QUANTITIES:
            continue
        in_list = isinstance(data, list) and isinstance(step, int) and step < len(data)
        if in_list or (isinstance(data, Mapping) and step in data):
            data = data[step]
            where.append(step)
    return where


def _nearest(loc: tuple[int | str, ...]) -> str:
    known = _fields_at(loc[:-1])
    close = get_close_matches(str(loc[-1]), known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(known)}" if known else ""


def _fields_at(loc: tuple[int | str, ...]) -> list[str]:
    """Names of the fields that the schema knows at a location, found through annotations."""
    if loc and str(loc[-1]) in QUANTITIES and "quantity" in loc:
        return _aliases(QUANTITIES[str(loc[-1])])
    model: type[BaseModel] | None = Paper
    for step in loc:
        if model is None or isinstance(step, int):
            continue
        field = next((f for n, f in model.model_fields.items() if step in (n, f.alias)), None)
        if field is not None:
            model = _model_in(field.annotation)
    return _aliases(model) if model else []


def _aliases(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The first pydantic model inside an annotation such as ``dict[Key, Variant]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        found = _model_in(part)
        if found is not None:
            return found
    return None
