"""Several entries of the data catalogue for one data set, weights of a model among them."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import opening, plan
from harness.data import DataUnavailable
from harness.desk import Desk, Setting
from harness.reproduction import available_data
from harness.specs import catalog
from harness.specs.validate import validate

PARTS = """
from pathlib import Path

from torch import nn

from harness.procedures.base import Outcome


class Tables:
    def __init__(self, root: Path, labels: Path, seed: int = 0) -> None:
        self.dims = {"features": 1}
        self.text = (root / "a.txt").read_text() + (labels / "b.txt").read_text()


class Trained(nn.Module):
    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.text = (weights / "c.txt").read_text()


class Sizes:
    @classmethod
    def produces(cls, init_args):
        return {"count"}

    def run(self, trial):
        return Outcome({"count": float(trial.data.text + trial.model().text)})
"""
DATASET = {
    "label": "tables",
    "class_path": "experiments.toy.tables.Tables",
    "source": "mnist",
    "sources": {"labels": "usps", "weights": "semeion"},
}


@pytest.fixture
def tables(project, edit_spec):
    """The toy with a data set of three entries, one of which a model reads."""
    (project / "experiments" / "toy" / "tables.py").write_text(PARTS)

    def change(spec: dict) -> None:
        spec["datasets"]["real"] = dict(DATASET)
        for name in ("net", "wide"):
            spec["variants"][name] = {
                "label": name,
                "role": "paper",
                "datasets": ["real"],
                "model": {"class_path": "experiments.toy.tables.Trained"},
                "procedure": {"class_path": "experiments.toy.tables.Sizes"},
            }
        spec["claims"] = [c for c in spec["claims"] if c["id"] != "net-accuracy"]

    edit_spec(change)
    return edit_spec


def test_each_parameter_gets_the_folder_of_its_entry(tables, tmp_path: Path) -> None:
    assert validate("toy") == []
    trial = plan.plan(catalog.load("toy"), "full", ["real"], seeds=1, variants=["net"])[0]
    assert trial.sources == {"root": "mnist", "labels": "usps", "weights": "semeion"}
    roots = {}
    for entry, file, text in (("mnist", "a", "1"), ("usps", "b", "2"), ("semeion", "c", "3")):
        roots[entry] = tmp_path / entry
        roots[entry].mkdir()
        (roots[entry] / f"{file}.txt").write_text(text)
    setting = Setting(roots)
    (outcome,) = opening.outcomes([Desk.prepare(trial, setting)], setting, None)
    assert outcome.metrics == {"count": 123.0}


def test_a_trial_is_known_by_all_its_entries(tables) -> None:
    def trial():
        return plan.plan(catalog.load("toy"), "full", ["real"], seeds=1, variants=["net"])[0]

    first = trial()
    tables(lambda spec: spec["datasets"]["real"]["sources"].update(weights="usps"))
    assert trial().id != first.id and trial().data != first.data


def test_a_data_set_is_there_when_all_its_entries_are(tables, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("harness.data.locate", lambda name: tmp_path if name != "usps" else None)
    spec = catalog.load("toy")
    with pytest.raises(DataUnavailable, match="usps"):
        available_data(spec, "full", print, fetch=False)
    monkeypatch.setattr("harness.data.locate", lambda name: tmp_path / name)
    (folders,) = available_data(spec, "full", print, fetch=False).values()
    assert set(folders) == {"mnist", "usps", "semeion"}


@pytest.mark.parametrize(
    ("sources", "says"),
    [
        ({"labels": "uspz", "weights": "semeion"}, "did you mean 'usps'?"),
        ({"labels": "usps"}, "weights"),
        ({"labels": "usps", "weights": "semeion", "more": "usps"}, "nor a model takes 'more'"),
        ({"labels": "usps", "weights": "semeion", "root": "usps"}, "source is the one for root"),
        ({"labels": "usps", "weights": "semeion", "seed": "usps"}, "the trial's seed"),
    ],
)
def test_entries_are_named_for_parameters_that_there_are(tables, sources, says) -> None:
    tables(lambda spec: spec["datasets"]["real"].update(sources=sources))
    assert any(says in str(problem) for problem in validate("toy"))
