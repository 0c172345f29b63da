"""What holds of every paper's trained models, whoever wrote it: which split a figure is of, that
nothing is chosen by the test set, and that evaluation draws nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness import opening
from harness.desk import Desk, Setting
from harness.loading.splits import Batch, Split, Splits, Tensors
from harness.plan import PlannedTrial, plan
from harness.procedures.base import Outcome
from harness.procedures.recipe import Recipe
from harness.reproduction import available_data
from harness.specs import catalog
from harness.specs.build import import_callable


def representatives(key: str) -> Iterator[tuple[PlannedTrial, dict[str, Path]]]:
    """Smoke trials of seed 0 that stand for all: one for each procedure, model and loader.

    With the folders of public files.
    """
    paper = catalog.load(key)
    folders = available_data(paper, "smoke", lambda text: None, fetch=False)
    seen = set()
    for trial in plan(paper, "smoke", folders, seeds=1):
        kind = tuple(kind_of(trial, part) for part in ("procedure", "model", "data"))
        if kind not in seen:
            seen.add(kind)
            yield trial, dict(folders[trial.dataset])


def kind_of(trial: PlannedTrial, part: str) -> Any:
    """The class or function that a part of the trial names; ``None`` where it names none."""
    path = trial.config[part].get("class_path") if trial.config[part] else None
    return import_callable(path) if path else None


def run(
    trial: PlannedTrial,
    folders: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Any], Any],
) -> Outcome:
    """Run a trial in this process; ``change`` is given what is built, and returns what is used."""
    true_build = opening.build
    setting = Setting(roots=folders, accelerator="cpu", force=True, share=False)
    with monkeypatch.context() as patched:
        patched.setattr(opening, "build", lambda *a, **k: change(true_build(*a, **k)))
        (outcome,) = opening.outcomes([Desk.prepare(trial, setting)], setting, None)
    assert isinstance(outcome, Outcome)
    return outcome


PAPERS = catalog.paper_keys()
TRIALS = [(key, *found) for key in PAPERS for found in representatives(key)]
TRAINED = [
    pytest.param(trial, folders, id=f"{key}-{trial.variant}-{trial.dataset}")
    for key, trial, folders in TRIALS
    if isinstance(kind_of(trial, "procedure"), type)
    and issubclass(kind_of(trial, "procedure"), Recipe)
]


class Wrong:
    """A split with another answer for the later half of its examples.

    What always gives one answer is then right with another frequency, too.
    """

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, indices: Tensor) -> Batch:
        batch = self.split[indices]
        right, first = batch["y"], self.split[torch.zeros_like(indices)]["y"]
        if first.shape != right.shape:  # padded sequences: the first answer of each, throughout
            first = torch.where(right >= 0, right[:, :1], right)
        late = indices >= len(self) // 2
        if len(right) != len(late):  # an example is a group
            late = late.any().expand(len(right))
        return batch | {"y": torch.where(late.view(-1, *[1] * (right.dim() - 1)), first, right)}


class Half(Wrong):
    """The first half of a split."""

    def __len__(self) -> int:
        return (len(self.split) + 1) // 2

    def __getitem__(self, indices: Tensor) -> Batch:
        return self.split[indices]


def changed(split: Any, how: type[Wrong]) -> Any:
    """Of what is in memory also the columns, which papers read."""
    found = how(split)
    return Tensors(**found[torch.arange(len(found))]) if isinstance(split, Tensors) else found


def with_test(data: Any, how: type[Wrong]) -> Any:
    if not isinstance(data, Splits) or (how is Wrong and not has_answers(data)):
        return data
    return dataclasses.replace(data, test=changed(data.test, how))


def figures(outcome: Any) -> dict[str, float]:
    values = {name: getattr(value, "value", value) for name, value in outcome.metrics.items()}
    curves = {f"curve of {name}": tuple(series.y) for name, series in outcome.series.items()}
    return {**values, **curves}


def of_validation(name: str) -> bool:
    return name.removeprefix("curve of ").startswith(("val_", "train_loss"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))


@pytest.mark.parametrize(("trial", "folders"), TRAINED)
def test_test_answers_change_test_figures_and_nothing_else(trial, folders, monkeypatch) -> None:
    """Neither validation nor the trained weights; and what is reported is of the test set."""
    models: dict[bool, list[nn.Module]] = {False: [], True: []}

    def right(built: Any) -> Any:
        models[False] += [built] if isinstance(built, nn.Module) else []
        return built

    def other(built: Any) -> Any:
        models[True] += [built] if isinstance(built, nn.Module) else []
        return with_test(built, Wrong)

    before, after = (figures(run(trial, folders, monkeypatch, one)) for one in (right, other))
    same = {name for name in before if before[name] == after.get(name)}
    assert {name for name in before if of_validation(name)} <= same
    told = [value for name, value in before.items() if name in reported(trial) - {"parameters"}]
    if not before.keys() - same and not all(value in (0.0, 1.0) for value in told):
        # It is scored by more than the answers (a few steps may not solve a single one).
        fewer = figures(run(trial, folders, monkeypatch, lambda built: with_test(built, Half)))
        assert fewer != before, "figures of the test set do not depend on it"
    for one, two in zip(*models.values(), strict=True):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, two.state_dict()[name]), f"{name} depends on test answers"


def reported(trial: PlannedTrial) -> set[str]:
    procedure = trial.config["procedure"]
    produced = kind_of(trial, "procedure").produces(procedure["init_args"])
    return {name for name in produced if not name.startswith(("val_", "train_", "best_epoch"))}


def has_answers(data: Any) -> bool:
    return isinstance(data, Splits) and "y" in data.test[torch.arange(1)]


@pytest.mark.parametrize(("trial", "folders"), TRAINED)
def test_evaluation_draws_nothing(trial, folders, monkeypatch) -> None:
    built: dict[type, Any] = {}

    def change(found: Any) -> Any:
        for kind in (nn.Module, Splits, Recipe):
            if isinstance(found, kind):
                built[kind] = found
        return found

    run(trial, folders, monkeypatch, change)
    if nn.Module not in built or Splits not in built:
        return
    model = built[nn.Module].eval().cpu()
    batch = built[Splits].test[torch.arange(min(4, len(built[Splits].test)))]
    outputs = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        with torch.no_grad():
            outputs.append(built[Recipe].predict(model, batch))
        assert torch.equal(torch.get_rng_state(), before), "random numbers were drawn"
    assert torch.equal(outputs[0], outputs[1])
