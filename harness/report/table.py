"""Verdicts as a pandas table whose columns have the same types whatever was measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, get_args

from harness.judging import results as known
from harness.judging.verdicts import JUDGEMENTS, Verdict
from harness.report.rows import COLUMNS, in_words, verdict_rows
from harness.specs import catalog
from harness.specs.types import Evidence

if TYPE_CHECKING:
    import pandas as pd

DTYPES = {"float": "Float64", "int": "Int64", "bool": "boolean"}


def frame(rows: Iterable[Verdict]) -> pd.DataFrame:
    """One row per claim and data set.

    Numbers are ``Float64`` and counts ``Int64`` (``n`` is missing for deterministic quantities,
    which ``exact`` marks), marks are ``boolean``, verdict and evidence are categories, the rest
    is text (``path`` in words); what is missing is NA.
    """
    import pandas as pd

    verdicts = list(rows)
    made = [
        row
        | {"n": None if row["n"] == "exact" else row["n"], "exact": row["n"] == "exact"}
        | {"path": in_words(verdict)}
        for verdict, row in zip(verdicts, verdict_rows(verdicts), strict=True)
    ]
    table = pd.DataFrame(made, columns=[*COLUMNS, "exact"])
    categories = {"verdict": JUDGEMENTS, "evidence": get_args(Evidence)}
    kinds: dict[str, Any] = {
        **{field.name: _dtype(field) for field in dataclasses.fields(Verdict)},
        "exact": "boolean",
        **{name: pd.CategoricalDtype(list(known)) for name, known in categories.items()},
    }
    return table.astype({name: kinds[name] for name in table.columns})


def _dtype(field: dataclasses.Field[Any]) -> str:
    """The column's type by the field's, whose annotations are text."""
    return DTYPES.get(str(field.type).split(" ", 1)[0], "string")


def results(key: str | None = None, tier: str | None = None) -> pd.DataFrame:
    """The verdicts that count, from the committed records: one row per claim and data set.

    Args:
        key: of a paper; default all.
        tier: by the records of this one alone; default all.
    """
    keys = [key] if key else catalog.paper_keys()
    return frame(v for one in keys for v in known.verdicts(one, tier))
