"""A trained paper's code leaves no tensor on the CPU: a training step, an evaluation and its
meters run with model and batch on another device, without one.

Under fake tensors operations check shapes and devices and compute nothing. What needs a value
(``item``, a mask as an index) ends the walk; all before it was checked.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from harness import opening
from harness.desk import Desk, Setting
from harness.loading.splits import Batch
from harness.procedures.recipe import At, Recipe
from harness.specs.build import build
from tests.acceptance.test_guards import TRAINED, elsewhere  # noqa: F401

NEEDS_VALUES = (
    fake_tensor.DataDependentOutputException,
    fake_tensor.DynamicOutputShapeException,
    fake_tensor.UnsupportedOperatorException,
    fake_tensor.UnsupportedFakeTensorException,
)
ELSEWHERE = torch.device("meta")


class Somewhere(At):
    """Without a generator, for this device has none."""

    generator = None  # type: ignore[assignment]


def moved(module: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """The module with its parameters and buffers elsewhere, as ``to`` moves them."""
    module, known = copy.deepcopy(module), {}

    def there(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in known:
            fake = mode.from_tensor(tensor).detach().to(ELSEWHERE)
            parameter = isinstance(tensor, nn.Parameter)
            known[id(tensor)] = nn.Parameter(fake, tensor.requires_grad) if parameter else fake
        return known[id(tensor)]

    for part in module.modules():
        for held in (part._parameters, part._buffers):
            held.update({name: there(t) for name, t in held.items() if t is not None})
        if isinstance(part, nn.RNNBase):  # which has them in a list as well
            part._flat_weights = [getattr(part, name) for name in part._flat_weights_names]
    return module


def steps(recipe: Recipe, model: nn.Module, batch: Batch, test: Batch, at: At) -> None:
    """What a training does with a model, in its order."""
    model.train()
    optimizer = recipe.optimizer(list(recipe.parameter_groups(model)))
    loss = recipe.training_loss(model, recipe.augment(batch, at), at)
    assert loss.device == ELSEWHERE
    loss.backward()
    recipe.gradients(model, at)
    optimizer.step()
    model.eval()
    with torch.no_grad():
        output = recipe.predict(model, test)
        for meter in recipe.metrics.values():
            recipe.scored(meter, output, test)


def walked(walk: Callable[[], None]) -> bool:
    """Whether all of it was, and not only what comes before the first value that is needed."""
    try:
        walk()
    except NEEDS_VALUES:
        return False
    return True


@pytest.mark.parametrize(("trial", "folders"), TRAINED)
def test_nothing_is_left_on_the_cpu(trial, folders) -> None:
    setting = Setting(roots=folders, accelerator="cpu", force=True, share=False)
    opened = opening._open(Desk.prepare(trial, setting), setting, None, {})
    recipe = build(trial.config["procedure"], opening._dims(opened.data))
    parts = (opened.data.train, opened.data.test)
    few = [part[torch.arange(min(4, len(part)))] for part in parts]
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    there = [{k: mode.from_tensor(v).to(ELSEWHERE) for k, v in b.items()} for b in few]
    model = moved(opened.model(), mode)
    recipe.loss = moved(recipe.loss, mode)
    for meter in recipe.metrics.values():
        meter.to(ELSEWHERE)
    with mode:
        walked(lambda: steps(recipe, model, *there, Somewhere(0, 0, 0, 2, 1, ELSEWHERE)))
