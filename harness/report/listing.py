"""What ``list``, ``show``, ``status`` and ``data list`` print: rows first, tables from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import paths
from harness.specs import catalog, yamlfile

if TYPE_CHECKING:
    from harness.specs.schema import Paper

Row = dict[str, Any]


def papers() -> list[Row]:
    """Every paper: key, title, year, task and how many claims, variants and tiers it has."""
    return [_glance(key) or _row(key) for key in catalog.paper_keys()]


def _glance(key: str) -> Row | None:
    """A paper's row without a look at what its spec means; ``None`` if that does not suffice."""
    path = paths.experiments() / key / "spec.yaml"
    try:
        found = yamlfile.outline(path)
    except yamlfile.YamlError:
        found = _written_out(path)
    kinds = {
        "title": str,
        "year": int,
        "task": str,
        "claims": tuple,
        "variants": list,
        "tiers": list,
    }
    row: Row = {"key": key} | {name: found.get(name) for name in kinds}
    extra = () if found.get("extra") is None else found["extra"]
    if not isinstance(extra, (str, tuple)):
        return None
    extras = [extra] if isinstance(extra, str) else list(extra)
    if not all(type(row[name]) is kind for name, kind in kinds.items()) or not all(extras):
        return None
    return row | {name: len(row[name]) for name in ("claims", "variants")} | {"extras": extras}


def _written_out(path: Path) -> yamlfile.Outline:
    """The outline of a spec with entries that stand for several."""
    from harness.specs.expand import expand
    from harness.specs.nodes import ShortFormError

    try:
        data = expand(yamlfile.load(path)).data
    except (yamlfile.YamlError, ShortFormError):
        return {}
    return {key: _outlined(value) for key, value in data.items()} if isinstance(data, dict) else {}


def _outlined(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(item if isinstance(item, str) else "" for item in value)
    return list(value) if isinstance(value, dict) else value


def _row(key: str) -> Row:
    spec = catalog.load(key)
    return {
        "key": key,
        "title": spec.title,
        "year": spec.year,
        "task": spec.task,
        "claims": len(spec.claims),
        "variants": len(spec.variants),
        "tiers": list(spec.tiers),
        "extras": spec.extras,
    }


def table(rows: Sequence[Row], width: int) -> Any:
    """Papers, one line each: titles are cut to the width, tasks shown where there is room."""
    from harness.report.grids import Grid

    names = ["key", "title", "year", "claims", "variants"]
    room = width - 31 - max((len(row["key"]) for row in rows), default=0)
    if width >= 120:
        names.append("task")
        room -= 32
    return Grid(rows, names, cut={"title": max(room, 16), "task": 30 if width < 200 else width})


def paper(spec: Paper) -> Any:
    """A paper's summary, claims, variants and tiers."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    from harness.judging.criteria import digits
    from harness.report.grids import Grid

    head = Text.assemble((spec.title, "bold"), f" ({spec.year}), {', '.join(spec.authors)}")
    parts: list[Any] = [head, Text(spec.summary), Text("\nClaims", style="bold")]
    for claim in spec.claims:
        reported = claim.reported.text
        if claim.reported.value is not None:
            reported = f"{digits(claim.reported.value)} {claim.reported.unit}".strip()
        parts += [
            Text.assemble((claim.id, "bold"), f": {claim.statement}"),
            Padding(Text(f"claimed: {reported} ({claim.source.where})", "dim"), (0, 0, 0, 2)),
        ]
    variants = [{"variant": k, "label": v.label, "role": v.role} for k, v in spec.variants.items()]
    tiers = [
        {"tier": k, "seeds": str(t.seeds), "data": _slots(t.datasets), "what": t.description}
        for k, t in spec.tiers.items()
    ]
    return Group(*parts, *(Grid(rows, list(rows[0])) for rows in (variants, tiers)))


def _slots(datasets: Sequence[str | list[str]]) -> str:
    return ", ".join(slot if isinstance(slot, str) else " or ".join(slot) for slot in datasets)


def states(keys: Sequence[str] | None, tier: str) -> list[Row]:
    """Trials by state for each paper, with the data that is on this machine."""
    from harness import plan, rounds
    from harness.data import DataUnavailable
    from harness.records import RecordStore
    from harness.reproduction import available_data

    rows = []
    for key in keys or catalog.paper_keys():
        spec = catalog.load(key)
        try:
            chosen = available_data(spec, tier, lambda text: None, fetch=False)
        except DataUnavailable as error:
            rows.append({"paper": key, "tier": tier, "datasets": [], "note": str(error)})
            continue
        trials = rounds.planned(spec, tier, list(chosen))
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
    from harness.report.grids import Grid

    columns = ["paper", "trials", "fresh", "stale", "failed", "missing", "datasets"]
    columns += ["note"] if any("note" in row for row in rows) else []
    # not a column: it is the same for all rows, and names of data sets need the room
    return Grid(rows, columns, title=f"tier {rows[0]['tier']}" if rows else "")


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
            "where": "here" if data.locate(name) else "missing",
            "remark": data.remark(name),
        }
        for name, entry in data.catalogue().items()
    ]


def dataset_table(rows: Sequence[Row]) -> Any:
    from harness import data
    from harness.report.grids import Grid

    known = data.catalogue()
    shown = [row | {"size": known[row["name"]].megabytes, "where": _where(row)} for row in rows]
    return Grid(shown, ["name", "title", "size", "where"])


def _where(row: Row) -> str:
    here = row["where"] == "here" and row["remark"]
    return f"here, {row['remark']}" if here else str(row["where"])
