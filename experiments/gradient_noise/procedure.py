"""Gradient descent with annealed gradient noise, for many networks at once (Section 3).

    g_t ← clip(g_t) + N(0, σ_t²),   σ_t² = η / (1 + t)^γ,   θ ← θ - α g_t

Networks that differ by seed or learning rate are the rows of one parameter matrix, so that a
layer of all of them is one batched product. Each row has its own data order and its own random
numbers, and comes out as if it had been trained alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from harness.loading.splits import Batch, Split, Splits
from harness.procedures.base import Outcome, Progress, Trial, exact
from harness.procedures.batches import Batches
from harness.records import Measured, Series
from harness.seeding import derive, seed_all

EVALUATED_AT_ONCE = 2000  # examples


def noise_std(step: int, eta: float, gamma: float) -> float:
    """σ_t of equation 1 at the optimiser step t = 0, 1, …: η is a scale of the variance."""
    return float((eta / (1 + step) ** gamma) ** 0.5)


def clip_rows(grad: Tensor, norm: float) -> Tensor:
    """Scale each network's gradient (a row) down to at most this Euclidean norm."""
    scale: Tensor = norm / torch.linalg.vector_norm(grad, dim=1, keepdim=True)
    return grad * scale.clamp(max=1)


class Networks:
    """R networks of one architecture: ``theta`` (R, P) holds the parameters of each as a row."""

    def __init__(self, models: list[nn.Module], device: torch.device) -> None:
        self.template = models[0].to(device)
        self.shapes = {name: p.shape for name, p in self.template.named_parameters()}
        self.sizes = [shape.numel() for shape in self.shapes.values()]
        rows = [nn.utils.parameters_to_vector(model.parameters()) for model in models]
        self.theta = torch.stack([row.detach().to(device) for row in rows]).requires_grad_()
        self.draws = int(getattr(self.template, "draws", 0))

    def __call__(self, batch: Batch, shared: bool = False) -> Tensor:
        """Logits (R, B, C) of one batch each (R, B, …), or of a ``shared`` one (B, …)."""
        pieces = torch.split(self.theta, self.sizes, dim=1)
        parameters = {
            name: piece.reshape(-1, *shape)
            for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }
        inputs = {name: column for name, column in batch.items() if name != "y"}

        def one(parameters: dict[str, Tensor], inputs: Batch) -> Tensor:
            logits: Tensor = functional_call(self.template, parameters, (), inputs)
            return logits

        return torch.vmap(one, in_dims=(0, None if shared else 0))(parameters, inputs)

    def linear(self, on: bool) -> None:
        """Leave out (or put back) the softmax of a model that has one to leave out."""
        if hasattr(self.template, "linear"):
            self.template.linear = on  # type: ignore[assignment]

    @torch.no_grad()
    def accuracy(self, split: Split, device: torch.device) -> Tensor:
        """Share of the split's examples that each network classifies correctly: (R,)."""
        right = torch.zeros(len(self.theta), device=device)
        for indices in torch.split(torch.arange(len(split)), EVALUATED_AT_ONCE):
            batch = {name: column.to(device) for name, column in split[indices].items()}
            right += (self(batch, shared=True).argmax(-1) == batch["y"]).sum(1)
        return right / len(split)


class NoisyDescent:
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
        linear_epochs: epochs before those, with the model's ``linear`` attribute set.
        linear_rate: learning rate of these, for every network.
        eval_every: epochs between evaluations on the test split.
    """

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
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rates = learning_rates
        self.eta = eta
        self.gamma = gamma
        self.clip_norm = clip_norm
        self.reduction = reduction
        self.halve_every = halve_every
        self.linear_epochs = linear_epochs
        self.linear_rate = linear_rate
        self.eval_every = eval_every

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        errors = {"error", "val_error", "train_error"}
        return errors | {"accuracy", "top_accuracy", "diverged", "parameters"}

    def run(self, trial: Trial) -> Outcome:
        return self.run_together([trial])[0]

    def run_together(self, trials: list[Trial]) -> list[Outcome]:
        """Train the networks of all trials, which must have the same data and model."""
        training = Training(self, trials)
        for epoch in range(training.begin(), self.linear_epochs + self.epochs):
            training.epoch(epoch)
            training.save(epoch)
        return training.outcomes()

    def rates(self, epoch: int) -> list[float]:
        """Learning rate of each of a trial's networks in an epoch."""
        if epoch < self.linear_epochs:
            return [self.linear_rate] * len(self.learning_rates)
        since = epoch - self.linear_epochs
        halvings = since // self.halve_every if self.halve_every else 0
        return [rate * 0.5**halvings for rate in self.learning_rates]


