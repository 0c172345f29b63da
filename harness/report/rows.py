"""Verdicts as plain rows: what JSON, CSV and data frames hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from harness.judging.verdicts import Verdict

COLUMNS = tuple(field.name for field in dataclasses.fields(Verdict))


def verdict_rows(verdicts: Iterable[Verdict]) -> list[dict[str, Any]]:
    """One dictionary per verdict, in the columns' order."""
    return [dataclasses.asdict(verdict) for verdict in verdicts]


def figure(value: float | None) -> str:
    """A number with the digits a reader wants: 94.1, 0.0123, 6,560, 1.2e-07; counts in full."""
    if value is None:
        return "—"
    size = abs(value)
    if size >= 1000:
        in_full = size < 1e7 or (size < 1e12 and value.is_integer())
        return f"{value:,.0f}" if in_full else f"{value:.3g}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 1 or value == 0:
        return f"{value:.2f}"
    return f"{value:.3g}"


def measured(verdict: Verdict) -> str:
    """Measured value with its interval, in the claim's unit: ``3.4 [2.1, 4.7] points``."""
    if verdict.measured is None:
        return "—"
    text = figure(verdict.measured)
    if verdict.n == "exact":
        text += " exact"
    elif verdict.ci_low is not None:
        text += f" [{figure(verdict.ci_low)}, {figure(verdict.ci_high)}]"
    return f"{text} {verdict.unit}".strip()


def reported(verdict: Verdict) -> str:
    """What the paper states, as a figure or in words."""
    if verdict.reported is None:
        return verdict.reported_text or "—"
    return f"{figure(verdict.reported)} {verdict.unit}".strip()
