"""Graph weights: a momentum memory, and a weight step for every training batch.

The outer problem of Section "Bi-level Training" is solved by gradient steps on the weights of a
batch, between those of the network. What the sources leave open is marked as a choice of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from experiments.l2r_gnn.decorrelation import (
    across,
    correlations,
    covariances,
    dissimilarity,
    fourier,
    stable_clusters,
    standardised,
    weighted_covariances,
)
from experiments.l2r_gnn.graphs import shaped

Covariance = Literal["equation", "weighted"]
Loss = Callable[[Tensor, Tensor], Tensor]


class LookAhead:
    """Validation loss after one step of the classifier on the weighted training loss.

    θ'(w) = θ - η (1/B) Σ_n w_n ∇ℓ_n(θ) for the weights and biases θ of the last linear layer, so
    that ∂L_val/∂w_n = -(η/B) <∇L_val(θ'), ∇ℓ_n(θ)>: the first-order term of the bi-level problem.
    Logits of validation graphs are moved by products of representations; θ' is never formed.

    Args:
        head: the classifier.
        loss: of each example, without reduction.
        rate: η, of the step.
        train, validation: representations (B, d) and targets.
    """

    def __init__(
        self,
        head: nn.Linear,
        loss: Loss,
        rate: float,
        train: tuple[Tensor, Tensor],
        validation: tuple[Tensor, Tensor],
    ) -> None:
        (z, y), (held_out, self.targets) = train, validation
        self.loss = loss
        with torch.enable_grad():
            output = head(z.detach()).detach().requires_grad_()
            (self.slopes,) = torch.autograd.grad(loss(shaped(output), y).sum(), output)
        with torch.no_grad():
            self.output = head(held_out)
            self.moves = rate / len(z) * (held_out @ z.T + 1)  # 1: the bias

    def __call__(self, weights: Tensor) -> Tensor:
        """L_val(θ'(w)) of weights (B,)."""
        moved = self.output - self.moves @ (weights[:, None] * self.slopes)
        return self.loss(shaped(moved), self.targets).mean()


class GraphWeights(nn.Module):
    """Weights w_n of all training graphs, learned batch by batch: w >= 0, of mean 1 in a batch.

    One step minimises, from the weights that the batch's graphs had last,
    ``L_dec(w) / L_dec(1) + bilevel · L_val(θ'(w)) / L_val(θ'(1)) + penalty · mean (w - 1)²``
    (the two quotients and the penalty are choices of ours; the released code has a penalty, too).

    Args:
        graphs: N, of the training split.
        width: d, coordinates of a representation.
        batch: B, graphs in a batch.
        clusters: K, groups of coordinates that may stay dependent; 0 decorrelates all pairs.
        grouping: ``stable`` clusters, or as large ones of coordinates drawn at ``random``.
        functions: n_f, random Fourier functions on each side; 0 stands for the coordinates
            themselves (linear decorrelation).
        covariance: that of the paper's ``equation``, or the covariance of the ``weighted`` sample.
        momenta: γ_r of each of the k groups in the memory.
        decorrelation: whether L_dec counts.
        bilevel: how much L_val counts.
        penalty: on the spread of the weights.
        steps: gradient steps (Adam, on log-weights) for every batch.
        rate: of these.
        begin: epochs before weights are learned; the first one finds the first clusters.
        refresh: epochs between clusterings; correlations in the batches of one epoch count.
    """

    weights: Tensor
    clusters: Tensor
    memory: Tensor
    remembered: Tensor
    moments: Tensor

    def __init__(
        self,
        graphs: int,
        width: int,
        batch: int,
        clusters: int = 4,
        grouping: Literal["stable", "random"] = "stable",
        functions: int = 5,
        covariance: Covariance = "equation",
        momenta: tuple[float, ...] = (0.9,),
        decorrelation: bool = True,
        bilevel: float = 1.0,
        penalty: float = 0.1,
        steps: int = 5,
        rate: float = 0.1,
        begin: int = 1,
        refresh: int = 5,
    ) -> None:
        super().__init__()
        self.count, self.grouping, self.functions = clusters, grouping, functions
        self.covariance = covariance
        self.momenta, self.decorrelation, self.bilevel = tuple(momenta), decorrelation, bilevel
        self.penalty, self.steps, self.rate = penalty, steps, rate
        self.begin, self.refresh = begin, refresh
        self.epoch, self.filled, self.environments = -1, 0, 0
        batch, groups = min(batch, graphs), len(self.momenta)
        self.register_buffer("weights", torch.ones(graphs))
        self.register_buffer("clusters", torch.arange(width) * (clusters == 0))
        self.register_buffer("memory", torch.zeros(groups, batch, width))
        self.register_buffer("remembered", torch.ones(groups, batch))
        self.register_buffer("moments", torch.zeros(2, width, width))

    @torch.no_grad()
    def forward(
        self,
        z: Tensor,
        index: Tensor,
        epoch: int,
        generator: torch.Generator | None = None,
        validation: Callable[[], Callable[[Tensor], Tensor]] | None = None,
    ) -> Tensor:
        """Learn and return the weights (B,) of a batch.

        Args:
            z: its representations (B, d).
            index: the places of its graphs in the training split.
            epoch: of training, counted from 0.
            generator: of the Fourier functions.
            validation: makes L_val(θ'(w)), if it is wanted; without, the problem has one level.
        """
        z = z.detach()
        self._follow(z, epoch, generator)
        if epoch < self.begin:
            return z.new_ones(len(z))
        held_out = validation() if validation is not None and self.bilevel else None
        objective = self._objective(z, generator, held_out)
        weights = self._minimised(objective, self.weights[index])
        self.weights[index] = weights
        self._remember(z, weights)
        return weights

    def _minimised(self, objective: Callable[[Tensor], Tensor], weights: Tensor) -> Tensor:
        logarithms = weights.clamp(min=1e-6).log().requires_grad_()
        optimizer = torch.optim.Adam([logarithms], lr=self.rate)
        for _ in range(self.steps):
            with torch.enable_grad():
                value = objective(normalised(logarithms))
            (logarithms.grad,) = torch.autograd.grad(value, logarithms)
            optimizer.step()
        return normalised(logarithms.detach())

    def _objective(
        self,
        z: Tensor,
        generator: torch.Generator | None,
        validation: Callable[[Tensor], Tensor] | None,
    ) -> Callable[[Tensor], Tensor]:
        equal = z.new_ones(len(z))
        terms: list[tuple[float, Callable[[Tensor], Tensor]]] = []
        if self.decorrelation:
            terms.append((1.0, self._dependence(z, generator)))
        if validation is not None:
            terms.append((self.bilevel, validation))
        scaled = [(f / float(term(equal).clamp(min=1e-12)), term) for f, term in terms]

        def objective(weights: Tensor) -> Tensor:
            spread = self.penalty * (weights - 1).square().mean()
            return spread + sum(factor * term(weights) for factor, term in scaled)

        return objective

    def _dependence(
        self, z: Tensor, generator: torch.Generator | None
    ) -> Callable[[Tensor], Tensor]:
        """L_dec of a batch's weights, over its graphs and those in the memory."""
        rows = standardised(torch.cat([z, self.memory[: self.filled].flatten(0, 1)]))
        past = self.remembered[: self.filled].flatten()
        u, v = self._features(rows, generator), self._features(rows, generator)
        pairs = across(self.clusters)
        measure = covariances if self.covariance == "equation" else weighted_covariances

        def dependence(weights: Tensor) -> Tensor:
            return (pairs * measure(u, v, torch.cat([weights, past]))).sum()

        return dependence

    def _features(self, rows: Tensor, generator: torch.Generator | None) -> Tensor:
        return fourier(rows, self.functions, generator) if self.functions else rows[:, :, None]

    def _remember(self, z: Tensor, weights: Tensor) -> None:
        """Z^(r) ← γ_r Z^(r) + (1 - γ_r) Z, and so the weights; the first batches fill the groups.

        A batch smaller than the others changes as many rows as it has.
        """
        rows = len(z)
        if self.filled < len(self.momenta):
            if rows == self.memory.shape[1]:
                self.memory[self.filled], self.remembered[self.filled] = z, weights
                self.filled += 1
            return
        momenta = z.new_tensor(self.momenta)[:, None]
        self.memory[:, :rows].lerp_(z.expand(len(momenta), -1, -1), 1 - momenta[:, :, None])
        self.remembered[:, :rows].lerp_(weights.expand(len(momenta), -1), 1 - momenta)

    def _follow(self, z: Tensor, epoch: int, generator: torch.Generator | None) -> None:
        """Gather correlations of every batch, and cluster by those of the epoch that has ended."""
        if epoch != self.epoch:
            due = (epoch - 1) % self.refresh == 0
            if self.count and self.environments > 1 and due:
                self._cluster(generator)
            self.moments.zero_()
            self.epoch, self.environments = epoch, 0
        found = correlations(z)
        self.moments += torch.stack([found, found.square()])
        self.environments += 1

    def _cluster(self, generator: torch.Generator | None) -> None:
        mean, square = self.moments / self.environments
        found = stable_clusters(dissimilarity(mean, square), self.count)
        if self.grouping == "random":
            order = torch.randperm(len(found), generator=generator, device=found.device)
            found = found[order]
        self.clusters.copy_(found)


def normalised(logarithms: Tensor) -> Tensor:
    """Weights of mean 1 from their logarithms, known up to a constant."""
    return logarithms.softmax(0) * len(logarithms)
