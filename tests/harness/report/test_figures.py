"""The site's chart specifications are valid Vega-Lite, and hold text only as data."""

from __future__ import annotations

import pytest

from harness import paths
from harness.records import RecordStore
from harness.report import figures
from harness.report.leaderboard import collect
from harness.specs import catalog

altair = pytest.importorskip("altair", reason="altair checks the specifications' schema")


def test_curves_are_valid_vega_lite(measured) -> None:
    found = collect(catalog.load("toy"), RecordStore(paths.records()))
    (panel,) = next(tier for tier in found.tiers if tier.tier == "cpu").panels
    spec = figures.curves(panel)
    altair.LayerChart.from_dict(spec)
    lines = {line["variant"]: line for line in spec["usermeta"]["lines"]}
    assert dict(zip(lines["net"]["x"], lines["net"]["y"], strict=True))[3] == 80.5


def test_no_text_of_a_spec_is_an_expression(measured) -> None:
    found = collect(catalog.load("toy"), RecordStore(paths.records()))

    def walk(node) -> None:
        if isinstance(node, dict):
            assert not {"expr", "calculate", "signal", "url", "href"} & node.keys()
            assert not isinstance(node.get("filter"), str)
            list(map(walk, node.values()))
        elif isinstance(node, list):
            list(map(walk, node))

    for panel in (panel for tier in found.tiers for panel in tier.panels):
        walk(figures.curves(panel))
