"""Guided samples, judged by features of a small classifier."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from experiments.starflow.data import FlowSplits, Noise, noisy
from experiments.starflow.guidance import Rule
from experiments.starflow.model import Flow
from experiments.starflow.procedure import FlowFit
from harness.loading.splits import Batch, Split, Splits, Tensors
from harness.procedures.base import Outcome, Progress, Trial
from harness.procedures.recipe import At, Recipe
from harness.procedures.training import train
from harness.records import Series
from harness.seeding import derive


class Judge(nn.Module):
    """A classifier of sequences; the last hidden layer is what samples are compared by."""

    def __init__(self, inputs: int, classes: int, features: int = 32) -> None:
        super().__init__()
        self.hidden = nn.Sequential(
            nn.Flatten(), nn.Linear(inputs, 128), nn.ReLU(), nn.Linear(128, features), nn.ReLU()
        )
        self.head = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> logits (B, classes); numbers beyond -1 and 1 count as these."""
        logits: Tensor = self.head(self.features(x))
        return logits

    def features(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, features)."""
        found: Tensor = self.hidden(x.clamp(-1, 1))
        return found


def frechet(a: Tensor, b: Tensor) -> float:
    """Squared Fréchet distance of the Gaussians with mean and covariance of rows (n, f)."""
    a, b = a.double(), b.double()
    first, second = torch.cov(a.T), torch.cov(b.T)
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()
    gap = (a.mean(0) - b.mean(0)).square().sum()
    return float(gap + first.trace() + second.trace() - 2 * cross)


class _Judging(Recipe):
    """Trains the judge on noisy images, as flows see them."""

    def __init__(self, noise: Noise, steps: int) -> None:
        super().__init__(loss=nn.CrossEntropyLoss(), steps=steps, eval_steps=steps, batch_size=128)
        self.noise = noise

    def augment(self, batch: Batch, at: At) -> Batch:
        return {**batch, "x": noisy(batch["x"], self.noise, at.generator)}


class Guidance(FlowFit):
    """Samples of one trained flow over the weight of guidance.

    ``feature_distance``: squared Fréchet distance between ``samples`` samples, with the classes of
    as many test images, and all noisy test images, in features of a classifier of our own; it can
    be compared with nothing else. ``log_spread``: log10 of its largest over its least value over
    the weights; ``plain_distance`` and ``chosen_distance``: its values without guidance, and at the
    weight that is best on validation images; ``label_share``: samples that the classifier
    takes for the class that was asked for. ``judge_accuracy``: of the classifier on test images.
    Flow and classifier are the same for all rules and weights, and so is the noise that samples
    are made of.

    Args:
        rule: of guidance.
        weights: w, in rising order; 0 is among them.
        samples: for each weight.
        judge_steps: training steps of the classifier.
        fit: training of the flow.
    """

    def __init__(
        self,
        rule: Rule = "product",
        weights: Sequence[float] = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0),
        samples: int = 500,
        judge_steps: int = 500,
        **fit: Any,
    ) -> None:
        super().__init__(**fit)
        self.rule: Rule = rule
        self.weights, self.samples, self.judge_steps = list(weights), samples, judge_steps

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        series = {"feature_distance", "label_share"}
        own = {"log_spread", "plain_distance", "chosen_distance", "judge_accuracy"}
        return series | own

    @classmethod
    def sometimes(cls, init_args: Mapping[str, Any]) -> set[str]:
        return set()

    def run(self, trial: Trial) -> Outcome:
        names = ("optimizer", "schedule", "schedule_every", "steps", "batch_size", "clip_norm")
        told = {"model": trial.config.get("model"), "noise": self.noise, "drop": self.drop}
        flow, judge = trial.model().to(trial.device), _judge(trial.data).to(trial.device)
        assert isinstance(flow, Flow)
        flow.load_state_dict(trial.part("flow", told | trial.settings(*names), self._flow))
        settings = {"noise": self.noise, "judge_steps": self.judge_steps}
        judge.load_state_dict(trial.part("judge", settings, self._trained_judge))
        return self._sweep(flow.eval(), judge.eval(), trial)

    def _flow(self, trial: Trial) -> dict[str, Tensor]:
        return train(trial.model, trial.data, self, trial, "flow").model.state_dict()

    def _trained_judge(self, trial: Trial) -> dict[str, Tensor]:
        data: FlowSplits = trial.data
        train_split, test_split = (
            Tensors(x=found["x"], y=found["label"])
            for found in (split[torch.arange(len(split))] for split in (data.train, data.test))
        )
        recipe = _Judging(self.noise, self.judge_steps)
        made = train(lambda: _judge(data), Splits(train_split, test_split), recipe, trial, "judge")
        return made.model.state_dict()

    @torch.no_grad()
    def _sweep(self, flow: Flow, judge: Judge, trial: Trial) -> Outcome:
        val, test = (_whole(split, trial.device) for split in (trial.data.val, trial.data.test))
        label = test["label"][: self.samples]
        generator = torch.Generator().manual_seed(derive(trial.seed, "samples"))
        z = torch.randn(len(label), *flow.shape, generator=generator).to(trial.device)
        truths = [judge.features(split["x"]) for split in (val, test)]
        chosen: list[float] = []
        distances: list[float] = []
        shares: list[float] = []
        for done, weight in enumerate(self.weights):
            trial.report(Progress(done, len(self.weights)))
            x = flow.decode(z, label, weight, self.rule)
            for kept, truth in zip((chosen, distances), truths, strict=True):
                kept.append(frechet(judge.features(x), truth))
            shares.append(float((judge(x).argmax(1) == label).double().mean()))
        accuracy = float((judge(test["x"]).argmax(1) == test["label"]).double().mean())
        best = distances[chosen.index(min(chosen))]
        return Outcome(
            {
                "log_spread": math.log10(max(distances) / min(distances)),
                "plain_distance": distances[self.weights.index(0.0)],
                "chosen_distance": best,
                "judge_accuracy": accuracy,
            },
            {
                name: Series(over="weight", x=self.weights, y=y)
                for name, y in (("feature_distance", distances), ("label_share", shares))
            },
        )


def _whole(split: Split | None, device: torch.device) -> Batch:
    assert split is not None
    return {k: v.to(device) for k, v in split[torch.arange(len(split))].items()}


def _judge(data: FlowSplits) -> Judge:
    x = data.test[torch.tensor([0])]["x"]
    return Judge(x[0].numel(), data.dims["classes"])
