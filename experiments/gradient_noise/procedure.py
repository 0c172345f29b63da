"""Gradient descent with annealed gradient noise (Section 3).

g_t ← clip(g_t) + N(0, σ_t²),   σ_t² = η / (1 + t)^γ,   θ ← θ - α g_t
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import fmean
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from harness.loading.splits import Batch
from harness.procedures.base import Outcome, Trial, exact
from harness.procedures.recipe import At, Recipe
from harness.procedures.training import Trained, train_together
from harness.records import Measured, Series

EVALUATED_AT_ONCE = 2000  # examples


def noise_std(step: int, eta: float, gamma: float) -> float:
    """σ_t of equation 1 at the optimiser step t = 0, 1, …: η is a scale of the variance."""
    return float((eta / (1 + step) ** gamma) ** 0.5)


class NoisyDescent(Recipe):
    """Train with every learning rate, then measure accuracies and errors.

    Measured after the last epoch: ``accuracy`` on the test split, the mean over learning rates;
    ``top_accuracy``, that of the best learning rate; ``error``, ``val_error`` (where there is a
    validation split) and ``train_error``, all without dropout or other training noise;
    ``diverged``, the share of networks with a parameter that is not finite. Such a network is
    scored like any other: by what it answers.

    Args:
        epochs: passes over the training examples (incomplete batches are left out).
        batch_size: examples a step.
        learning_rates: one network is trained with each, from the same initialisation and with
            the same data order and noise.
        eta: variance of the noise at the first step; 0 for none.
        gamma: exponent with which the variance decays.
        clip_norm: bound on the norm of the whole gradient, applied before the noise.
        reduction: whether a batch's loss is the mean or the sum over its examples.
        halve_every: epochs after which the learning rate is halved, again and again.
        linear_epochs: epochs before those, in which the model is called with ``linear=True``.
        linear_rate: learning rate of these, for every network.
        eval_every: epochs between evaluations on the test split.
    """

    scores_diverged = True

    def __init__(
        self,
        epochs: int,
        batch_size: int,
        learning_rates: list[float],
        eta: float = 0.0,
        gamma: float = 0.55,
        clip_norm: float | None = None,
        reduction: Literal["mean", "sum"] = "mean",
        halve_every: int | None = None,
        linear_epochs: int = 0,
        linear_rate: float = 0.005,
        eval_every: int = 1,
    ) -> None:
        if not learning_rates:
            raise ValueError("give at least one learning rate")
        super().__init__(
            metrics={"accuracy": MulticlassAccuracy(average="micro", validate_args=False)},
            optimizer=partial(torch.optim.SGD, lr=learning_rates[0]),
            epochs=linear_epochs + epochs,
            batch_size=batch_size,
            clip_norm=clip_norm,
            drop_last=True,
            eval_every=eval_every,
            eval_batch_size=EVALUATED_AT_ONCE,
            tests=["train"],
        )
        self.learning_rates = learning_rates
        self.eta = eta
        self.gamma = gamma
        self.reduction = reduction
        self.halve_every = halve_every
        self.linear_epochs = linear_epochs
        self.linear_rate = linear_rate
        self.linear = False
        self.draws = 0

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        errors = {"error", "val_error", "train_error"}
        return errors | {"accuracy", "top_accuracy", "diverged", "parameters"}

    def run(self, trial: Trial) -> Outcome:
        return self.run_together([trial])[0]

    def run_together(self, trials: Sequence[Trial]) -> list[Outcome]:
        return self.outcomes(self.trained(trials))

    def trained(self, trials: Sequence[Trial]) -> list[Trained]:
        """The networks of all trials, trial by trial and rate by rate, trained as one."""
        self.linear = self.linear_epochs > 0
        self.draws = int(getattr(trials[0].model(), "draws", 0))
        each = [trial for trial in trials for _ in self.learning_rates]
        data = [replace(trial.data, tests={"train": trial.data.train}) for trial in each]
        found = train_together([trial.model for trial in each], data, self, each)
        return cast(list[Trained], found)  # for scores_diverged

    def outcomes(self, networks: Sequence[Trained]) -> list[Outcome]:
        """What each trial measured."""
        rates = len(self.learning_rates)
        return [_outcome(networks[i : i + rates]) for i in range(0, len(networks), rates)]

    def rates(self, epoch: int) -> list[float]:
        """Learning rate of each of a trial's networks in an epoch."""
        if epoch < self.linear_epochs:
            return [self.linear_rate] * len(self.learning_rates)
        since = epoch - self.linear_epochs
        halvings = since // self.halve_every if self.halve_every else 0
        return [rate * 0.5**halvings for rate in self.learning_rates]

    def augment(self, batch: Batch, at: At) -> Batch:
        """With the uniform random numbers that a model may need while training."""
        if not self.draws:
            return batch
        y = batch["y"]
        draws = torch.rand((len(y), self.draws), generator=at.generator, device=y.device)
        return {**batch, "draws": draws}

    def training_loss(self, model: nn.Module, batch: Batch, at: At) -> Tensor:
        self.linear = at.epoch < self.linear_epochs  # also for what is measured after the epoch
        surprise = -self.predict(model, batch).log_softmax(1).gather(1, batch["y"][:, None])
        return surprise.sum() if self.reduction == "sum" else surprise.mean()

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        stage = {"linear": True} if self.linear else {}
        logits: Tensor = model(**{k: v for k, v in batch.items() if k != "y"}, **stage)
        return logits

    def gradients_together(self, gradients: Mapping[str, Tensor], at: Sequence[At]) -> None:
        """Add each network's own noise, and multiply by its rate where that is not SGD's."""
        rows = [gradient.view(len(at), -1) for gradient in gradients.values()]
        if self.eta > 0:
            sizes = [row.shape[1] for row in rows]
            noise = rows[0].new_empty(len(at), sum(sizes))
            for own, where in zip(noise, at, strict=True):
                own.normal_(generator=where.generator)
            std = noise_std(at[0].step, self.eta, self.gamma)
            torch._foreach_add_(rows, torch.split(noise, sizes, dim=1), alpha=std)
        factors = [rate / self.learning_rates[0] for rate in self.rates(at[0].epoch)]
        if set(factors) != {1.0}:
            factor = rows[0].new_tensor(factors).repeat(len(at) // len(factors))[:, None]
            torch._foreach_mul_(rows, [factor] * len(rows))


def _outcome(networks: Sequence[Trained]) -> Outcome:
    """Of a trial, from its networks, one for each learning rate."""
    names = {"error": "accuracy", "val_error": "val_accuracy", "train_error": "accuracy@train"}
    figures: list[dict[str, Any]] = [network.row | dict(network.tests) for network in networks]
    metrics: dict[str, float | Measured] = {
        error: 1 - fmean(each[accuracy] for each in figures)
        for error, accuracy in names.items()
        if accuracy in figures[0]
    }
    test = [each["accuracy"] for each in figures]
    metrics |= {"accuracy": fmean(test), "top_accuracy": max(test)}
    parameters = [nn.utils.parameters_to_vector(n.model.parameters()) for n in networks]
    metrics["diverged"] = fmean(not bool(vector.isfinite().all()) for vector in parameters)
    metrics["parameters"] = exact(len(parameters[0]))
    curve = list(zip(*(network.curves for network in networks), strict=True))
    y = [fmean(row["accuracy"] for row in rows) for rows in curve]
    series = {"accuracy": Series(over="epoch", x=[rows[0]["epoch"] for rows in curve], y=y)}
    return Outcome(metrics, series, sum(network.samples for network in networks))