class Training:
    """The state of one run: networks (trial by trial, rate by rate), curves, and the clock."""

    def __init__(self, procedure: NoisyDescent, trials: list[Trial]) -> None:
        self.procedure, self.trials = procedure, trials
        self.device = trials[0].device
        self.splits: Splits = trials[0].data
        self.rows = len(procedure.learning_rates)
        models = []
        for trial in trials:
            seed_all(trial.seed, "model")
            models += [trial.model()] * self.rows
        self.networks = Networks(models, self.device)
        self.seeds = [trial.seed for trial in trials for _ in range(self.rows)]
        self.generators = [torch.Generator(self.device) for _ in self.seeds]
        self.noise = torch.empty_like(self.networks.theta, requires_grad=False)
        self.curve: dict[int, Tensor] = {}

    def epoch(self, epoch: int) -> None:
        """Train for one epoch, and evaluate and save where it is time to."""
        procedure, last = self.procedure, self.procedure.linear_epochs + self.procedure.epochs
        for seed, generator in zip(self.seeds, self.generators, strict=True):
            generator.manual_seed(derive(seed, "noise", epoch))
        self.networks.linear(epoch < procedure.linear_epochs)
        rates = procedure.rates(epoch) * len(self.trials)
        rate = torch.tensor(rates, device=self.device)[:, None]
        for index, batch in enumerate(self._batches(epoch)):
            self._step(batch, rate, epoch * self.steps + index)
        if (epoch + 1) % procedure.eval_every == 0 or epoch + 1 == last:
            self._evaluate(epoch, last)

    @property
    def batch_size(self) -> int:
        return min(self.procedure.batch_size, len(self.splits.train))

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return len(self.splits.train) // self.batch_size

    def _batches(self, epoch: int) -> Iterator[Batch]:
        """Batches (R, B, …) in which every network has its own order, the one of its seed."""
        orders = torch.stack([self._order(seed, epoch) for seed in self.seeds])
        for indices in torch.split(orders, self.batch_size, dim=1)[: self.steps]:
            batch = self.splits.train[indices]
            yield {name: column.to(self.device) for name, column in batch.items()}

    def _order(self, seed: int, epoch: int) -> Tensor:
        return Batches(self.splits.train, self.batch_size, lambda: (seed, epoch)).order()

    def _step(self, batch: Batch, rate: Tensor, step: int) -> None:
        procedure, theta = self.procedure, self.networks.theta
        if self.networks.draws:
            shape = (self.batch_size, self.networks.draws)
            draws = [torch.rand(shape, generator=g, device=self.device) for g in self.generators]
            batch = {**batch, "draws": torch.stack(draws)}
        logits = self.networks(batch)
        # Summed over networks: the gradient of each row is that of its own loss.
        loss = cross_entropy(logits.flatten(0, 1), batch["y"].flatten(), reduction="sum")
        if procedure.reduction == "mean":
            loss = loss / self.batch_size
        (grad,) = torch.autograd.grad(loss, theta)
        if procedure.clip_norm is not None:
            grad = clip_rows(grad, procedure.clip_norm)
        if procedure.eta > 0:
            for row, generator in zip(self.noise, self.generators, strict=True):
                row.normal_(generator=generator)
            grad = grad.add(self.noise, alpha=noise_std(step, procedure.eta, procedure.gamma))
        with torch.no_grad():
            theta.sub_(rate * grad)

    def _evaluate(self, epoch: int, last: int) -> None:
        accuracy = self.networks.accuracy(self.splits.test, self.device).cpu()
        self.curve[epoch + 1] = accuracy
        for trial, own in zip(self.trials, torch.split(accuracy, self.rows), strict=True):
            trial.report(Progress(epoch + 1, last, {"accuracy": float(own.mean())}))

    def save(self, epoch: int) -> None:
        """Keep the state of the whole group with its first trial."""
        theta, curve = self.networks.theta.detach(), dict(self.curve)
        state = {"seeds": self.seeds, "epoch": epoch + 1, "theta": theta, "curve": curve}
        self.trials[0].save(epoch + 1, state)

    def begin(self) -> int:
        """The epoch to go on with: 0, or that of the state which a group of these seeds left."""
        state = self.trials[0].load()
        if state is None or state["seeds"] != self.seeds:
            return 0
        self.networks.theta = state["theta"].to(self.device).requires_grad_()
        self.curve = dict(state["curve"])
        return int(state["epoch"])

    def outcomes(self) -> list[Outcome]:
        """What each trial measured."""
        networks, splits = self.networks, self.splits
        final = {"": splits.test, "train_": splits.train, "val_": splits.val}
        accuracies = {
            name: torch.split(networks.accuracy(split, self.device).cpu(), self.rows)
            for name, split in final.items()
            if split is not None
        }
        finite = torch.split(networks.theta.isfinite().all(1).float().cpu(), self.rows)
        curves = {at: torch.split(values, self.rows) for at, values in self.curve.items()}
        outcomes = []
        for index in range(len(self.trials)):
            test = accuracies[""][index]
            metrics: dict[str, float | Measured] = {
                f"{name}error": 1 - float(values[index].mean())
                for name, values in accuracies.items()
            }
            metrics |= {"accuracy": float(test.mean()), "top_accuracy": float(test.max())}
            metrics |= {"diverged": 1 - float(finite[index].mean())}
            metrics |= {"parameters": exact(networks.theta.shape[1])}
            y = [float(values[index].mean()) for values in curves.values()]
            series = {"accuracy": Series(over="epoch", x=list(map(float, curves)), y=y)}
            outcomes.append(Outcome(metrics, series, self._samples()))
        return outcomes

    def _samples(self) -> int:
        """Examples that the networks of one trial were trained on."""
        procedure = self.procedure
        epochs = procedure.linear_epochs + procedure.epochs
        return epochs * self.steps * self.batch_size * self.rows
