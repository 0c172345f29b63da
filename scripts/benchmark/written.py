"""Records that no trial made, of the size that real ones have, to make reports of."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from harness import paths, plan, provenance
from harness.plan import PlannedTrial
from harness.records import Record, RecordStore
from harness.specs import catalog
from scripts.benchmark.project import TOYS, Project

EPOCHS = [float(epoch) for epoch in range(1, 21)]


def write_papers(place: Project, papers: int, seeds: int) -> int:
    """Papers of ten variants with so many seeds each; the number of records."""
    count = 0
    for number in range(papers):
        place.add(TOYS / "swept", f"swept_{number}")
        spec = place.experiments / f"swept_{number}" / "spec.yaml"
        spec.write_text(spec.read_text().replace("seeds: 10", f"seeds: {seeds}"))
    with place.here():
        store = RecordStore(paths.records())
        for number in range(papers):
            for trial, content in _records(f"swept_{number}"):
                path = store.path(trial.paper, trial.tier, trial.id)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
                count += 1
    return count


def _records(key: str) -> Iterator[tuple[PlannedTrial, dict[str, Any]]]:
    dice = random.Random(key)  # noqa: S311
    like: dict[str, Any] = {}
    for trial in plan.plan(catalog.load(key), "cpu", ["none"]):
        like = like or _like(trial)
        number = trial.config["procedure"]["init_args"].get("number", 0)
        curve = [0.9 - 0.02 * number - 0.5 / e + dice.gauss(0, 0.01) for e in EPOCHS]
        loss = [2.0 / e + dice.uniform(0, 0.05) for e in EPOCHS]
        yield (
            trial,
            like
            | {"trial": trial.id, "variant": trial.variant, "seed": trial.seed}
            | {"config": trial.config}
            | {"metrics": {"accuracy": {"value": curve[-1]}, "train_loss": {"value": loss[-1]}}}
            | {"series": {"accuracy": _series(curve), "train_loss": _series(loss)}},
        )


def _series(values: list[float]) -> dict[str, Any]:
    return {"over": "epoch", "x": EPOCHS, "y": values}


def _like(trial: PlannedTrial) -> dict[str, Any]:
    """What the records of a paper have in common."""
    record = Record.model_validate(
        {
            "trial": trial.id,
            "paper": trial.paper,
            "tier": trial.tier,
            "variant": trial.variant,
            "dataset": trial.dataset,
            "seed": trial.seed,
            "protocol": trial.protocol,
            "status": "done",
            "provenance": {
                "code": trial.code,
                "data": trial.data,
                "commit": "0" * 40,
                "versions": provenance.versions(),
                "hardware": provenance.hardware(),
            },
            "resources": {
                "started": "2026-01-02T03:04:05+00:00",
                "ended": "2026-01-02T03:05:05+00:00",
                "seconds": 60.0,
                "peak_memory_mb": 600.0,
            },
        }
    )
    return record.model_dump(mode="json")
