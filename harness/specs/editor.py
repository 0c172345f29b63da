"""The JSON Schema of a spec as its author writes it, short forms and all, for editors."""

from __future__ import annotations

from typing import Any

from harness.specs.expand import FIGURES
from harness.specs.schema import Paper

Schema = dict[str, Any]
SHORT = "InShort"
_DEFS = "#/$defs/"
_WORD: Schema = {"type": "string", "pattern": r"\{[A-Za-z_]\w*(:[^{}]*)?\}"}
_NAMED: Schema = {"type": "object", "additionalProperties": {"type": ["object", "null"]}}
_AXIS: Schema = {"anyOf": [{"type": "array", "minItems": 1}, _NAMED]}
_TABLE: Schema = {
    "type": "object",
    "required": ["rows"],
    "additionalProperties": False,
    "properties": {
        "rows": _AXIS,
        "columns": _AXIS,
        "cell": {"type": "array", "items": {"type": "string"}},
    },
}


def editor_schema() -> Schema:
    """The schema of :class:`Paper` with, beside each entry, those that stand for several."""
    schema = Paper.model_json_schema()
    whole: Schema = schema["$defs"]
    for name in ("Reported", "Criterion"):
        _allow_by_dataset(whole[name])
    whole |= {name + SHORT: _loose(part) for name, part in whole.items()}
    whole |= {"Table": _TABLE, "Matrix": {"type": "object", "additionalProperties": _AXIS}}
    claim, override = whole["Claim" + SHORT], whole["Override" + SHORT]
    claim["properties"]["claims"] = {"type": "array", "items": _ref("Claim" + SHORT)}
    claim["properties"]["table"] = override["properties"]["table"] = _ref("Table")
    schema["properties"]["claims"]["items"] = _either("Claim", ["claims", "table"])
    for part in (schema, whole["Tier"]):
        part["properties"]["overrides"]["items"] = _either("Override", ["table"])
    for name, kind in (("variants", "Variant"), ("datasets", "Dataset")):
        whole[kind + SHORT]["properties"]["matrix"] = _ref("Matrix")
        entries = schema["properties"][name]
        entries["additionalProperties"] = _either(kind, ["matrix"])
        del entries["patternProperties"]  # a matrix has words in its name
    return schema


def _ref(name: str) -> Schema:
    return {"$ref": _DEFS + name}


def _either(kind: str, keys: list[str]) -> Schema:
    """The entry itself or, where it has one of the keys, its short form."""
    short = [{"required": [key]} for key in keys]
    return {"if": {"anyOf": short}, "then": _ref(kind + SHORT), "else": _ref(kind)}


def _allow_by_dataset(part: Schema) -> None:
    """Figures, or one for each data set."""
    for name, field in part["properties"].items():
        if part["title"] == "Criterion" or name in (*FIGURES, "text"):
            each = {"type": "object", "additionalProperties": field}
            part["properties"][name] = {"anyOf": [field, each]}


def _loose(part: Any) -> Any:
    """A copy in which nothing is required and a word may stand in the place of any value."""
    if isinstance(part, list):
        return [_loose(item) for item in part]
    if not isinstance(part, dict):
        return part
    copy = {key: _loose(item) for key, item in part.items() if key != "required"}
    if "$ref" in copy:
        copy["$ref"] += SHORT
    if "oneOf" in copy:  # without what is required several may fit
        copy["anyOf"] = copy.pop("oneOf")
    for name, item in copy.get("properties", {}).items():
        copy["properties"][name] = {"anyOf": [item, _WORD]}
    if "items" in copy:
        copy["items"] = {"anyOf": [copy["items"], _WORD]}
    return copy
