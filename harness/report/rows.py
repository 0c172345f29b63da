"""Verdicts as plain rows: what JSON, CSV and data frames hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from harness.judging.rounding import certain, figure, interval
from harness.judging.statistics import Estimate
from harness.judging.verdicts import Verdict

COLUMNS = tuple(field.name for field in dataclasses.fields(Verdict))


def verdict_rows(verdicts: Iterable[Verdict]) -> list[dict[str, Any]]:
    """One dictionary per verdict, in the columns' order."""
    return [dataclasses.asdict(verdict) for verdict in verdicts]


def measured(verdict: Verdict) -> str:
    """Measured value with its interval, in the claim's unit: ``3.4 [2.1, 4.7] points``."""
    if verdict.measured is None:
        return "—"
    if verdict.n == "exact":
        text = f"{certain(verdict.measured)} exact"
    else:
        text = interval(verdict.measured, verdict.ci_low, verdict.ci_high)
    return f"{text} {verdict.unit}".strip()


def estimated(found: Estimate) -> str:
    """An estimate with its interval, without its unit."""
    if found.n == "exact":
        return f"{certain(found.value)} exact"
    return interval(found.value, found.low, found.high)


def reported(verdict: Verdict) -> str:
    """What the paper states, as a figure or in words."""
    if verdict.reported is None:
        return verdict.reported_text or "—"
    return f"{figure(verdict.reported)} {verdict.unit}".strip()


def seeds_of(verdict: Verdict) -> str:
    """How many seeds were measured: ``5``, ``5 of 8`` where others failed, or ``exact``."""
    if verdict.failed and isinstance(verdict.n, int):
        return f"{verdict.n} of {verdict.n + verdict.failed}"
    return "" if verdict.n is None else str(verdict.n)


def marks(verdict: Verdict) -> list[str]:
    """What is said beside the verdict; ``met`` and ``missed`` are figures at a reduced protocol."""
    found = ["direction only"] if verdict.direction_only else []
    found += [verdict.at_reduced] if verdict.at_reduced else []
    return [*found, "stale"] if verdict.stale else found


def sized(verdict: Verdict) -> str:
    """The effect as a multiple of the reported one: ``2.1 [2.05, 2.15] × reported``."""
    if verdict.size is None:
        return ""
    return f"{interval(verdict.size, verdict.size_low, verdict.size_high)} × reported"


def reasons(verdict: Verdict) -> list[str]:
    """Why the verdict is what it is: the reason, the control, the looks, the effect's size."""
    parts = [verdict.reason]
    if verdict.control and verdict.control != verdict.reason:
        parts.append(verdict.control)
    if verdict.path:
        parts.append(f"looks at {in_words(verdict)}")
    return [*parts, size] if (size := sized(verdict)) else parts


def seen(verdict: Verdict) -> str:
    """The source, how it was seen, and whether it can be found."""
    how = f" (seen: {verdict.seen})" if verdict.seen else ""
    lost = "" if verdict.traceable else "; cannot be traced"
    whose = "" if verdict.by == "paper" else f"; claimed by {verdict.by}"
    return f"{verdict.source}{how}{lost}{whose}"


def in_words(verdict: Verdict) -> str:
    """What was seen at each look: ``5 seeds: 1.2 [-3.1, 5.5]; 10 seeds: 1.9 [0.2, 3.6]``."""
    return "; ".join(
        f"{look.seeds} seeds: {interval(look.measured, look.ci_low, look.ci_high)}"
        for look in verdict.path
    )
