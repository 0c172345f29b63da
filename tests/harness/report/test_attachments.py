"""What lies beside a page is read by the programs it is for, and says what the page says."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import yaml
from pylatexenc.latex2text import LatexNodes2Text
from typer.testing import CliRunner

from harness import paths
from harness.cli import app
from harness.records import RecordStore
from harness.report.attachments import WHAT, attachments
from harness.report.leaderboard import collect
from harness.report.markdown import write_all
from harness.report.site import Site
from harness.specs import catalog


@pytest.fixture
def found(measured) -> dict[str, bytes]:
    return attachments(collect(catalog.load("toy"), RecordStore(paths.records())))


def table(found: dict[str, bytes], name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(found[name].decode())))


def test_records_have_a_row_for_every_metric_and_trial(found, measured) -> None:
    rows = table(found, "records.csv")
    net = [row for row in rows if (row["variant"], row["seed"]) == ("net", "1")]
    assert [(row["metric"], float(row["value"])) for row in net] == [("accuracy", 0.81)]
    records = json.loads(found["records.json"])
    assert len(records) == 13 and all(record["config"]["procedure"] for record in records)
    assert {row["trial"] for row in rows} == {record["trial"] for record in records}


def test_curves_are_those_of_the_page(found) -> None:
    rows = [row for row in table(found, "curves.csv") if row["variant"] == "net"]
    assert [(float(row["x"]), float(row["mean"])) for row in rows] == [
        (1, 50),
        (2, pytest.approx(70)),
        (3, 80.5),
    ]
    curve = next(c for c in json.loads(found["curves.json"]) if c["variant"] == "net")
    assert [run[-1] for run in curve["runs"]] == [80.0, 81.0] and curve["n"] == 2


def test_the_spec_and_the_environment_are_there(found) -> None:
    assert yaml.safe_load(found["spec.yaml"])["key"] == "toy"
    environment = json.loads(found["environment.json"])
    assert {one["tier"]: one["hardware"] for one in environment}["cpu"] == ["Some CPU, 1 thread"]


def test_a_trial_that_failed_is_a_row_without_a_metric(measured, add) -> None:
    record = add("smoke", "bad", "theory", 5, score=1.0)
    error = {"type": "ValueError", "message": "no"}
    failed = record.model_dump() | {"status": "failed", "metrics": {}, "error": error}
    RecordStore(paths.records()).write(type(record).model_validate(failed))
    rows = table(
        attachments(collect(catalog.load("toy"), RecordStore(paths.records()))), "records.csv"
    )
    (row,) = [row for row in rows if row["seed"] == "5"]
    assert (row["status"], row["metric"], row["value"]) == ("failed", "", "")


def test_a_title_with_signs_of_latex_is_cited_as_it_is(measured, edit_spec) -> None:
    edit_spec(lambda spec: spec.update(title="50 % of {x}_1 & more", arxiv="2001.00001"))
    paper = catalog.load("toy")
    text = attachments(collect(paper, RecordStore(paths.records())))["citation.bib"].decode()
    title = next(line for line in text.splitlines() if line.startswith("  title"))
    assert (
        LatexNodes2Text().latex_to_text(title.split("=")[1]).strip(" ,") == "50 % of {x}_1 & more"
    )
    assert "@misc{toy," in text and "eprint = {2001.00001}" in text
    assert "@software{paper-harness," in text


def test_the_page_links_what_lies_beside_it(measured) -> None:
    write_all([Site()])
    folder = paths.results() / "site" / "papers"
    page = (folder / "toy.html").read_text()
    assert [name for name in WHAT if f'href="toy/{name}"' in page] == list(WHAT)
    assert sorted(path.name for path in (folder / "toy").iterdir()) == sorted(WHAT)


@pytest.mark.parametrize("name", ["crate", "crate.zip"])
def test_an_archive_holds_every_record_and_is_read_back(measured, tmp_path: Path, name) -> None:
    rocrate = pytest.importorskip("rocrate.rocrate", reason="RO-Crates need the extra `archive`")
    target = tmp_path / name
    asked = ["results", "toy", "--format", "ro-crate", "-o", str(target)]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    crate = rocrate.ROCrate(target)
    assert "A Toy Paper" in crate.name and "1 reproduced" in crate.description
    assert str(crate.root_dataset["citation"]["name"]) == "A Toy Paper"
    names = {entity.id for entity in crate.get_entities() if entity.type == "File"}
    records = {f"records/{p.parent.name}/{p.name}" for p in paths.records().glob("toy/*/*.json")}
    assert records | set(WHAT) <= names and len(records) == 13
    again = CliRunner().invoke(app, asked)
    assert again.exit_code != 0 and "already" in str(again.exception)


def test_an_archive_is_of_one_paper_that_was_measured(project, tmp_path: Path) -> None:
    asked = ["results", "--format", "ro-crate", "-o", str(tmp_path / "crate")]
    assert "no records" in str(CliRunner().invoke(app, [*asked[:1], "toy", *asked[1:]]).exception)
    assert CliRunner().invoke(app, ["results", "toy", "--format", "ro-crate"]).exit_code == 2
