"""Exports read back by the programs they are meant for."""

from __future__ import annotations

import io
import json

import pandas as pd
import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index

from harness import paths
from harness.records import RecordStore
from harness.report.exports import Format, export
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
        assert exact.exact if "exact" in table else exact.n == "exact"
    assert len({len(table) for table in tables}) == 1


def test_a_tier_can_be_chosen(found) -> None:
    rows = json.loads(export(found, Format.json, tier="cpu"))
    assert {row["tier"] for row in rows} == {"cpu"}


def test_the_model_index_is_read_by_hugging_face(found) -> None:
    entries = yaml.safe_load(export(found, Format.model_index))["model-index"]
    read = {}
    for entry in entries:
        card = ModelCard(f"---\n{yaml.safe_dump({'model-index': [entry]})}---\n")
        read[card.data.model_name] = card.data.eval_results
        assert eval_results_to_model_index(entry["name"], card.data.eval_results) == [entry]
    values = {name: {e.metric_type: e.metric_value for e in found} for name, found in read.items()}
    assert values["toy/net"]["accuracy"] == pytest.approx(80.5)
    assert values["toy/good"]["score"] == pytest.approx(3.1)
    assert "toy/wide" not in values
    assert "toy/bad" not in values


def test_data_sets_of_one_source_stay_apart_in_the_model_index(project, edit_spec, add) -> None:
    def share(spec: dict) -> None:
        digits = {"source": "mnist", "class_path": "experiments.toy.parts.digits"}
        spec["datasets"] |= {"real": digits | {"label": "A"}, "twin": digits | {"label": "B"}}
        spec["variants"]["net"]["datasets"] = ["real", "twin"]
        spec["variants"]["wide"]["datasets"] = ["real"]
        spec["tiers"]["full"]["datasets"] = ["real", "twin"]

    edit_spec(share)
    add("full", "net", "real", 0, accuracy=0.25)
    add("full", "net", "twin", 0, accuracy=0.75)
    found = [collect(catalog.load("toy"), RecordStore.here())]
    (entry,) = yaml.safe_load(export(found, Format.model_index))["model-index"]
    read = {r["dataset"]["name"]: r["metrics"][0]["value"] for r in entry["results"]}
    assert read == {"A": 25.0, "B": 75.0}
