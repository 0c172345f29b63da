"""Training to complete and to classify, and how both are measured."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric

from baselines.metrics import CrossEntropy
from experiments.monotone_dbm.data import OBSERVED
from experiments.monotone_dbm.layers import scattered, variables
from experiments.monotone_dbm.model import BoltzmannMachine
from harness.loading.splits import Batch
from harness.procedures.base import Outcome, Trial
from harness.procedures.fit import Fit
from harness.procedures.recipe import At
from harness.seeding import derive


def pixel_logits(output: Tensor, x: Tensor, classes: int) -> Tensor:
    """What a model says of every pixel, (B, side, side, levels)."""
    grey = output[:, classes:]
    return grey.reshape(len(x), -1, *x.shape[1:]).movedim(1, -1)


def focal_loss(logits: Tensor, target: Tensor, gamma: float = 2.0, beta: float = 0.9999) -> Tensor:
    """Cross-entropy that counts rare levels and unsure pixels more.

    A pixel's term is ``(1 - p)^γ (-log p)``, p being the probability of its level, and its weight
    ``(1 - β)/(1 - β^n)``, with n pixels of that level; the mean is over weights.

    Args:
        logits: (pixels, levels).
        target: (pixels,).
    """
    counts = torch.bincount(target, minlength=logits.shape[1])
    weights = ((1 - beta) / (1 - beta ** counts.clamp_min(1).to(logits.dtype)))[target]
    log_p = logits.log_softmax(1).gather(1, target[:, None])[:, 0]
    terms = -((1 - log_p.exp()) ** gamma) * log_p
    return (weights * terms).sum() / weights.sum()


class HiddenError(Metric):
    """Share of hidden pixels that get another level, averaged over levels that occur."""

    higher_is_better = False
    wrong: Tensor
    count: Tensor

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.add_state("wrong", torch.zeros(levels, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(levels, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, target: Tensor) -> None:
        wrong = (logits.argmax(1) != target).double()
        levels = len(self.count)
        self.wrong += torch.bincount(target, wrong, minlength=levels)
        self.count += torch.bincount(target, minlength=levels)

    def compute(self) -> Tensor:
        there = self.count > 0
        return (self.wrong[there] / self.count[there]).mean()


class Completion(Fit):
    """Complete images of which 40 % of the pixels are seen, and classify them, in one.

    The loss is half the focal loss of hidden pixels and half the label's cross-entropy. Of a
    Boltzmann machine it is also measured what its inference does on ``inspected`` test images
    from three random states, given 300 steps: ``start_spread`` (largest
    difference between marginals, a mean over images), ``start_dependent`` (share of images in
    which it is above 0.01), ``label_depends`` (share whose answer changes) and ``unsettled``
    (share whose marginals do not satisfy mean field's equations to 0.01).

    Args:
        classes: of the label.
        inspected: test images.
        fit: see :class:`Recipe`.
    """

    starts, longest = 3, 300

    def __init__(self, classes: int, inspected: int = 100, **fit: Any) -> None:
        super().__init__(**fit)
        self.classes, self.inspected = classes, inspected

    @classmethod
    def produces(cls, init_args: Any) -> set[str]:
        return super().produces(init_args) | INSPECTED

    @classmethod
    def sometimes(cls, init_args: Any) -> set[str]:
        return super().sometimes(init_args) | INSPECTED

    def augment(self, batch: Batch, at: At) -> Batch:
        """Which pixels are seen, anew."""
        x = batch["x"]
        drawn = torch.rand(x.shape, generator=at.generator, device=x.device)
        return {**batch, "seen": drawn < OBSERVED}

    def training_loss(self, model: nn.Module, batch: Batch, at: At) -> Tensor:
        output = self.predict(model, batch)
        hidden = ~batch["seen"]
        grey = pixel_logits(output, batch["x"], self.classes)
        label = F.cross_entropy(output[:, : self.classes], batch["y"])
        return (focal_loss(grey[hidden], batch["x"][hidden]) + label) / 2

    def scored(self, meter: Metric, output: Tensor, batch: Batch) -> None:
        if isinstance(meter, CrossEntropy | HiddenError):
            hidden = ~batch["seen"]
            grey = pixel_logits(output, batch["x"], self.classes)
            meter.update(grey[hidden], batch["x"][hidden])
        else:
            meter.update(output[:, : self.classes], batch["y"])

    @torch.no_grad()
    def measure(self, model: nn.Module, trial: Trial) -> Outcome:
        if not isinstance(model, BoltzmannMachine):
            return Outcome({})
        rows = torch.arange(min(self.inspected, len(trial.data.test)))
        batch = {k: v.to(trial.device) for k, v in trial.data.test[rows].items()}
        field = model.field(batch["x"], batch["seen"])
        generator = torch.Generator().manual_seed(derive(trial.seed, "starts"))
        ends, labels = [], []
        for _ in range(self.starts):
            start = scattered(model.layers, len(rows), generator).to(field.held)
            end = field.clamped(model.settle_from(field, start, self.longest))
            ends.append(end)
            labels.append(variables(end, model.layers)[-1].flatten(1).argmax(1))
        points, named = torch.stack(ends), torch.stack(labels)
        spread = (points.amax(0) - points.amin(0)).amax(1)
        unsettled = torch.stack([field.residual(end) > 0.01 for end in ends])
        return Outcome(
            {
                "start_spread": float(spread.mean()),
                "start_dependent": float((spread > 0.01).double().mean()),
                "label_depends": float((named != named[0]).any(0).double().mean()),
                "unsettled": float(unsettled.double().mean()),
            }
        )


INSPECTED = {"start_spread", "start_dependent", "label_depends", "unsettled"}
