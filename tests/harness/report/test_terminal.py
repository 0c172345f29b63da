"""What is printed is whole at any width: no name, title or help text is cut."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from harness.cli import app
from harness.judging.results import verdicts
from harness.report import listing
from harness.report.terminal import verdict_table
from harness.specs import catalog

KEY = "a_paper_with_quite_a_long_key"
ROW = {
    "key": KEY, "title": "A Title That Does Not End Within Forty Characters", "year": 2020,
    "claims": 12, "variants": 34, "task": "image classification", "tiers": [], "extras": [],
}  # fmt: skip
NAMES = ["digits", "a-data-set-of-30-characters-ok", "one-set or another-set or even-a-third-one"]


def printed(renderable: object, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), record=True, markup=False, highlight=False)
    console.print(renderable)
    return console.export_text()


@pytest.mark.parametrize("width", [30, 40, 80, 120, 10_000])
def test_keys_are_whole_at_any_width(width: int) -> None:
    states = {"paper": KEY, "tier": "cpu", "trials": 1234, "datasets": NAMES}
    states |= dict.fromkeys(("fresh", "stale", "failed", "missing"), 1234)
    for table in (listing.table([ROW], width), listing.state_table([states])):
        text = printed(table, width)
        assert KEY in text
        assert max(map(len, text.splitlines())) <= width
    assert ROW["title"] in printed(listing.table([ROW], 10_000), 10_000)


def test_what_is_piped_is_not_cut(project) -> None:
    title = "A Toy Paper Whose Title Is Much Longer Than The Eighty Columns Of A Terminal, By Far"
    path = project / "experiments" / "toy" / "spec.yaml"
    path.write_text(path.read_text().replace("A Toy Paper", f'"{title}"'))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    command = [sys.executable, "-m", "harness", "list"]
    for columns, whole in ({}, True), ({"COLUMNS": "80"}, False):
        done = subprocess.run(
            command, env=environment | columns, capture_output=True, text=True, check=True
        )
        assert (title in done.stdout) is whole


@pytest.mark.parametrize("width", [40, 60, 80, 140, 200, 10_000])
def test_nothing_of_a_verdict_is_cut_and_figures_stand_below_each_other(measured, width) -> None:
    rows = verdicts("toy")
    several = [replace(rows[0], dataset=name) for name in NAMES] + rows
    text = printed(verdict_table(catalog.load("toy"), several, width), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for name in NAMES[:2]:
        assert name in text
    if width >= 80:
        figures = [line for line in text.splitlines() if "2.10 [" in line]
        assert len(figures) >= 3 and len({line.index("2.10 [") for line in figures}) == 1
        kinds = {line.index("reproduced") for line in figures}
        assert len(kinds) == 1


@pytest.mark.parametrize("width", [80, 200])
def test_what_is_claimed_is_said_once_for_all_data_sets(measured, width) -> None:
    one = replace(verdicts("toy")[0], reported=None, reported_text="an ordering")
    other = replace(one, claim="another")
    rows = [replace(each, dataset=name) for each in (one, other) for name in NAMES]
    text = printed(verdict_table(catalog.load("toy"), rows, width), width)
    assert text.count("an ordering") == 2 and all(name in text for name in NAMES[:2])


def groups(command: TyperGroup, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path]
    for name, one in command.commands.items():
        found += groups(one, (*path, name)) if isinstance(one, TyperGroup) else [(*path, name)]
    return found


@pytest.mark.parametrize("width", ["40", "80"])
def test_help_is_whole(monkeypatch, width) -> None:
    monkeypatch.setenv("COLUMNS", width)
    for path in groups(get_command(app)):
        text = CliRunner().invoke(app, [*path, "--help"]).output
        assert not re.search(r"[a-z,]\.\.\.$", text, re.MULTILINE), text
        assert max(map(len, text.splitlines())) <= int(width), text


def test_the_list_of_commands_shows_whole_sentences(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    text = " ".join(CliRunner().invoke(app, ["--help"]).output.split())
    assert "Show verdicts from the records, without running anything." in text
