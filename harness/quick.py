"""Quick runs: those whose results must not take the place of the committed ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import paths, plan
from harness.files import write_atomically
from harness.needs import Needs
from harness.records import RecordStore
from harness.request import Request
from harness.specs.schema import Paper, Schedule

Scope = dict[str, list[str]]  # tiers, with data sets
NOTE = "configuration.json"
LONGEST = 60  # characters of a folder's name


def reasons(request: Request, paper: Paper, chosen: Collection[str]) -> dict[str, str]:
    """Why a run is a quick one, in words by what its configuration is called for it.

    Nothing for a run whose results are to be committed.

    Args:
        chosen: the data sets that are used.
    """
    found = {}
    if request.fabric:
        flags = ", ".join(f"{name} {value}" for name, value in request.fabric.items())
        found[request.configuration] = f"with {flags}, which the spec does not ask for"
    if request.tier == "smoke":
        found["smoke"] = "the tier smoke only shows that everything runs"
    if isinstance(request.seeds, int) and request.seeds < (most := _most_seeds(paper, request)):
        called = f"{request.seeds}-seed{'' if request.seeds == 1 else 's'}"
        found[called] = f"{request.seeds} of {most} seeds"
    if isinstance(request.seeds, range):
        first, last = request.seeds.start, request.seeds.stop - 1
        found[f"seeds-{first}-{last}"] = f"seeds {first} to {last} alone"
    if request.claims:
        named = [claim.id for claim in Needs.of(paper, list(request.claims)).claims]
        found["-".join(("claim", *named))] = f"only what {', '.join(named)} needs"
    if some := _subset(request, paper, chosen):
        found["-".join(("only", *some))] = f"only {', '.join(some)}"
    if missing := _measured_but_missing(paper, request.tier, set(chosen)):
        words = f"without {', '.join(missing)}, on which committed results were measured"
        found["-".join(("without", *missing))] = words
    return found


def name(why: Iterable[str]) -> str:
    """What the configuration of a quick run is called, by the keys of :func:`reasons`."""
    whole = "-".join(why)
    if len(whole) <= LONGEST:
        return whole
    return f"{whole[:LONGEST]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Configuration:
    """Quick runs that were asked for in the same way.

    Attributes:
        folder: their results.
        fabric: settings that the spec does not ask for.
        runs: of each paper the tiers that were run, and on which data sets.
    """

    folder: Path
    fabric: dict[str, Any]
    runs: dict[str, Scope]

    def scope(self, key: str) -> Scope:
        """What was run of a paper.

        Raises:
            PlanError: nothing.
        """
        if key not in self.runs:
            known = ", ".join(self.runs)
            raise plan.PlanError(f"{key} has no run of {self.folder.name!r}; there are {known}")
        return self.runs[key]


def note(folder: Path, request: Request, chosen: Iterable[str]) -> None:
    """Write down beside a quick run's results what was asked for."""
    runs = found.runs if (found := _read(folder)) else {}
    runs.setdefault(request.key, {})[request.tier] = list(chosen)
    content = {"fabric": dict(request.fabric), "runs": runs}
    write_atomically(folder / NOTE, json.dumps(content) + "\n")


def configuration(name: str) -> Configuration:
    """What is known of a configuration.

    Raises:
        PlanError: there was no such run; names those there were.
    """
    folder = paths.quick(name)
    if found := _read(folder):
        return found
    names = sorted(path.name for path in folder.parent.glob("*") if _read(path))
    known = f"there are {', '.join(names)}" if names else "there are none yet"
    raise plan.PlanError(f"no quick run has the configuration {name!r}; {known}")


def _read(folder: Path) -> Configuration | None:
    try:
        content = json.loads((folder / NOTE).read_text())
        return Configuration(folder, dict(content["fabric"]), dict(content["runs"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _subset(request: Request, paper: Paper, chosen: Iterable[str]) -> list[str]:
    """The variants that a run is restricted to; none if it is not."""
    tier = paper.tiers[request.tier]
    every = dict.fromkeys(v for dataset in chosen for v in plan.variants_on(paper, tier, dataset))
    some = [v for v in every if plan.matches(list(request.variants or "*"), v)]
    return some if len(some) < len(every) else []


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
