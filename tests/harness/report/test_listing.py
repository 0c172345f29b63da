"""The list of papers is read from the outline of each spec, and says the same as the whole."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from harness.report import listing
from harness.specs import catalog, yamlfile


def test_the_outline_of_a_spec_says_what_the_whole_says(project: Path, monkeypatch) -> None:
    expected = listing._row("toy")
    monkeypatch.setattr(catalog, "load", lambda key: pytest.fail("the outline suffices"))
    assert listing.papers() == [expected]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tiers:\n", "tiers: &tiers\n"),
        ("year: 2020", "year: 2_020"),
        ("year: 2020", "year: 02020"),
        ("year: 2020", "year: 0o3744"),
        ("year: 2020", "year: !!int '2020'"),
        ("title: A Toy Paper", "title: >\n  A Toy\n  Paper"),
        ("task: testing", "task: &task testing\nextra: *task"),
        ("task: testing", "task: testing\nextra: ~"),
        ("task: testing", "task: testing\nextra: graphs"),
        ("task: testing", "task: testing\nextra: [graphs, video]"),
        ("task: testing", "task: testing\nextra:\n- graphs\n- video"),
    ],
)
def test_unusual_yaml_makes_no_difference(project: Path, old, new) -> None:
    path = project / "experiments" / "toy" / "spec.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert listing.papers() == [listing._row("toy")]


def test_a_wrong_extra_is_an_error_in_the_list_too(project: Path) -> None:
    path = project / "experiments" / "toy" / "spec.yaml"
    for wrong in ("''", "[graphs, [x]]", "2020", "1e999"):
        path.write_text(path.read_text().split("extra:")[0] + f"extra: {wrong}\n")
        with pytest.raises(catalog.SpecError):
            listing.papers()


@pytest.mark.parametrize(
    "text", ["", "- a\n- b\n", "title: [\n", "a: &a [1]\n? [x]\n: y\n", "<<: {a: 1}\n", "\x00"]
)
def test_what_is_no_mapping_is_an_error_and_not_a_row(project: Path, text) -> None:
    path = project / "experiments" / "toy" / "spec.yaml"
    path.write_text(text)
    with pytest.raises(yamlfile.YamlError):
        yamlfile.outline(path)
    with pytest.raises(catalog.SpecError):
        listing.papers()


def test_an_outline_counts_what_stands_directly_in_it(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text("a: {x: {y: 1}, z: [1, 2]}\nb: [[1, 2], {c: 3}, d]\ne: &e 5\n")
    assert yamlfile.outline(path) == {
        "a": ["x", "z"],
        "b": ("", "", "d"),
        "e": 5,
    }


def test_the_states_fit_a_terminal_of_80_columns() -> None:
    row = {"paper": "scale_mixture_nngp", "tier": "cpu", "trials": 4280, "fresh": 4280}
    row |= {"stale": 4280, "failed": 0, "missing": 0, "datasets": ["movielens-x1-sizes", "yacht"]}
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(listing.state_table([row]))
    lines = console.export_text().splitlines()
    assert lines[0].strip() == "tier cpu" and max(map(len, lines)) <= 80
    assert sum("movielens-x1-sizes" in line for line in lines) == 1, "names stay whole"
    console.print(listing.state_table([]))
