"""A toy project with records that no trial was run for: reports read them all the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import paths, plan
from harness.records import Record, RecordStore
from harness.specs import catalog

HARDWARE = {"cpu": "Some CPU", "cores": 2, "threads": 1, "os": "Linux", "memory_gb": 8.0}


@pytest.fixture
def add(project: Path) -> Callable[..., Record]:
    """Write the record of one trial: ``add("smoke", "good", "theory", 0, score=3.0)``."""

    def write(
        tier: str,
        variant: str,
        dataset: str,
        seed: int,
        key: str = "toy",
        series: dict[str, list[float]] | None = None,
        **metrics: Any,
    ) -> Record:
        paper = catalog.load(key)
        settings = plan.settings(paper, tier, variant, dataset)
        trial = plan.make_trial(paper, tier, variant, dataset, {}, seed, settings)
        record = Record.model_validate(
            {
                "trial": trial.id,
                "paper": key,
                "tier": tier,
                "variant": variant,
                "dataset": dataset,
                "seed": seed,
                "protocol": settings.protocol,
                "status": "done",
                "metrics": {
                    name: value if isinstance(value, dict) else {"value": value}
                    for name, value in metrics.items()
                },
                "series": {
                    name: {"over": "epoch", "x": list(range(1, len(ys) + 1)), "y": ys}
                    for name, ys in (series or {}).items()
                },
                "config": trial.config,
                "provenance": {
                    "code": trial.code,
                    "data": trial.data,
                    "commit": "0123456789abcdef",
                    "versions": {"torch": "2.0"},
                    "hardware": HARDWARE,
                },
                "resources": {
                    "started": "2026-01-02T03:04:05+00:00",
                    "ended": f"2026-01-0{2 + seed % 7}T03:05:05+00:00",
                    "seconds": 60.0,
                    "peak_memory_mb": 100.0,
                },
            }
        )
        RecordStore(paths.records()).write(record)
        return record

    return write


@pytest.fixture
def measured(add: Callable[..., Record]) -> None:
    """Three seeds at smoke, two at cpu: every kind of verdict but *not reproduced*."""
    for seed in range(3):
        add(
            "smoke",
            "good",
            "theory",
            seed,
            score=3.0 + 0.1 * seed,
            count={"value": 7, "exact": True},
        )
        add("smoke", "bad", "theory", seed, score=1.0)
        add("smoke", "broken", "theory", seed, score=-3.0)
    for seed in range(2):
        rising = [0.5, 0.7, 0.80 + 0.01 * seed]
        add("cpu", "net", "digits", seed, accuracy=rising[-1], series={"accuracy": rising})
        add("cpu", "wide", "digits", seed, accuracy=0.9, series={"accuracy": [0.6, 0.8, 0.9]})


@pytest.fixture
def spoil(project: Path, measured: None) -> list[Path]:
    """Files beside good records: truncated, of an older schema, foreign, and of no paper."""
    folder = paths.records() / "toy" / "smoke"
    good = sorted(folder.glob("*.json"))[0]
    truncated = folder / "00000000000000aa.json"
    truncated.write_text(good.read_text()[:100])
    older = folder / "00000000000000bb.json"
    content = json.loads(good.read_text()) | {"schema_version": 0, "trial": older.stem}
    del content["provenance"], content["resources"]
    older.write_text(json.dumps(content))
    foreign = folder / "package.json"
    foreign.write_text('{"name": "something else"}')
    nobody = paths.records() / "nobody" / "cpu" / "00000000000000cc.json"
    nobody.parent.mkdir(parents=True)
    nobody.write_text("{}")
    return [truncated, older, foreign, nobody]
