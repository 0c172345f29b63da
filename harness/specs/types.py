"""Types that every part of a spec is made of: keys, durations, sizes, strict models."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

KEY = r"^[a-z0-9][a-z0-9_.-]{0,63}$"
Key = Annotated[str, Field(pattern=KEY)]
Evidence = Literal["paper", "reduced", "stand-in"]

_DURATION = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def _quantity_with_unit(units: dict[str, int], example: str) -> BeforeValidator:
    def parse(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ValueError(f"expected a number with a unit, like {example}")
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)\s*", str(value))
        if match is None or match[2] not in units:
            raise ValueError(
                f"expected a number with a unit ({', '.join(units)}), like {example}; got {value!r}"
            )
        return float(match[1]) * units[match[2]]

    return BeforeValidator(parse, json_schema_input_type=str)


Seconds = Annotated[float, _quantity_with_unit(_DURATION, "10m"), Field(gt=0, le=30 * 86400)]
Bytes = Annotated[float, _quantity_with_unit(_SIZE, "4GB"), Field(gt=0, le=1e15)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
