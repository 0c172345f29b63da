"""Metrics that torchmetrics does not have."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric


class CrossEntropy(Metric):
    """Mean of -log p (in nats) of the class of every target that counts, over all batches.

    Args:
        ignore_index: targets that do not count.
    """

    higher_is_better = False
    total: Tensor
    count: Tensor

    def __init__(self, ignore_index: int = -100) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, scores: Tensor, y: Tensor) -> None:
        """Logits (batch, classes, …) and classes (batch, …)."""
        ignored = self.ignore_index
        self.total += F.cross_entropy(scores.double(), y, reduction="sum", ignore_index=ignored)
        self.count += (y != ignored).sum()

    def compute(self) -> Tensor:
        return self.total / self.count
