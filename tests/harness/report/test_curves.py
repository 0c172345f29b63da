"""Curves show first what claims compare, and say what they leave out."""

from __future__ import annotations

import pytest

from harness import paths
from harness.records import RecordStore
from harness.report import curves, figures, svg
from harness.report.leaderboard import TierResults, collect
from harness.specs import catalog

OTHERS = [f"aaa-{i:02d}" for i in range(40)]


@pytest.fixture
def many(edit_spec, add) -> TierResults:
    """A net, 40 other variants before it, and a claim that compares it with the last of them."""

    def change(spec: dict) -> None:
        own = spec["variants"].pop("net"), spec["variants"].pop("wide")
        other = {"label": "other", "role": "ablation", "like": "net"}
        spec["variants"] |= {name: dict(other) for name in OTHERS}
        spec["variants"] |= {"net": own[0], "wide": own[1]}
        spec["claims"][2] |= {
            "quantity": {"difference": "accuracy", "of": "net", "from": "aaa-39", "on": "real"},
            "criterion": {"greater_than": 0},
            "control": {"variant": "wide", "must_be": "lower"},
        }

    edit_spec(change)
    for name in [*OTHERS, "net", "wide"]:
        for seed in range(2):
            rising = [0.1, 0.5 + 0.1 * seed]
            add("cpu", name, "digits", seed, accuracy=rising[-1], series={"accuracy": rising})
    found = collect(catalog.load("toy"), RecordStore(paths.records()))
    return found.tiers[0]


def test_operands_and_control_are_drawn_first_and_the_rest_is_said(many) -> None:
    (panel,) = many.panels
    assert [line.variant for line in panel.drawn[:3]] == ["net", "aaa-39", "wide"]
    assert len(panel.drawn) == curves.DRAWN and len(panel.lines) == curves.OFFERED
    assert panel.left_out == 42 - curves.OFFERED
    assert f"{42 - curves.DRAWN} more not drawn" in (svg.curves(panel) or "")
    assert "stand-in" in panel.title


def test_no_two_lines_that_can_be_drawn_look_alike(many) -> None:
    spec = figures.curves(many.panels[0])
    colours = spec["encoding"]["color"]["scale"]["range"]
    dashes = spec["layer"][-1]["encoding"]["strokeDash"]["scale"]["range"]
    looks = {(colour, str(dash)) for colour, dash in zip(colours, dashes, strict=True)}
    assert len(looks) == len(many.panels[0].lines) == curves.OFFERED


def test_single_seeds_are_those_of_the_line(many) -> None:
    lines = figures.curves(many.panels[0])["usermeta"]["lines"]
    net = next(line for line in lines if line["variant"] == "net")
    assert net["runs"] == [[10.0, 50.0], [10.0, 60.0]] and net["y"] == [10.0, 55.0]
    assert net["shown"] and not lines[-1]["shown"] and lines[-1]["runs"] == []


def test_series_without_a_panel_are_named(add, project) -> None:
    series = {f"s{i:02d}": [1.0, 2.0] for i in range(curves.MAX_PANELS + 2)}
    add("smoke", "good", "theory", 0, score=1.0, series=series)
    found = collect(catalog.load("toy"), RecordStore(paths.records())).tiers[0]
    assert found.undrawn == ["s12 on theory", "s13 on theory"]
