"""The weights of the public code that calls itself L2R-GNN (AnonymousCode10/L2RGNN at 106ce1a).

It has no clusters and no second level, and shares StableNet's weight learner. The values of its
settings are in a file that was not uploaded; those here are StableNet's usual ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


class ReleasedWeights(nn.Module):
    """Softmax weights of a batch, learned afresh each time, of all pairs of coordinates.

    ``L = L_b / λ + Σ softmax(v)²``, by SGD with momentum 0.9 from v = 1; L_b is the sum of squared
    weighted covariances off the diagonal of √2 (cos + sin) of one random phase a coordinate.

    Args:
        graphs: N, of the training split.
        width: d, coordinates of a representation.
        batch: rows of the memory (the code ties them to ``width``).
        steps, rate: of SGD; the rate falls to a tenth at half of the steps.
        balance: λ.
        momentum: share of the memory that stays.
    """

    weights: Tensor
    memory: Tensor
    remembered: Tensor

    def __init__(
        self,
        graphs: int,
        width: int,
        batch: int,
        steps: int = 20,
        rate: float = 1.0,
        balance: float = 70.0,
        momentum: float = 0.9,
        begin: int = 0,
    ) -> None:
        super().__init__()
        self.steps, self.rate, self.balance, self.momentum = steps, rate, balance, momentum
        self.begin, self.seen = begin, 0
        batch = min(batch, graphs)
        self.register_buffer("weights", torch.ones(graphs))
        self.register_buffer("clusters", torch.arange(width))
        self.register_buffer("memory", torch.zeros(batch, width))
        self.register_buffer("remembered", torch.ones(batch))

    @torch.no_grad()
    def forward(
        self,
        z: Tensor,
        index: Tensor,
        epoch: int,
        generator: torch.Generator | None = None,
        validation: Callable[[], Callable[[Tensor], Tensor]] | None = None,
    ) -> Tensor:
        """Weights (B,) of a batch, of mean 1 (the code's sum to 1); no validation is looked at."""
        z = z.detach()
        if epoch < self.begin:
            return z.new_ones(len(z))
        rows = phases(torch.cat([z, self.memory]), generator)
        free = self._learned(rows, len(z))
        self._remember(z, free)
        weights = free.softmax(0) * len(z)
        self.weights[index] = weights
        return weights

    def _learned(self, rows: Tensor, batch: int) -> Tensor:
        free = torch.ones(batch, requires_grad=True, device=rows.device)
        optimizer = torch.optim.SGD([free], lr=self.rate, momentum=0.9)
        for step in range(self.steps):
            if step == math.ceil(self.steps / 2):
                optimizer.param_groups[0]["lr"] = self.rate / 10
            with torch.enable_grad():
                weights = torch.cat([free, self.remembered]).softmax(0)
                loss = off_diagonal(rows, weights) / self.balance + free.softmax(0).square().sum()
            (free.grad,) = torch.autograd.grad(loss, free)
            optimizer.step()
        return free.detach()

    def _remember(self, z: Tensor, free: Tensor) -> None:
        """A running mean over the first ten batches, then momentum; a small batch its own rows."""
        rows = min(len(z), len(self.memory))
        share = 1 / (self.seen + 1) if self.seen < 10 else 1 - self.momentum
        self.memory[:rows].lerp_(z[:rows], share)
        self.remembered[:rows].lerp_(free[:rows], share)
        self.seen += 1


def phases(z: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """√2 (cos p + sin p), p = ω z + φ scaled to [0, π/2] over the coordinates of a row: (n, d)."""
    omega = torch.randn(1, generator=generator, device=z.device)
    phase = 2 * math.pi * torch.rand(z.shape[1], generator=generator, device=z.device)
    raw = omega * z + phase
    low = raw.amin(1, keepdim=True)
    angle = (raw - low) / (raw.amax(1, keepdim=True) - low) * math.pi / 2
    return math.sqrt(2) * (angle.cos() + angle.sin())


def off_diagonal(x: Tensor, weights: Tensor) -> Tensor:
    """Sum of squares of Σ w x xᵀ - (Σ w x)(Σ w x)ᵀ off its diagonal."""
    mean = weights @ x
    matrix = (weights[:, None] * x).T @ x - mean[:, None] * mean
    return matrix.square().sum() - matrix.diagonal().square().sum()
