"""Records of several versions or machines in one verdict: said, and left out where asked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from harness import paths
from harness.cli import app
from harness.judging.results import verdicts


def made_with(variant: str, seed: int, **change: dict[str, Any]) -> None:
    """Make one record of the tier ``cpu`` with something else, a day after the others."""
    for path in (paths.records() / "toy" / "cpu").glob("*.json"):
        record = json.loads(path.read_text())
        if (record["variant"], record["seed"]) == (variant, seed):
            for part, values in change.items():
                record["provenance"][part] |= values
            record["resources"]["ended"] = "2026-01-20T00:00:00+00:00"
            path.write_text(json.dumps(record))


def accuracy(*arguments: str) -> dict[str, Any]:
    shown = CliRunner().invoke(app, ["results", "toy", "--tier", "cpu", "--json", *arguments])
    (row,) = [row for row in json.loads(shown.stdout) if row["claim"] == "net-accuracy"]
    return dict(row)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"versions": {"torch": "2.1"}}, "torch 2.0 and 2.1"),
        ({"hardware": {"cpu": "Another CPU"}}, "cpu Another CPU and Some CPU"),
        ({"hardware": {"accelerator": "H100"}}, "accelerator H100 and none"),
    ],
)
def test_the_reason_says_so_and_the_newest_kind_can_be_had(
    measured: None, change: dict[str, dict[str, Any]], said: str
) -> None:
    assert "made with" not in accuracy()["reason"]
    made_with("net", 1, **change)
    row = accuracy()
    assert f"records made with {said}" in row["reason"] and row["n"] == 2
    assert "--same-versions" in row["reason"]
    alone = accuracy("--same-versions")
    assert "made with" not in alone["reason"]
    assert (alone["n"], alone["measured"]) == (1, pytest.approx(81.0))
    (again,) = [v for v in verdicts("toy", "cpu", same_versions=True) if v.claim == "net-accuracy"]
    assert (again.n, again.reason) == (1, alone["reason"])


def test_variants_that_a_claim_is_not_about_may_differ(measured: None) -> None:
    made_with("wide", 1, versions={"torch": "2.1"})
    assert "made with" not in accuracy()["reason"]
