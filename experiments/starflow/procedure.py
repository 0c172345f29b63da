"""Training by exact likelihood, and the class that likelihoods tell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric

from experiments.starflow.data import FlowSplits, Noise, noisy
from experiments.starflow.model import DROPPED, Flow
from harness.loading.splits import Batch, Split
from harness.procedures.base import Outcome, Trial, exact
from harness.procedures.fit import Fit
from harness.procedures.recipe import At
from harness.procedures.training import Trained


class Nats(MeanMetric):
    """Mean of negative log-likelihoods in nats per number."""

    higher_is_better = False  # type: ignore[assignment]


class Bits(Nats):
    """The same in bits for each of 256 grey levels, of images between -1 and 1."""

    def compute(self) -> Tensor:
        return (super().compute() + math.log(128)) / math.log(2)


def nll_name(noise: Noise) -> str:
    """The name of a likelihood says what was added to the images that it is of."""
    return "bits_uniform" if noise == "uniform" else f"nll_noise_{noise:g}"


class FlowFit(Fit):
    """Fit for flows: no target, noise and untold classes in training.

    Besides what Fit reports: ``early_`` and the likelihood's name, the mean over validations of
    the first half of training. Where the data's density is known, ``excess``: how far the
    likelihood is from it, nats per number; where flows of one order have a bound, ``over_bound``:
    the mean of -log p less that bound, nats. With ``posterior``: ``bayes_accuracy``, of the class
    that makes a test image likeliest, and ``class_information``, the nats that the posterior tells
    about the class: log(classes) less its cross-entropy.

    Args:
        noise: added to training examples; that of the data's other examples.
        drop: share of training examples whose class is not told.
        posterior: test examples whose likelihood is computed for every class.

    Raises:
        ValueError: a likelihood's name does not say the noise, or the data have another.
    """

    def __init__(
        self, noise: Noise = 0.1, drop: float = 0.1, posterior: int = 0, **fit: Any
    ) -> None:
        super().__init__(**fit)
        self.noise, self.drop, self.posterior = noise, drop, posterior
        for name, metric in self.metrics.items():
            if isinstance(metric, Nats) and name != nll_name(noise):
                raise ValueError(f"{name} is measured at another noise: call it {nll_name(noise)}")

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        names = super().produces(init_args) | {"excess", "over_bound"}
        names |= {f"early_{name}" for name in init_args.get("metrics") or {}}
        if init_args.get("posterior"):
            names |= {"bayes_accuracy", "class_information"}
        return names

    @classmethod
    def sometimes(cls, init_args: Mapping[str, Any]) -> set[str]:
        return super().sometimes(init_args) | {"excess", "over_bound"}

    def augment(self, batch: Batch, at: At) -> Batch:
        x, label = noisy(batch["x"], self.noise, at.generator), batch["label"]
        untold = torch.rand(label.shape, generator=at.generator, device=label.device) < self.drop
        return {"x": x, "label": torch.where(untold, DROPPED, label)}

    def training_loss(self, model: nn.Module, batch: Batch, at: At) -> Tensor:
        found: Tensor = self.predict(model, batch).mean()
        return found

    def scored(self, meter: Metric, output: Tensor, batch: Batch) -> None:
        meter.update(output)

    def run(self, trial: Trial) -> Outcome:
        if trial.data.noise != self.noise:
            raise ValueError(f"data have noise {trial.data.noise}, training {self.noise}")
        return super().run(trial)

    def _outcome(self, trained: Trained, trial: Trial) -> Outcome:
        outcome = super()._outcome(trained, trial)
        name = next(iter(self.metrics))
        curve = [row[f"val_{name}"] for row in trained.curves if f"val_{name}" in row]
        early = sum(curve[: -(-len(curve) // 2)]) / -(-len(curve) // 2)
        return replace(outcome, metrics={**outcome.metrics, f"early_{name}": early})

    @torch.no_grad()
    def measure(self, model: nn.Module, trial: Trial) -> Outcome:
        assert isinstance(model, Flow)
        data: FlowSplits = trial.data
        found: dict[str, float] = {}
        if data.entropy is not None or data.bound is not None:
            nll = self.likelihoods(model, data.test, trial.device).mean()
            size = math.prod(model.shape)
            if data.entropy is not None:
                found["excess"] = float(nll) - data.entropy
            if data.bound is not None:
                found["over_bound"] = size * float(nll) - data.bound
        if self.posterior:
            found |= self._posterior(model, data.test, data.dims["classes"], trial.device)
        return Outcome(found)

    def likelihoods(
        self, model: Flow, split: Split, device: torch.device, told: int | None = None
    ) -> Tensor:
        """-log p in nats per number, float64 (n,), with each one's class, or all told another."""
        found = []
        for indices in torch.split(torch.arange(len(split)), self.eval_batch_size):
            batch = {name: column.to(device) for name, column in split[indices].items()}
            label = batch["label"] if told is None else torch.full_like(batch["label"], told)
            found.append(model(batch["x"], label).double())
        return torch.cat(found)

    def _posterior(
        self, model: Flow, split: Split, classes: int, device: torch.device
    ) -> dict[str, float]:
        """Of the class given the image, all classes equally likely before."""
        few = _First(split, self.posterior)
        size = math.prod(model.shape)
        nll = torch.stack([self.likelihoods(model, few, device, c) for c in range(classes)], dim=1)
        label = few[torch.arange(len(few))]["label"].to(device)
        told = torch.log_softmax(-size * nll, dim=1)
        return {
            "bayes_accuracy": float((told.argmax(1) == label).double().mean()),
            "class_information": math.log(classes) + float(told.gather(1, label[:, None]).mean()),
        }


class _First:
    """The first examples of a split."""

    def __init__(self, split: Split, count: int) -> None:
        self.split, self.count = split, min(count, len(split))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, indices: Tensor) -> Batch:
        return self.split[indices]


class Gaussian:
    """``nll_noise_…`` of a normal density with mean and covariance of the training images.

    The noise's variance is added to the diagonal.

    Args:
        noise: standard deviation, that of the data.
        full: with correlations; else each number by itself.
    """

    def __init__(self, noise: float = 0.1, full: bool = True) -> None:
        self.noise, self.full = noise, full

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        noise = init_args.get("noise")
        return {nll_name(0.1 if noise is None else noise)}

    def run(self, trial: Trial) -> Outcome:
        train, test = (
            split[torch.arange(len(split))]["x"].double().flatten(1)
            for split in (trial.data.train, trial.data.test)
        )
        covariance = torch.cov(train.T, correction=0)
        if not self.full:
            covariance = covariance.diagonal().diag()
        covariance += self.noise**2 * torch.eye(len(covariance), dtype=torch.float64)
        density = torch.distributions.MultivariateNormal(train.mean(0), covariance)
        nll = -density.log_prob(test).mean() / train.shape[1]  # type: ignore[no-untyped-call]
        return Outcome({nll_name(self.noise): exact(float(nll))})
