"""Training on one grid, or on several in turn, and tests on all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from baselines.operators import RelativeError, relative_errors
from experiments.nns_to_nos.data import Problem, splits, thinned
from experiments.nns_to_nos.extension import Extension, extended
from harness.loading.splits import Batch
from harness.procedures.base import Outcome, Trial, exact
from harness.procedures.recipe import At, Recipe
from harness.procedures.training import train
from harness.records import Series

TRAINING = ("epochs", "batch_size", "learning_rate", "weight_decay", "halve_every", "seen")


class SummedNorms(nn.Module):
    """(Σ ‖output - target‖)² over a batch, norms as integrals over [0, 2π)² (``LpLossAbs``)."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        width = 2 * math.pi / target.shape[-1]
        norms = width * torch.linalg.vector_norm((output - target).flatten(1), dim=1)
        total: Tensor = norms.sum() ** 2
        return total


class OnGrids(Recipe):
    """Each batch is seen on one of the grids ``sides``, drawn anew."""

    sides: Sequence[int] = ()

    def augment(self, batch: Batch, at: At) -> Batch:
        if not self.sides:
            return batch
        drawn = torch.randint(
            len(self.sides), (1,), generator=at.generator, device=at.generator.device
        )
        side = self.sides[int(drawn)]
        return {name: thinned(column, side) for name, column in batch.items()}


class Crossing:
    """Train on the base grid and test on all grids.

    ``l2``, the mean relative L2 error of the test functions, is a series over the grid's ``side``.
    ``base_l2``, ``finest_l2`` and ``coarsest_l2`` are that on single grids, and ``unseen_l2`` on
    the worst that was not trained on; ``log_rise`` is the logarithm of the last over the first,
    ``log_finest_l2`` and ``log_coarsest_l2`` are decimal logarithms, too. ``val_l2`` is on the
    grid of training; ``parameters`` counts real numbers.

    The trained network is a part that all variants share which differ by ``extension`` alone.

    Args:
        extension: how the network is used on another grid (``extension.py``).
        seen: grids on which batches are seen in turn; the base grid alone if none are named.
        halve_every: epochs after which the learning rate is halved.
    """

    def __init__(
        self,
        extension: Extension = "none",
        seen: Sequence[int] = (),
        epochs: int = 300,
        batch_size: int = 16,
        learning_rate: float = 5e-4,
        weight_decay: float = 1e-4,
        halve_every: int = 50,
        eval_every: int = 1,
    ) -> None:
        self.extension: Extension = extension
        self.seen, self.epochs, self.batch_size = seen, epochs, batch_size
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.halve_every, self.eval_every = halve_every, eval_every

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        grids = {"base_l2", "unseen_l2", "finest_l2", "coarsest_l2"}
        logarithms = {"log_rise", "log_finest_l2", "log_coarsest_l2"}
        return grids | logarithms | {"l2", "val_l2", "training_l2", "parameters"}

    def run(self, trial: Trial) -> Outcome:
        data: Problem = trial.data
        functions = _functions(trial)
        settings = {**trial.settings(*TRAINING), "model": trial.config.get("model")}
        taught = trial.part("network", settings, lambda t: self._taught(t, functions))
        network = trial.model()
        network.load_state_dict(taught["weights"])
        network = network.to(trial.device).eval()
        trial.keep(network)
        errors = self._errors(network, data, functions)
        weights = sum(p.numel() * (2 if p.is_complex() else 1) for p in network.parameters())
        curve = taught["val_l2"]
        series = {
            "l2": Series(over="side", x=[float(d) for d in errors], y=list(errors.values())),
            "training_l2": Series(over="epoch", x=taught["epoch"], y=curve),
        }
        scalars = summary(errors, data.base, self.seen or (data.base,))
        metrics = {**scalars, "val_l2": curve[-1], "parameters": exact(weights)}
        return Outcome(metrics, series, taught["samples"])

    def _taught(self, trial: Trial, functions: Mapping[str, Tensor]) -> dict[str, Any]:
        data = splits(functions)[0]
        recipe = OnGrids(
            loss=SummedNorms(),
            metrics={"l2": RelativeError()},
            optimizer=partial(
                torch.optim.Adam, lr=self.learning_rate, weight_decay=self.weight_decay
            ),
            schedule=partial(
                torch.optim.lr_scheduler.StepLR, step_size=self.halve_every, gamma=0.5
            ),
            epochs=self.epochs,
            batch_size=self.batch_size,
            eval_every=self.eval_every,
            eval_batch_size=64,
        )
        recipe.sides = self.seen
        trained = train(trial.model, data, recipe, trial)
        return {
            "weights": dict(trained.model.state_dict()),
            "epoch": [row["epoch"] for row in trained.curves],
            "val_l2": [row["val_l2"] for row in trained.curves],
            "samples": trained.samples,
        }

    @torch.no_grad()
    def _errors(
        self, network: nn.Module, data: Problem, functions: Mapping[str, Tensor]
    ) -> dict[int, float]:
        """By side: the mean relative error of the test functions."""
        _, mean, deviation = splits(functions)
        x, y = ((functions[f"test_{name}"])[:, None] for name in "xy")
        x = (x - mean) / deviation
        errors = {}
        for side in data.sides:
            whole = extended(network, data.base, side, self.extension, data.periodic)
            inputs, targets = (thinned(f, side) for f in (x, y))
            found = [
                relative_errors(whole(a), b)
                for a, b in zip(torch.split(inputs, 25), torch.split(targets, 25), strict=True)
            ]
            errors[side] = float(torch.cat(found).double().mean())
        return errors


def _functions(trial: Trial) -> dict[str, Tensor]:
    data: Problem = trial.data
    if data.solved:
        return trial.part("functions", {}, lambda within: within.data.functions())
    return {name: f.to(trial.device) for name, f in data.functions().items()}


def summary(errors: Mapping[int, float], base: int, seen: Sequence[int]) -> dict[str, float]:
    """What is said of the errors on all grids, by side.

    Raises:
        ValueError: all of them were seen in training.
    """
    unseen = [error for side, error in errors.items() if side not in seen]
    if not unseen:
        raise ValueError(f"networks that saw grids {sorted(seen)} are to be tested on others, too")
    finest, coarsest = errors[max(errors)], errors[min(errors)]
    return {
        "base_l2": errors[base],
        "unseen_l2": max(unseen),
        "finest_l2": finest,
        "coarsest_l2": coarsest,
        "log_rise": math.log10(max(unseen) / errors[base]),
        "log_finest_l2": math.log10(finest),
        "log_coarsest_l2": math.log10(coarsest),
    }
