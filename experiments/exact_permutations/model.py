"""Many two-layer ReLU networks with independent weights, trained side by side."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from experiments.exact_permutations.limit import DIAGONAL, B, Parametrization


class NetworkEnsemble(nn.Module):
    """``members`` networks ``f(x) = W2 relu(W1 x)`` from ``R^k`` to ``R^k`` in batched tensors.

    ``ntk``: ``f(x) = W2 relu(W1 x / sqrt k) / sqrt n`` with standard normal entries, the paper's
    theory. ``standard``: the same function at initialisation, but the factors are in the weights
    (entries of variance ``1/k`` and ``1/n``) as in ordinary linear layers, the released code; it
    may also have biases, zero at first.

    Args:
        members: number of networks R.
        length: input and output length k.
        width: hidden units n.
        parametrization: what gradient descent acts on.
        bias: train biases in both layers (``standard`` only).
    """

    def __init__(
        self,
        members: int,
        length: int,
        width: int,
        parametrization: Parametrization = "ntk",
        bias: bool = False,
    ) -> None:
        super().__init__()
        if bias and parametrization == "ntk":
            raise ValueError("the theory's networks have no biases")
        self.length, self.width, self.parametrization = length, width, parametrization
        deviations = 1 / math.sqrt(length), 1 / math.sqrt(width)
        self.scale = 1.0
        if parametrization == "ntk":  # the layers' factors leave relu together
            self.scale, deviations = math.prod(deviations), (1.0, 1.0)
        self.first = nn.Parameter(deviations[0] * torch.randn(members, length, width))
        self.second = nn.Parameter(deviations[1] * torch.randn(members, width, length))
        if bias:
            self.first_bias = nn.Parameter(torch.zeros(members, 1, width))
            self.second_bias = nn.Parameter(torch.zeros(members, 1, length))
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of every member: (A, k) to (R, A, k)."""
        return self._read(torch.matmul(x, self.first))

    def on_basis(self) -> Tensor:
        """Outputs on the k basis vectors, (R, k, k): what they excite is a row of weights each."""
        return self._read(self.first)

    def _read(self, hidden: Tensor) -> Tensor:
        if self.bias:
            hidden = hidden + self.first_bias
        output = torch.bmm(torch.relu(hidden), self.second) * self.scale
        return output + self.second_bias if self.bias else output

    def largest_curvature(self) -> float:
        """Largest eigenvalue of the limit's training kernel.

        This is the curvature of ``1/2 sum_i |f(e_i) - P e_i|^2`` along gradient descent, which is
        stable with steps below 2 over it. Of ordinary layers the output layer's kernel is
        ``width`` times that of the random features, and the rest does not count.
        """
        eigenvalue = (DIAGONAL[self.parametrization] - B + B * self.length) / self.length
        return eigenvalue * (self.width if self.parametrization == "standard" else 1)


class NotConverged(RuntimeError):
    """Gradient descent left a residual on the training vectors."""


class Trained(NamedTuple):
    """The largest distance of an output on a basis vector from its target, and steps taken."""

    residual: float
    steps: int


def train(
    ensemble: NetworkEnsemble,
    targets: Tensor,
    learning_rate: float | None = None,
    max_steps: int = 1000,
    tolerance: float = 1e-5,
) -> Trained:
    """Full-batch gradient descent on the ``k`` basis vectors.

    The loop is its own: a trial makes hundreds of trainings of some 40 short steps each, and all
    of the data is one batch. ``train`` of the harness, which reports and may save after every
    epoch, takes about twice as long for that, and many times as long for narrow networks.

    Args:
        ensemble: trained in place; members do not interact.
        targets: ``P e_i`` in row i, shape (k, k), or (R, k, k) for a permutation per member.
        learning_rate: on the mean squared error, as in the released code; by default 0.9 over
            the largest curvature of the summed loss, with which the limit converges.
        max_steps: most steps taken.
        tolerance: stop when no output on a basis vector is further than this from its target.

    Raises:
        NotConverged: when the residual is above 100 times the tolerance in the end, or NaN.
    """
    if learning_rate is None:
        step = 0.9 / ensemble.largest_curvature()
    else:
        step = 2 * learning_rate / ensemble.length**2
    optimizer = torch.optim.SGD(ensemble.parameters(), lr=step)
    for done in range(max_steps + 1):
        optimizer.zero_grad()
        residual = ensemble.on_basis() - targets
        left = float(residual.detach().abs().max())
        if left <= tolerance or done == max_steps or not math.isfinite(left):
            break
        (residual.square().sum() / 2).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    if not left <= 100 * tolerance:
        raise NotConverged(f"residual {left:.2g} after {done} steps of size {step:.3g}")
    return Trained(left, done)
