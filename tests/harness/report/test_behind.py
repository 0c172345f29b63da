"""A claim's own view: its seeds, its control and null models beside it, and what it rests on."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from harness import paths
from harness.cli import app
from harness.records import RecordStore
from harness.report.behind import Behind, behind
from harness.report.leaderboard import PaperResults, collect
from harness.specs import catalog


def view(claim: str, tier: str = "smoke") -> Behind:
    found: PaperResults = collect(catalog.load("toy"), RecordStore(paths.records()))
    at = next(one for one in found.tiers if one.tier == tier)
    return behind(at, next(v for v in at.verdicts if v.claim == claim))


def test_seeds_control_and_null_models_stand_side_by_side(measured, add, edit_spec) -> None:
    def with_null(spec: dict) -> None:
        spec["variants"]["zero"] = {"label": "zero", "role": "baseline", "datasets": ["theory"]}
        spec["tiers"]["smoke"]["variants"].append("zero")
        spec["claims"][0]["null"] = ["zero"]

    edit_spec(with_null)
    for seed in range(3):
        add("smoke", "zero", "theory", seed, score=1.5 - seed)
    claimed, control, null = view("good-beats-bad").arms
    assert [arm.role for arm in (claimed, control, null)] == ["as claimed", "control", "null model"]
    assert claimed.seeds == pytest.approx((2.0, 2.1, 2.2))
    assert control.variant == "broken" and control.seeds == pytest.approx((-4.0, -4.0, -4.0))
    assert null.seeds == pytest.approx((0.5, -0.5, -1.5)), "zero in good's place, less bad"
    found = view("good-beats-bad")
    assert claimed.estimate is not None and claimed.estimate.value == found.verdict.measured
    assert (claimed.estimate.low, claimed.estimate.high) == (
        found.verdict.ci_low,
        found.verdict.ci_high,
    )


def test_the_axis_shows_everything_and_the_band_ends_with_it(measured) -> None:
    found = view("good-beats-bad")
    assert found.low < -4 and found.high > 2.35
    assert found.band == (0, found.high) and found.reported == 2.0
    places = [found.place(x) for arm in found.arms for x in arm.seeds]
    places += [found.place(tick) for tick in found.ticks]
    assert all(0 <= place <= 100 for place in places) and len(found.ticks) >= 3
    exact = view("count")
    assert exact.band == (7, 7) and exact.arms[0].seeds == ()


def test_a_control_that_was_not_run_is_said_to_be_missing(measured) -> None:
    for path in paths.records().glob("toy/smoke/*.json"):
        if '"variant": "broken"' in path.read_text():
            path.unlink()
    control = view("good-beats-bad").arms[1]
    assert control.estimate is None and "no trial of broken" in control.missing


def test_a_figure_in_another_unit_is_not_put_on_the_axis(measured, edit_spec) -> None:
    edit_spec(lambda spec: spec["claims"][2]["reported"].update(unit="dB"))
    assert view("net-accuracy", "cpu").reported is None


def test_trials_are_those_that_the_command_runs(measured, monkeypatch) -> None:
    found = view("good-beats-bad")
    behind_it = {(t.variant, t.dataset): t.done for t in found.trials}
    assert behind_it == {(v, "theory"): 3 for v in ("good", "bad", "broken")}
    assert found.command.startswith("harness run toy --tier smoke --claim good-beats-bad")
    done = CliRunner().invoke(app, found.command.split()[1:])
    assert done.exit_code == 0, done.output
    made = {(r.variant, r.dataset) for r in RecordStore(paths.records()).records("toy", "smoke")}
    assert made == set(behind_it)
