"""Quick runs: those whose results must not take the place of the committed ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness import paths, plan
from harness.files import write_atomically
from harness.records import RecordStore
from harness.request import Request
from harness.specs.schema import Paper, Schedule

NOTE = "configuration.json"


def reasons(request: Request, paper: Paper, chosen: Iterable[str]) -> list[str]:
    """Why a run is a quick one, in words; nothing for one whose results are to be committed.

    Args:
        chosen: the data sets that are used.
    """
    found = []
    if request.fabric:
        flags = ", ".join(f"{name} {value}" for name, value in request.fabric.items())
        found.append(f"with {flags}, which the spec does not ask for")
    if request.tier == "smoke":
        found.append("the tier smoke only shows that everything runs")
    if isinstance(request.seeds, int) and request.seeds < (most := _most_seeds(paper, request)):
        found.append(f"{request.seeds} of {most} seeds")
    if missing := _measured_but_missing(paper, request.tier, set(chosen)):
        found.append(f"without {', '.join(missing)}, on which committed results were measured")
    return found


def note(configuration: Path, fabric: Mapping[str, Any]) -> None:
    """Write down which flags a folder of quick runs belongs to."""
    write_atomically(configuration / NOTE, json.dumps({"fabric": dict(fabric)}) + "\n")


def configuration(name: str) -> tuple[Path, dict[str, Any]]:
    """The folder of quick runs with certain flags, and these.

    Raises:
        PlanError: there was no such run; names those there were.
    """
    folder = paths.quick(name)
    try:
        return folder, dict(json.loads((folder / NOTE).read_text())["fabric"])
    except (OSError, ValueError, KeyError, TypeError):
        found = sorted(path.parent.name for path in folder.parent.glob(f"*/{NOTE}"))
        known = f"there are {', '.join(found)}" if found else "there are none yet"
        raise plan.PlanError(f"no quick run has the configuration {name!r}; {known}") from None


def _most_seeds(paper: Paper, request: Request) -> int:
    tier = paper.tiers[request.tier]
    first = tier.seeds.start if isinstance(tier.seeds, Schedule) else tier.seeds
    return max(first, *(o.seeds or 0 for o in tier.overrides), 0)


def _measured_but_missing(paper: Paper, tier: str, chosen: set[str]) -> list[str]:
    """Preferred data sets that are not here, but were when results were committed."""
    missing: list[str] = []
    for slot in plan.slots(paper.tiers[tier]):
        used = next((name for name in slot if name in chosen), None)
        missing += slot[: slot.index(used)] if used else slot
    if not missing:
        return []
    store = RecordStore(paths.committed() / "records")
    measured = {r.dataset for r in store.records(paper.key, tier) if r.status == "done"}
    return [name for name in dict.fromkeys(missing) if name in measured]
