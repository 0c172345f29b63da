"""What ``list``, ``show``, ``status`` and ``data list`` print: rows first, tables from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness import catalog, paths
from harness.spec import Paper

Row = dict[str, Any]


def papers() -> list[Row]:
    """Every paper: key, title, year, task and how many claims, variants and tiers it has."""
    rows = []
    for key in catalog.paper_keys():
        paper = catalog.load(key)
        rows.append(
            {
                "key": key,
                "title": paper.title,
                "year": paper.year,
                "task": paper.task,
                "claims": len(paper.claims),
                "variants": len(paper.variants),
                "tiers": list(paper.tiers),
                "extra": paper.extra,
            }
        )
    return rows


def table(rows: Sequence[Row]) -> Any:
    return _grid(rows, ["key", "title", "year", "task", "claims", "variants"])


def paper(spec: Paper) -> Any:
    """A paper's summary, variants, tiers and claims."""
    from rich.console import Group
    from rich.text import Text

    claims = [
        {
            "claim": c.id,
            "statement": c.statement,
            "reported": c.reported.text
            if c.reported.value is None
            else f"{c.reported.value:g} {c.reported.unit}",
            "source": c.source.where,
        }
        for c in spec.claims
    ]
    variants = [{"variant": k, "label": v.label, "role": v.role} for k, v in spec.variants.items()]
    tiers = [
        {"tier": k, "what": t.description, "seeds": t.seeds, "datasets": str(t.datasets)}
        for k, t in spec.tiers.items()
    ]
    head = Text.assemble((spec.title, "bold"), f" ({spec.year}), {', '.join(spec.authors)}")
    parts = [_grid(rows, list(rows[0])) for rows in (claims, variants, tiers)]
    return Group(head, Text(spec.summary), *parts)


def states(keys: Sequence[str] | None, tier: str) -> list[Row]:
    """Trials by state for each paper, with the data that is on this machine."""
    from harness import plan
    from harness.data import DataUnavailable
    from harness.records import RecordStore
    from harness.reproduce import available_data

    rows = []
    for key in keys or catalog.paper_keys():
        spec = catalog.load(key)
        try:
            chosen = available_data(spec, tier, lambda text: None, fetch=False)
        except DataUnavailable as error:
            rows.append({"paper": key, "tier": tier, "datasets": [], "note": str(error)})
            continue
        trials = plan.plan(spec, tier, chosen)
        counts = Counter(plan.states(trials, RecordStore(paths.records())).values())
        row: Row = {
            "paper": key,
            "tier": tier,
            "datasets": list(chosen),
            "trials": len(trials),
            **{state: counts[state] for state in ("fresh", "stale", "failed", "missing")},
        }
        rows.append(row)
    return rows


def state_table(rows: Sequence[Row]) -> Any:
    columns = ["paper", "tier", "datasets", "trials", "fresh", "stale", "failed", "missing"]
    return _grid(rows, columns + (["note"] if any("note" in row for row in rows) else []))


def datasets() -> list[Row]:
    """The data catalogue, and where each set is on this machine."""
    from harness import data

    return [
        {
            "name": name,
            "title": entry.title,
            "size": entry.size,
            "licence": entry.licence,
            "homepage": entry.homepage,
            "where": _where(name),
        }
        for name, entry in data.catalogue().items()
    ]


def _where(name: str) -> str:
    """In words: on this machine, or how it would come here."""
    from harness import data

    return "here" if data.locate(name) else "missing"


def dataset_table(rows: Sequence[Row]) -> Any:
    shown = [row | {"size": f"{row['size'] / 1e6:,.1f} MB"} for row in rows]
    return _grid(shown, ["name", "title", "size", "where"])


def _grid(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(_cell(row.get(column))) for column in columns))
    return grid


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
