"""Trained models that are kept come back as they were measured."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from harness import load_model, paths
from harness.records import Record
from harness.reproduction import reproduce
from harness.weights import NoWeights, path

TIED = """

class Tied(Net):
    def __init__(self, features: int, classes: int) -> None:
        super().__init__(features, classes, hidden=classes)
        self.again = self.layers[3]
"""


@pytest.fixture(autouse=True)
def own_modules(monkeypatch) -> None:
    """This process imports the models of this test's project, not those of another's."""
    for name in [name for name in sys.modules if name.split(".")[0] == "experiments"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture
def kept(project, edit_spec) -> list[Record]:
    edit_spec(lambda spec: spec["variants"]["wide"].update(keep="weights"))
    return reproduce("toy", "cpu", variants=["net", "wide"], seeds=2).records


def accuracy(model: nn.Module) -> float:
    from experiments.toy.parts import digits

    test = digits().test[torch.arange(200)]
    with torch.no_grad():
        return (model(test["x"]).argmax(1) == test["y"]).float().mean().item()


def test_a_kept_model_measures_what_its_record_says(kept) -> None:
    nets = [record for record in kept if record.variant == "wide"]
    models = [load_model(record) for record in nets]
    found = [record.metrics["accuracy"].value for record in nets]
    assert [accuracy(model) for model in models] == pytest.approx(found, abs=1e-6)
    assert not models[0].training and len(set(found)) == 2


def test_seeds_trained_together_and_tied_weights_are_kept_too(project, edit_spec) -> None:
    parts = project / "experiments" / "toy" / "parts.py"
    parts.write_text(parts.read_text().replace("nn.Dropout(0.1)", "nn.Identity()") + TIED)

    def change(spec: dict) -> None:  # type: ignore[type-arg]
        spec["variants"]["wide"]["model"] = {
            "class_path": "experiments.toy.parts.Tied",
            "init_args": {"features": "${data.features}", "classes": "${data.classes}"},
        }
        spec["tiers"]["cpu"].update(together=2, keep="weights")

    edit_spec(change)
    for record in reproduce("toy", "cpu", variants=["net", "wide"], seeds=2).records:
        assert accuracy(load_model(record)) == pytest.approx(record.metrics["accuracy"].value, 1e-6)


def test_without_weights_it_says_how_to_get_them(kept) -> None:
    net = next(record for record in kept if record.variant == "net")
    with pytest.raises(NoWeights, match=r"keep: weights.*--variant net --force"):
        load_model(net)
    first, other = (record for record in kept if record.variant == "wide")
    shutil.copy(path(other), path(first))
    with pytest.raises(NoWeights, match="of another run"):
        load_model(first)


def test_weights_of_other_code_are_not_those_of_a_record(kept) -> None:
    net = next(record for record in kept if record.variant == "wide")
    changed = net.provenance.model_copy(update={"code": "0" * 16})
    with pytest.raises(NoWeights, match="of another run"):
        load_model(net.model_copy(update={"provenance": changed}))


def test_a_disk_that_is_full_costs_the_weights_alone(kept, monkeypatch, caplog) -> None:
    from harness import plan, weights
    from harness.specs import catalog

    record = next(record for record in kept if record.variant == "wide")
    trial = plan.planner(catalog.load("toy"))(record)
    before = path(record).read_bytes()

    def full(_: nn.Module, file: str, **__: object) -> None:
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_model", full)
    weights.write(trial, {}, nn.Linear(2, 2))
    assert "weights are not kept" in caplog.text
    assert path(record).read_bytes() == before
    assert not list(paths.runs().rglob("*.safetensors.*"))
