"""The committed pages: complete, deterministic, and safe against what specs and records say."""

from __future__ import annotations

import csv
import html
import os
import re
import shutil
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from harness import paths
from harness.report.markdown import deviations, relink, write_all, write_paper
from harness.report.site import Site
from harness.report.svg import ticks
from harness.report.tables import text
from harness.specs import catalog


def tree(folder) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file() and "records" not in p.parts)
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def rows(markdown: str, heading: str) -> list[list[str]]:
    part = markdown.split(heading)[1].split("\n\n")[1]
    return [[c.strip() for c in line.strip("|").split(" | ")] for line in part.splitlines()[2:]]


def test_the_same_records_give_the_same_bytes(measured, monkeypatch, tmp_path) -> None:
    write_all()
    first = tree(paths.results())
    elsewhere = tmp_path / "elsewhere"
    copies = sorted(paths.records().rglob("*.json"), reverse=True)
    for path in copies:
        target = elsewhere / path.relative_to(paths.results())
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    monkeypatch.setenv("HARNESS_RESULTS", str(elsewhere))
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    write_all()
    assert tree(elsewhere) == first
    assert {"README.md", "toy.md", "verdicts.csv", "figures/toy/forest.svg"} <= first.keys()


def test_unchanged_pages_are_not_written_again(measured) -> None:
    write_all()
    page = paths.results() / "toy.md"
    os.utime(page, (1, 1))
    write_all()
    assert page.stat().st_mtime == 1


def test_the_leaderboard_counts_claims_by_verdict(measured) -> None:
    write_all()
    content = (paths.results() / "README.md").read_text()
    line = next(line for line in content.splitlines() if "[A Toy Paper](toy.md)" in line)
    cells = [c.strip() for c in line.strip("|").split("|")]
    # year, reproduced, not reproduced, inconclusive, not comparable, not run, stale, …
    assert cells[1:] == [
        *("2020", "1", "", "1", "1", "1", ""),
        *("reduced", "cpu", "2", "4 min 00 s", "Some CPU, 1 thread", "2026-01-03"),
    ]


def test_claims_of_others_are_counted_apart(measured, edit_spec) -> None:
    edit_spec(lambda spec: spec["claims"][0].update(by="others"))
    write_all()
    content = (paths.results() / "README.md").read_text()
    own = "Claims of the papers: 3 (1 inconclusive, 1 not comparable, 1 not run)."
    assert f"Papers: 1. {own} Claims of others: 1." in content
    assert "| [A Toy Paper](toy.md) | 2020 |  |  | 1 | 1 | 1 |" in content
    assert "| others | 1 |  |  |  |  |" in content.split("## Many claims at once")[1]


def test_a_page_says_what_was_measured_for_each_claim(measured) -> None:
    page = write_paper(catalog.load("toy"), "cpu").read_text()
    claim = page.split("### good-beats-bad")[1].split("###")[0]
    assert "reported: 2.00 (Table 1; nowhere)" in claim
    row, other = rows(page, "### good-beats-bad\n\n" + claim.split("\n\n")[1])
    assert other[0] == "cpu"
    assert other[5] == "**not run**"
    assert row[0:2] == ["smoke", "theory"]
    assert row[2].startswith("2.10 \\[1.85, 2.35\\]")
    assert row[3:6] == ["3", "reduced", "**reproduced**"]
    assert "control: broken is 6.1" in row[7]
    assert "no patients" in page
    assert "make reproduce PAPER=toy TIER=cpu\n" in page


def test_pages_say_what_bit_for_bit_means(measured) -> None:
    write_all([Site()])
    pages = [paths.results() / name for name in ("toy.md", "site/papers/toy.html")]
    for said in (" ".join(page.read_text().split()) for page in pages):
        condition = said.split("bit for bit")[1].split(".")[0]
        assert all(word in condition for word in ("versions", "kind of processor", "threads"))
        assert "harness verify" in said and "within 1 %" in said


def test_the_variants_table_has_every_variant_and_metric(measured) -> None:
    page = write_paper(catalog.load("toy"), "cpu").read_text()
    table = page.split("## Measurements, tier cpu")[1].split("##")[0]
    assert "| net | 2 | 80 ± 6 |" in table
    assert "| wide | 2 | 90 |" in table
    assert "| good | 3 | 3.1 ± 0.2 | 7 |" in page.split("## Measurements, tier smoke")[1]


