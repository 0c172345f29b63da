"""Exports read back by the programs they are meant for."""

from __future__ import annotations

import io
import json

import pandas as pd
import pytest
import yaml
from huggingface_hub.repocard_data import model_index_to_eval_results

from harness import paths
from harness.records import RecordStore
from harness.report.exports import Format, export, latex
from harness.report.leaderboard import collect
from harness.specs import catalog


@pytest.fixture
def found(measured):
    return [collect(catalog.load("toy"), RecordStore(paths.records()))]


def test_csv_parquet_and_json_say_the_same(found) -> None:
    tables = [
        pd.read_csv(io.BytesIO(export(found, Format.csv)), dtype={"n": str}),
        pd.read_parquet(io.BytesIO(export(found, Format.parquet))),
        pd.DataFrame(json.loads(export(found, Format.json))),
    ]
    for table in tables:
        row = table[(table.claim == "good-beats-bad") & (table.tier == "smoke")].iloc[0]
        assert row.measured == pytest.approx(2.1)
        assert (str(row.n), row.verdict, row.evidence) == ("3", "reproduced", "reduced")
        exact = table[(table.claim == "count") & (table.tier == "smoke")].iloc[0]
        assert exact.n == "exact"
    assert len({len(table) for table in tables}) == 1


def test_a_tier_can_be_chosen(found) -> None:
    rows = json.loads(export(found, Format.json, tier="cpu"))
    assert {row["tier"] for row in rows} == {"cpu"}


def test_latex_escapes_every_special_character() -> None:
    assert latex(r"50 % of a_b & $x$ #{}~^\ <") == (
        r"50 \% of a\_b \& \$x\$ \#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{} "
        r"\textless{}"
    )


def test_latex_rows_have_as_many_cells_as_columns(found) -> None:
    text = export(found, Format.latex).decode()
    columns = text.splitlines()[0].split("}{")[1].rstrip("}")
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(body) > 4
    assert {line.count(" & ") + 1 for line in body} == {len(columns)}


def test_the_model_index_is_read_by_hugging_face(found) -> None:
    index = yaml.safe_load(export(found, Format.model_index))
    read = {}
    for entry in index["model-index"]:
        name, evaluations = model_index_to_eval_results([entry])
        read[name] = {e.metric_type: e.metric_value for e in evaluations}
    assert read["toy/net"]["accuracy"] == pytest.approx(80.5)
    assert read["toy/good"]["score"] == pytest.approx(3.1)
    assert "toy/wide" not in read
    assert "toy/bad" not in read
