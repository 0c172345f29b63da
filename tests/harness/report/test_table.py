"""One answer to what the verdicts are, with the same types whatever was measured."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections import Counter

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.judging.deciding import headlines
from harness.judging.results import verdicts
from harness.records import RecordStore
from harness.report.exports import Format, export
from harness.report.leaderboard import collect
from harness.report.table import frame, results
from harness.specs import catalog


def test_every_report_says_the_same(measured: None) -> None:
    found = collect(catalog.load("toy"), RecordStore.here())
    expected = [(v.claim, v.dataset, v.tier, v.verdict) for v in verdicts("toy")]
    assert [(v.claim, v.dataset, v.tier, v.verdict) for v in found.deciding] == expected
    shown = json.loads(CliRunner().invoke(app, ["results", "toy", "--json"]).output)
    assert [(r["claim"], r["dataset"], r["tier"], r["verdict"]) for r in shown] == expected
    rows = csv.DictReader(io.StringIO(export([found], Format.csv).decode()))
    assert [(r["claim"], r["dataset"], r["tier"], r["verdict"]) for r in rows] == expected
    table = results("toy")
    assert list(zip(table.claim, table.dataset, table.tier, table.verdict, strict=True)) == expected
    counted = Counter(h.verdict for h in headlines(verdicts("toy")))
    assert {kind: n for kind, n in found.counts.items() if n} == dict(counted)
    printed = CliRunner().invoke(app, ["results", "toy"]).output
    assert f"{sum(counted.values())} claims: " in printed


def test_types_do_not_depend_on_what_was_measured(measured: None) -> None:
    some, none = frame(verdicts("toy")), frame([])
    assert some.dtypes.to_dict() == none.dtypes.to_dict()
    assert str(some.dtypes["measured"]) == "Float64" and str(some.dtypes["n"]) == "Int64"
    assert some[some.exact].n.isna().all()


def test_the_api_is_what_the_readme_says_in_any_order() -> None:
    code = (
        "import harness.reproduction, harness.judging.results, harness.report.table\n"
        "from harness import reproduce, results\n"
        "assert callable(reproduce) and callable(results)\n"
    )
    for first in ("", "from harness import results\nfrom harness import reproduce\n"):
        subprocess.run([sys.executable, "-c", first + code], check=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["toy", "--tier", "nope"], "nope"),
        (["toy", "-o", "x"], "--format"),
        (["toy", "--format", "csv", "-o", "no/such/folder/x.csv"], "no folder"),
        (["toy", "--format", "word"], "word"),
        (["toy", "--configuration", "nope"], "nope"),
        (["toy", "nope"], "nope"),
    ],
)
def test_bad_requests_are_refused(project, arguments: list[str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness", "results", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_a_night_at_an_unknown_tier_touches_nothing(project) -> None:
    before = sorted(project.rglob("*"))
    done = CliRunner().invoke(app, ["nightly", "--tier", "nope"])
    assert done.exit_code == 2 and sorted(project.rglob("*")) == before
