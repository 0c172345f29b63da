"""What one step of training does, against its closed form; sizes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from experiments.dkvb.model import Bottleneck
from harness.procedures.base import Outcome, Trial, exact

SMOOTHING = 0.1


class Locality:
    """One step on one input, and what it does to the outputs of all others.

    With C codebooks and learning rate r, a step of gradient descent on (x, y) adds to the logits
    of x' exactly -r (p(x) - q(y)) S(x, x') / C², where S counts the codebooks in which both fetch
    the same pair, p is the softmax and q the smoothed label: nothing, where S is 0.

    ``apart_change`` is the largest change of an output that shares no pair (of ``apart_share`` of
    the others), ``kernel_error`` the largest distance to that law over the largest change.

    Args:
        optimizer: of the values; it has made one step on another input before.
        inputs: of which ``steps`` are each stepped on by themselves.
    """

    def __init__(
        self,
        optimizer: OptimizerCallable = torch.optim.SGD,
        inputs: int = 200,
        steps: int = 10,
    ) -> None:
        self.optimizer, self.inputs, self.steps = optimizer, inputs, steps

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"apart_change", "apart_share", "kernel_error"}

    def run(self, trial: Trial) -> Outcome:
        model = trial.model().double()
        if not isinstance(model, Bottleneck):
            raise TypeError("steps are local in a bottleneck")
        features, classes = model.projections.shape[1], model.values.codes.shape[2]
        centres = 2 * torch.randn(8, features, dtype=torch.double)
        z = centres.repeat(self.inputs // 8, 1)
        z = z + torch.randn_like(z)
        for _ in range(20):
            model.follow(z[torch.randperm(len(z))], threshold=0.1)
        y = torch.randint(classes, (len(z),))
        shared = (model.snap(z)[:, None] == model.snap(z)).double().sum(2)
        found = [self._stepped(copy.deepcopy(model), z, y, shared, i) for i in range(self.steps)]
        change, share, error = zip(*found, strict=True)
        return Outcome(
            {
                "apart_change": max(change),
                "apart_share": sum(share) / len(share),
                "kernel_error": max(error),
            }
        )

    def _stepped(
        self, model: Bottleneck, z: Tensor, y: Tensor, shared: Tensor, at: int
    ) -> tuple[float, float, float]:
        optimizer = self.optimizer(model.values.parameters())
        rate = optimizer.param_groups[0]["lr"]
        self._step(model.train(), optimizer, z[at + 1 : at + 2], y[at + 1 : at + 2])
        before = model(z).detach()
        self._step(model, optimizer, z[at : at + 1], y[at : at + 1])
        change = model(z).detach() - before
        smoothed = torch.full_like(before[at], SMOOTHING / before.shape[1])
        smoothed[y[at]] += 1 - SMOOTHING
        error = before[at].softmax(0) - smoothed
        law = -rate * shared[at][:, None] / len(model.keys) ** 2 * error
        apart = shared[at] == 0
        away = float((change - law).abs().max() / change.abs().max())
        largest = float(change[apart].abs().max()) if apart.any() else 0.0
        return largest, float(apart.double().mean()), away

    def _step(
        self, model: Bottleneck, optimizer: torch.optim.Optimizer, z: Tensor, y: Tensor
    ) -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(z), y, label_smoothing=SMOOTHING).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


class Size:
    """How many numbers of the trial's model are trained, and how many are fixed (in millions)."""

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"trained", "fixed"}

    def run(self, trial: Trial) -> Outcome:
        with torch.device("meta"):
            model = trial.model()
        trained = sum(p.numel() for p in model.parameters())
        fixed = sum(b.numel() for n, b in model.named_buffers() if n in ("keys", "projections"))
        return Outcome({"trained": exact(trained), "fixed": exact(fixed)})
