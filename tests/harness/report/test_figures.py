"""The site's chart specifications are valid Vega-Lite, and hold text only as data."""

from __future__ import annotations

import pytest

from harness import paths
from harness.records import RecordStore
from harness.report import figures
from harness.report.leaderboard import collect
from harness.specs import catalog

altair = pytest.importorskip("altair", reason="altair checks the specifications' schema")


def test_charts_are_valid_vega_lite(measured) -> None:
    found = collect(catalog.load("toy"), RecordStore(paths.records()))
    forest = figures.forest(found)
    altair.VConcatChart.from_dict(forest)
    assert [chart["title"]["text"] for chart in forest["vconcat"]] == [
        "good-beats-bad",
        "count",
        "net-accuracy",
    ]
    (panel,) = next(tier for tier in found.tiers if tier.tier == "cpu").panels
    spec = figures.curves(panel)
    altair.LayerChart.from_dict(spec)
    assert {(v["variant"], v["x"]): v["y"] for v in spec["data"]["values"]}["net", 3] == 80.5


def test_no_text_of_a_spec_is_an_expression(measured) -> None:
    forest = figures.forest(collect(catalog.load("toy"), RecordStore(paths.records())))

    def walk(node) -> None:
        if isinstance(node, dict):
            assert not {"expr", "calculate", "signal", "url", "href"} & node.keys()
            assert not isinstance(node.get("filter"), str)
            list(map(walk, node.values()))
        elif isinstance(node, list):
            list(map(walk, node))

    walk(forest)


def test_without_measurements_there_is_no_forest(project) -> None:
    assert figures.forest(collect(catalog.load("toy"), RecordStore(paths.records()))) is None
