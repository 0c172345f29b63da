"""Verdicts as a table: the same types whatever was measured; bad requests are refused."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.judging.results import verdicts
from harness.report.table import frame


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
