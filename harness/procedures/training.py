"""Train a model, or models that differ by seed as one: what papers call in place of a loop.

The loop is written out on Lightning Fabric, which brings devices, strategies and precisions and
costs next to nothing a step; the hooks of Lightning's Trainer cost half a millisecond.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import torch
from torch import nn

from harness.loading.splits import Split, Splits
from harness.procedures.base import Diverged, Separately, Trial
from harness.procedures.loop import Loop, seed_of
from harness.procedures.networks import Single
from harness.procedures.recipe import Recipe
from harness.procedures.selection import best
from harness.procedures.stacked import Stacked
from harness.records import MAX_POINTS, Series
from harness.seeding import seed_all

Model = nn.Module | Callable[[], nn.Module]


@dataclass(frozen=True)
class Trained:
    """What came of a training.

    Attributes:
        model: in evaluation mode, with the weights that the recipe selects.
        row: figures of the evaluation that these weights had.
        curves: figures of every evaluation: ``epoch``, ``step``, ``train_loss`` (the mean over
            the epoch's examples, or over those since the evaluation before), ``val_…``, …
        samples: examples passed forward and backward.
        tests: ``metric@name`` on the recipe's further test sets, a series where one is swept.
        over: what series run over, ``epoch`` or ``step``.
    """

    model: nn.Module
    row: dict[str, float]
    curves: list[dict[str, float]]
    samples: int
    tests: dict[str, float | Series] = field(default_factory=dict)
    over: str = "epoch"

    def best(self, name: str, more: bool) -> dict[str, float]:
        """The evaluation in which a figure was best, the first of equals."""
        rows = [row for row in self.curves if name in row]
        return rows[best([row[name] for row in rows], more)]

    def series(self) -> dict[str, Series]:
        """Each figure over training; at most as many points as a record holds."""
        names = {name: None for row in self.curves for name in row if name not in ("epoch", "step")}
        return {name: self._series(name) for name in names}

    def _series(self, name: str) -> Series:
        rows = [row for row in self.curves if name in row]
        every = -(-len(rows) // MAX_POINTS)
        rows = rows[::-1][::every][::-1]  # the last one is always among them
        return Series(over=self.over, x=[r[self.over] for r in rows], y=[r[name] for r in rows])


def train(
    model: Model, data: Splits | Split, recipe: Recipe, trial: Trial, name: str = ""
) -> Trained:
    """Train a model by a recipe.

    The training goes on from its last checkpoint if the trial was interrupted, and ends in the
    same weights and figures. Global generators are seeded before and after.

    Args:
        model: trained in place, on the trial's device; or what makes it, called with generators
            seeded by the trial's seed and ``name``.
        data: the examples; of a split alone nothing is evaluated.
        recipe: settings and hooks.
        trial: whose training it is.
        name: of this one, where a trial has several: they differ in seed and checkpoints.

    Raises:
        Diverged: a loss was infinite, or an output no number.
        Stopped: the trial was asked to stop, and its state is saved; let it through.
    """
    fabric = L.Fabric(accelerator=trial.accelerator, **{"devices": 1, **recipe.fabric})
    fabric.launch()
    with deterministic():
        recipe.loss.to(trial.device)
        single = Single(recipe, _made(model, seed_of(trial, name)), fabric)
        loop = Loop(recipe, [_splits(data)], [trial], single, name)
        loop.run()
        (trained,) = _results(loop)
    if isinstance(trained, Diverged):
        raise trained
    return trained


def train_together(
    models: Sequence[Model],
    data: Sequence[Splits | Split],
    recipe: Recipe,
    trials: Sequence[Trial],
    name: str = "",
) -> list[Trained | Diverged]:
    """Train models that differ only by seed as one, vectorised.

    Each has its own initialisation, data order, metrics and selection, and ends in what it would
    come to by itself but for the order of floating-point sums. On the first batch, losses,
    gradients and outputs are compared with those of each model by itself.

    Raises:
        Separately: the model draws random numbers in training (dropout), has no vectorised form,
            or came out otherwise; they have to be trained one by one.
    """
    if recipe.fabric or recipe.accumulate > 1:
        raise Separately("devices, strategy, precision or parts of batches are set")
    with deterministic():
        recipe.loss.to(trials[0].device)
        made = [_made(m, seed_of(t, name)) for m, t in zip(models, trials, strict=True)]
        stacked = Stacked(recipe, made, trials[0].device)
        loop = Loop(recipe, list(map(_splits, data)), trials, stacked, name)
        loop.run()
        return _results(loop)


def _made(model: Model, seed: int) -> nn.Module:
    if isinstance(model, nn.Module):
        return model
    seed_all(seed, "model")
    return model()


def _splits(data: Splits | Split) -> Splits:
    return Splits(train=data, test=None) if not hasattr(data, "train") else data  # type: ignore[arg-type, return-value]


def _results(loop: Loop) -> list[Trained | Diverged]:
    tests = _tests(loop)
    models = loop.networks.released()
    over = "step" if loop.recipe.eval_steps else "epoch"
    return [
        member.error
        or Trained(
            models[index].eval(),
            dict(member.figures()),
            member.rows,
            loop.samples(index),
            tests[index],
            over,
        )
        for index, member in enumerate(loop.course.members)
    ]


@torch.inference_mode()
def _tests(loop: Loop) -> list[dict[str, float | Series]]:
    """Each model's figures on the recipe's further test sets."""
    found: list[dict[str, float | Series]] = [{} for _ in loop.trials]
    for name in loop.recipe.tests:
        kinds = [_named(data, name) for data in loop.data]
        if not isinstance(kinds[0], Mapping):
            for index, figures in _measured(loop, kinds).items():
                found[index] |= {f"{metric}@{name}": v for metric, v in figures.items()}
            continue
        sweep = {x: _measured(loop, [kind[x] for kind in kinds]) for x in sorted(kinds[0])}
        for index, metric in ((i, m) for i in range(len(found)) for m in loop.recipe.metrics):
            if all(index in each for each in sweep.values()):
                y = [each[index][metric] for each in sweep.values()]
                series = Series(over=name, x=[float(x) for x in sweep], y=y)
                found[index][f"{metric}@{name}"] = series
    return found


def _named(data: Splits, name: str) -> Any:
    if name not in data.tests:
        known = ", ".join(data.tests) or "none"
        raise ValueError(f"the data has no test set {name!r}; it has {known}")
    return data.tests[name]


def _measured(loop: Loop, splits: Sequence[Split]) -> dict[int, dict[str, float]]:
    measured = {}
    members = loop.course.members
    alive = [index for index, member in enumerate(members) if member.error is None]
    for index, figures in loop.evaluated(splits)(alive).items():
        if isinstance(figures, Diverged):
            members[index].error = figures
        else:
            measured[index] = figures
    return measured


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """Let torch choose algorithms that give the same result every time, where it has them."""
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = False  # it would cost every new tensor
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        memory.fill_uninitialized_memory = filled
