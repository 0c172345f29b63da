"""A part of a spec names things of its own kind, in public, and nothing else."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re

import pytest
import torchmetrics

from harness.specs.build import BuildError
from harness.specs.catalog import load
from harness.specs.kinds import DOWNLOADING, refuse_others
from harness.specs.validate import validate

LOSS = {"class_path": "torch.nn.MSELoss"}
FIT = "harness.procedures.fit.Fit"
SPLITS = "harness.loading.splits"


def refused(part: str, path: object, **arguments: object) -> str:
    with pytest.raises(BuildError) as caught:
        refuse_others(part, {"class_path": path, "init_args": arguments})
    return str(caught.value)


@pytest.mark.parametrize("part", ["data", "model", "procedure"])
@pytest.mark.parametrize(
    "path",
    [
        "harness.procedures.checkpoints._write",
        "harness.procedures.checkpoints.Checkpoints",
        "harness.procedures.parts.part_together",
        "harness.procedures.base.exact",
        "harness.loading.pickles.load",
        "experiments.toy.parts._hidden",
        "torch.optim.Adam",
    ],
)
def test_what_merely_lives_in_a_permitted_package(project, part, path) -> None:
    refused(part, path)


@pytest.mark.parametrize(
    ("part", "path", "says"),
    [
        ("procedure", "torch.nn.Identity", "no procedure: it has no run and no produces"),
        ("procedure", "experiments.toy.parts.digits", "no procedure"),
        ("model", "experiments.toy.parts.digits", "no subclass of torch.nn.Module"),
        ("model", FIT, "no subclass of torch.nn.Module"),
        ("data", "torch.nn.Identity", "no loader of data"),
        ("data", ["a"], "a class path is text"),
    ],
)
def test_another_kind_is_refused_in_words(project, part, path, says) -> None:
    assert says in refused(part, path)


@pytest.mark.parametrize(
    "value",
    [
        {"class_path": "harness.procedures.checkpoints._write"},
        {"class_path": "harness.procedures.checkpoints.Checkpoints"},
        {"class_path": "experiments.toy.parts.digits"},
        {"class_path": ["a"]},
        "harness.procedures.checkpoints._write",
        "experiments.toy.parts.digits",
        [{"deep": {"class_path": "torchmetrics.text.BERTScore"}}],
    ],
)
def test_arguments_are_held_to_it_at_any_depth(project, value) -> None:
    refused("procedure", FIT, loss=LOSS, metrics={"it": value})
    refused("procedure", FIT, loss=value, metrics={})


def test_what_papers_need_passes(project) -> None:
    accuracy = "torchmetrics.classification.MulticlassAccuracy"
    metrics = {"accuracy": {"class_path": accuracy, "init_args": {"num_classes": 2}}}
    refuse_others("procedure", {"class_path": FIT, "init_args": {"loss": LOSS, "metrics": metrics}})
    refuse_others("data", {"class_path": "experiments.toy.parts.digits", "init_args": {}})
    refuse_others("model", {"class_path": "experiments.toy.parts.Net", "init_args": {}})


@pytest.mark.parametrize("says", ["", " -> None", " -> dict", " -> Missing", " -> Path"])
def test_a_function_says_what_it_returns(project, edit_spec, says) -> None:
    name = f"more{abs(hash(says))}"  # modules are imported once
    lines = ["from __future__ import annotations", "from pathlib import Path"]
    lines += [f"def digits(seed: int = 0){says}: ..."]
    (project / "experiments" / "toy" / f"{name}.py").write_text("\n".join(lines))
    path = f"experiments.toy.{name}.digits"
    edit_spec(lambda spec: spec["datasets"]["digits"].update(class_path=path, init_args={}))
    assert [p for p in validate("toy") if "a function says what it returns" in p.message]


def test_a_spec_that_names_another_kind_is_invalid(project, edit_spec) -> None:
    moved = {"source": "a", "target": "b"}
    path = "harness.procedures.checkpoints._write"
    edit_spec(lambda spec: spec["datasets"]["digits"].update(class_path=path, init_args=moved))
    assert [p for p in validate("toy") if "it is private" in p.message]
    assert load("toy").datasets["digits"].class_path == path, "reading it imports nothing"


def test_metrics_that_download_models_are_known() -> None:
    """Of the installed version: whatever names a model hub in its own source is on the list."""
    known = set()
    hints = re.compile(r"from_pretrained|model_name_or_path|torch_fidelity|download|pretrained=")
    for kind in pkgutil.iter_modules(torchmetrics.__path__):
        if not kind.ispkg or kind.name in ("functional", "utilities"):
            continue
        package = importlib.import_module(f"torchmetrics.{kind.name}")
        for name in getattr(package, "__all__", ()):
            metric = getattr(package, name)
            if inspect.isclass(metric) and hints.search(inspect.getsource(metric.__init__)):
                assert name in DOWNLOADING, name
                known.add(name)
    assert known, "the search finds some"
