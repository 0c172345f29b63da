"""The distillation losses of FF-G2M and of GLNN, and how much of each frequency is kept.

Notation: teacher logits ``t`` and student logits ``s`` (N, C); an undirected graph given by
``pairs`` (2, E), each edge once and no loops. The paper's sums run over both directions of an
edge. Every term is symmetric in them or is summed over both here, so the values are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.ff_g2m.data import UNLABELLED

Loss = Callable[[Tensor], Tensor]


class StudentLoss(nn.Module):
    """``λ L_labels + (1 - λ) Σ L_term``; without terms ``L_labels`` alone.

    Args:
        terms: what is distilled, each of logits (N, C).
        supervision: λ, the weight of the labelled nodes.
    """

    def __init__(self, terms: Sequence[Loss], supervision: float) -> None:
        super().__init__()
        self.terms, self.supervision = terms, supervision

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Of logits (N, C) and the labels (N,) of a graph's nodes, most of them unlabelled."""
        supervised = F.cross_entropy(logits, labels, ignore_index=UNLABELLED)
        if not self.terms:
            return supervised
        distilled = torch.stack([term(logits) for term in self.terms]).sum()
        return self.supervision * supervised + (1 - self.supervision) * distilled


class NodeLoss:
    """GLNN: mean over nodes of ``KL(softmax(t_i) || softmax(s_i))``."""

    def __init__(self, teacher: Tensor) -> None:
        self.target = teacher.log_softmax(1)

    def __call__(self, student: Tensor) -> Tensor:
        return F.kl_div(student.log_softmax(1), self.target, reduction="batchmean", log_target=True)


class LowFrequencyLoss:
    """Low-frequency distillation: a node's student imitates its neighbours' teacher.

    Mean of ``KL(softmax(t_j) || softmax(s_i))`` over both directions of each edge and a loop at
    each node. The teacher's part does not change during training, so that it is summed over the
    neighbours once: the loss of an epoch costs O(N C), not O(E C).
    """

    def __init__(self, teacher: Tensor, pairs: Tensor) -> None:
        i, j = pairs
        log_p = teacher.log_softmax(1)
        p = log_p.exp()
        self.targets = p.clone().index_add_(0, i, p[j]).index_add_(0, j, p[i])
        self.edges = 2 * pairs.shape[1] + len(teacher)
        ends = torch.bincount(pairs.flatten(), minlength=len(teacher)) + 1
        self.negative_entropy = (ends * (p * log_p).sum(1)).sum()

    def __call__(self, student: Tensor) -> Tensor:
        cross = (self.targets * student.log_softmax(1)).sum()
        return (self.negative_entropy - cross) / self.edges


class HighFrequencyLoss:
    """High-frequency distillation: the student's differences across edges follow the teacher's.

    Mean over edges of ``KL(softmax(|t_i - t_j| / tau) || softmax(|s_i - s_j| / tau))``, with the
    modulus taken class by class.

    Raises:
        ValueError: for a graph without edges, or a temperature that is not positive.
    """

    def __init__(self, teacher: Tensor, pairs: Tensor, temperature: float) -> None:
        if pairs.shape[1] == 0:
            raise ValueError("a graph without edges has no high-frequency knowledge")
        if temperature <= 0:
            raise ValueError(f"the temperature must be positive, not {temperature}")
        self.pairs, self.temperature = pairs, temperature
        self.target = self._log_distribution(teacher)

    def __call__(self, student: Tensor) -> Tensor:
        found = self._log_distribution(student)
        return F.kl_div(found, self.target, reduction="batchmean", log_target=True)

    def _log_distribution(self, logits: Tensor) -> Tensor:
        i, j = self.pairs
        # index_select: its gradient is a plain addition by index, indexing's sorts first
        difference = logits.index_select(0, i) - logits.index_select(0, j)
        return (difference.abs() / self.temperature).log_softmax(1)


def low_frequency(logits: Tensor, pairs: Tensor) -> Tensor:
    """Mean cosine between a node's logits and the mean of its neighbours' logits.

    1 for a signal that is constant over the graph: the low-frequency content that message
    passing gives to a network's output. Isolated nodes are left out.
    """
    i, j = pairs
    neighbours = torch.zeros_like(logits).index_add_(0, i, logits[j]).index_add_(0, j, logits[i])
    connected = torch.bincount(pairs.flatten(), minlength=len(logits)) > 0
    return F.cosine_similarity(logits[connected], neighbours[connected], dim=1).mean()


def pairwise_difference(student: Tensor, teacher: Tensor, pairs: Tensor) -> Tensor:
    """Mean of ``| |t_i - t_j| - |s_i - s_j| |`` by the mean of ``|t_i - t_j|`` over edges.

    Distances are Euclidean. 0 when the student keeps all of them, 1 when all its neighbours are
    equal.
    """
    i, j = pairs
    expected = (teacher[i] - teacher[j]).norm(dim=1)
    found = (student[i] - student[j]).norm(dim=1)
    error: Tensor = (expected - found).abs().mean() / expected.mean()
    return error
