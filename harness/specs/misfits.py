"""Where a spec does not fit the schema: each error of pydantic's in one line, with a remedy."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel

from harness.specs.claims import QUANTITIES
from harness.specs.schema import Paper

Where = list[int | str]


def explain(data: Any, error: dict[str, Any]) -> tuple[Where, str]:
    """A pydantic error: the place in the data, and in one line what is wrong and what is right."""
    where = _within_data(data, error["loc"])
    shown = ".".join(map(str, where)) or "the spec"
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = f"unknown key{_nearest(error['loc'])}"
    elif error["type"] == "missing":
        shown = ".".join(map(str, error["loc"]))
        message = "this key is required"
    elif error["type"] == "literal_error":
        message = f"{message}, not {error['input']!r}"
    return where, f"{shown}: {message}"


def _within_data(data: Any, loc: tuple[int | str, ...]) -> Where:
    """The part of an error's location that exists in the file: union tags are left out."""
    where: Where = []
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
