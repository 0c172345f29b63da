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


def table(rows: Sequence[Row], width: int) -> Any:
    """Papers, one line each: titles are cut to the width, tasks shown where there is room."""
    from rich import box
    from rich.table import Table

    names = ["key", "title", "year", "claims", "variants"]
    room = width - 36 - max((len(row["key"]) for row in rows), default=0)
    if width >= 120:
        names.append("task")
        room -= 34
    limits = {"title": max(room, 16), "task": 30}
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        grid.add_column(name, no_wrap=True, overflow="ellipsis", max_width=limits.get(name))
    for row in rows:
        grid.add_row(*(_cell(row[name]) for name in names))
    return grid


def paper(spec: Paper) -> Any:
    """A paper's summary, claims, variants and tiers."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    head = Text.assemble((spec.title, "bold"), f" ({spec.year}), {', '.join(spec.authors)}")
    parts: list[Any] = [head, Text(spec.summary), Text("\nClaims", style="bold")]
    for claim in spec.claims:
        reported = claim.reported.text
        if claim.reported.value is not None:
            reported = f"{claim.reported.value:g} {claim.reported.unit}".strip()
        parts += [
            Text.assemble((claim.id, "bold"), f": {claim.statement}"),
            Padding(Text(f"claimed: {reported} ({claim.source.where})", "dim"), (0, 0, 0, 2)),
        ]
    variants = [{"variant": k, "label": v.label, "role": v.role} for k, v in spec.variants.items()]
    tiers = [
        {"tier": k, "seeds": t.seeds, "data": _slots(t.datasets), "what": t.description}
        for k, t in spec.tiers.items()
    ]
    return Group(*parts, *(_grid(rows, list(rows[0])) for rows in (variants, tiers)))


def _slots(datasets: Sequence[str | list[str]]) -> str:
    return ", ".join(slot if isinstance(slot, str) else " or ".join(slot) for slot in datasets)


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
    columns = ["paper", "tier", "trials", "fresh", "stale", "failed", "missing", "datasets"]
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

    many = len(columns) > 5  # then only the last column may take several lines
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1) if many else (0, 1))
    for index, column in enumerate(columns):
        single = index == 0 or (many and index < len(columns) - 1)
        grid.add_column(column, overflow="fold", no_wrap=single)
    for row in rows:
        grid.add_row(*(Text(_cell(row.get(column))) for column in columns))
    return grid


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)
