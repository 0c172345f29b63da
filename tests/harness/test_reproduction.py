"""What Python users hold after a run: a table, and a representation that fits a screen."""

from __future__ import annotations

import dataclasses
import io

import pandas as pd
import pyarrow.parquet
import pytest

from harness.judging.verdicts import Verdict
from harness.plan import PlanError
from harness.report.exports import Format, export
from harness.report.leaderboard import PaperResults
from harness.report.table import frame, results
from harness.reproduction import Reproduction, reproduce
from harness.specs import catalog

FIGURES = Verdict(
    paper="toy",
    claim="a-claim-with-a-name-that-is-much-too-long-for-any-table",
    statement="It holds.",
    dataset="one-data-set or another-data-set or a-third",
    tier="cpu",
    verdict="not comparable",
    reason="because " * 50,
    unit="thousands of figures",
    reported=1234.5678,
    reported_text="",
    source="Table 1",
    measured=-123456.789,
    ci_low=-223456.789,
    ci_high=-23456.789,
    n=5,
    evidence="stand-in",
)
WORDS = dataclasses.replace(
    FIGURES, measured=None, ci_low=None, ci_high=None, n=None, evidence=None,
    reported=None, reported_text="better <than> & before " * 9, verdict="not run",
)  # fmt: skip


def outcome(verdicts: list[Verdict]) -> Reproduction:
    return Reproduction(catalog.load("toy"), "cpu", [], verdicts, [])


@pytest.mark.parametrize("rows", [[], [FIGURES], [WORDS], [FIGURES, WORDS] * 500])
def test_a_reproduction_is_shown_on_one_screen(project, rows) -> None:
    lines = repr(outcome(rows)).splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    assert "toy, tier cpu" in lines[0]
    page = outcome(rows)._repr_html_()
    assert len(page) < 20_000 and "<than>" not in page


def test_no_table_has_a_column_whose_type_depends_on_what_was_measured(project) -> None:
    written = []
    for rows in ([], [FIGURES], [WORDS], [dataclasses.replace(FIGURES, n="exact")]):
        file = io.BytesIO()
        outcome(rows).table.to_parquet(file)
        kinds = frame(rows).dtypes.astype(str).to_dict()
        assert pd.read_parquet(file).dtypes.astype(str).to_dict() == kinds
        written.append({f.name: str(f.type) for f in pyarrow.parquet.read_schema(file)})
    assert "null" not in written[0].values() and all(one == written[0] for one in written)
    assert results("toy").dtypes.to_dict() == outcome([]).table.dtypes.to_dict()


def test_files_have_the_same_columns_as_the_table(project) -> None:
    none = [PaperResults(catalog.load("toy"), (), ())]
    columns = list(outcome([]).table.columns)
    assert list(pd.read_parquet(io.BytesIO(export(none, Format.parquet))).columns) == columns
    assert list(pd.read_csv(io.BytesIO(export(none, Format.csv))).columns) == columns


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"seeds": 0}, "seeds"),
        ({"seeds": -1}, "seeds"),
        ({"seeds": 1.5}, "seeds"),
        ({"seeds": True}, "seeds"),
        ({"jobs": 0}, "jobs"),
        ({"threads": 0}, "threads"),
        ({"engine": "slurm"}, "there are local and ray"),
        ({"tier": "nope"}, "it has smoke, cpu, full"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": "3"}, "timeout"),
        ({"variants": "nope"}, "no variant 'nope'"),
        ({"variants": []}, "no variant is named"),
    ],
)
def test_python_refuses_what_the_command_line_refuses(project, wrong, says) -> None:
    with pytest.raises(PlanError, match=says):
        reproduce("toy", **({"tier": "smoke"} | wrong))
    assert not (project / "runs").exists() and not (project / "results").exists()


def test_a_single_pattern_of_variants_may_be_text(project) -> None:
    found = reproduce("toy", "smoke", variants="goo*", seeds=1)
    assert [record.variant for record in found.records] == ["good"]


def test_results_of_an_unknown_tier_or_paper_are_refused(project) -> None:
    with pytest.raises(PlanError, match="it has smoke, cpu, full"):
        results("toy", tier="nope")
    with pytest.raises(catalog.UnknownPaper):
        results("tooy")