def test_claims_csv_has_one_line_per_claim(measured) -> None:
    write_all()
    with (paths.results() / "verdicts.csv").open() as file:
        found = {r["claim"]: (r["verdict"], r["evidence"]) for r in csv.DictReader(file)}
    assert found["count"] == ("inconclusive", "reduced")
    assert found["not-ours"] == ("not run", "")
    assert len(found) == 4


def test_figures_are_drawn_and_old_ones_removed(measured) -> None:
    old = paths.results() / "figures" / "toy" / "gone.svg"
    old.parent.mkdir(parents=True)
    old.write_text("<svg/>")
    page = write_paper(catalog.load("toy"), "cpu").read_text()
    assert not old.exists()
    for name in re.findall(r"\]\((figures/[^)]+)\)", page):
        root = ElementTree.parse(paths.results() / name).getroot()  # noqa: S314
        assert root.tag.endswith("svg")
        assert len(root) > 5


def test_a_forest_plot_puts_figures_where_they_belong(measured) -> None:
    write_all()
    image = (paths.results() / "figures" / "toy" / "forest.svg").read_text()
    claim = image.split(">good-beats-bad<")[1].split('class="h"')[0]
    labels = [
        (float(x), float(v)) for x, v in re.findall(r'x="([\d.]+)"[^>]*middle">([\d.]+)<', claim)
    ]
    (x0, v0), (x1, v1) = labels[0], labels[-1]
    position = lambda value: x0 + (value - v0) * (x1 - x0) / (v1 - v0)  # noqa: E731
    circle = float(re.search(r'cx="([\d.]+)"', claim)[1])
    diamond = float(re.search(r'd="M([\d.]+)', claim)[1])
    assert circle == pytest.approx(position(2.1), abs=0.2)
    assert diamond == pytest.approx(position(2.0), abs=0.2)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-3.2, 3.3), (1e-9, 3e-9), (99999, 100001), (0, 1000)]
)
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 7
    slack = 1e-9 * (high - low)
    assert all(low - slack <= tick <= high + slack for tick in found)
    steps = {round((b - a) / (high - low), 6) for a, b in pairwise(found)}
    assert len(steps) == 1


def test_deviations_come_from_the_readme(project) -> None:
    folder = project / "experiments" / "toy"
    assert deviations("toy") == ""
    section = "- fewer epochs, see [the model](model.py) and [arXiv](https://arxiv.org)"
    (folder / "README.md").write_text(
        f"# Toy\n\n## Deviations, and gaps\n\n{section}\n\n## More\n\nx\n"
    )
    assert deviations("toy") == section
    page = write_paper(catalog.load("toy"), "cpu").read_text()
    assert "[the model](../experiments/toy/model.py)" in page
    assert "[arXiv](https://arxiv.org)" in page


def test_anchors_and_addresses_are_not_relinked() -> None:
    assert (
        relink("[a](#x) [b](mailto:x) [c](/y) [d](z)", "p/")
        == "[a](#x) [b](mailto:x) [c](/y) [d](p/z)"
    )


NASTY = "<script>alert(1)</script> | *x* [l](javascript:alert(1)) `c` $m$ ~s~ &lt; _e_ \\"


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])) | st.just(NASTY))
def test_text_is_shown_as_it_is(value: str) -> None:
    shown = MarkdownIt("gfm-like", {"linkify": False}).renderInline(text(value))
    assert html.unescape(shown) == " ".join(value.split())
    assert "<" not in shown


def test_nasty_specs_and_records_stay_text(measured, edit_spec) -> None:
    def change(spec) -> None:
        spec["title"] = spec["claims"][0]["statement"] = NASTY
        spec["claims"][0]["reported"] = {"text": NASTY}
        spec["variants"]["good"]["label"] = NASTY

    edit_spec(change)
    write_all()
    for name in ("README.md", "toy.md"):
        rendered = MarkdownIt("gfm-like", {"linkify": False}).render(
            (paths.results() / name).read_text()
        )
        assert "<script" not in rendered
        assert "javascript:" not in "".join(re.findall(r'href="[^"]*"', rendered))
        assert "alert(1)" in rendered
    ElementTree.parse(paths.results() / "figures" / "toy" / "forest.svg")  # noqa: S314


def test_what_is_left_out_is_named(spoil, project) -> None:
    (project / "experiments" / "bad").mkdir()
    (project / "experiments" / "bad" / "spec.yaml").write_text("key: bad\n")
    said: list[str] = []
    write_all(warn=said.append)
    content = (paths.results() / "README.md").read_text()
    for path in spoil:
        assert any(path.name in line for line in said)
        assert path.name in content
    assert any("experiments/bad/spec.yaml" in line for line in said)
    assert "[A Toy Paper](toy.md)" in content
