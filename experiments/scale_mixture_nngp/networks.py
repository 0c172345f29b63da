"""Many finite ReLU networks at once, freshly drawn or trained by gradient descent.

All have weights and biases of variance 1 and 0 in the parametrisation of :mod:`baselines.nngp`,
inputs on the sphere of radius ``sqrt(D)``, and readout weights of variance ``s`` that is drawn for
each network: ``f = φ(x)^T v / sqrt(width)``, ``v ~ N(0, s I)``.

The loops are their own: every network has its step size, and a training is over in a fraction of
a second, at a millisecond a step. ``train`` of the harness takes four times as long for that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from baselines.nngp import cholesky
from experiments.scale_mixture_nngp.priors import Array
from harness.procedures.base import Diverged


@dataclass(frozen=True)
class Problem:
    """Inputs on the sphere: ``x`` (n, D) with targets ``y`` (n,), and ``z`` (m, D) without."""

    x: Array
    y: Array
    z: Array

    @property
    def everything(self) -> Array:
        """``x`` above ``z``."""
        return np.concatenate([self.x, self.z])


def sphere(generator: np.random.Generator, points: int, features: int) -> Array:
    """Random points of squared norm ``features``, which all have unit variance in a network."""
    x = generator.standard_normal((points, features))
    return np.asarray(x * np.sqrt(features) / np.linalg.norm(x, axis=1, keepdims=True))


def draw_scales(
    generator: np.random.Generator, networks: int, a: float, b: float, constant: bool
) -> Array:
    """Readout variances: from IG(a, b), or all ``b / a``, the scale of the t law (a control)."""
    if constant:
        return np.full(networks, b / a)
    return np.asarray(b / generator.standard_gamma(a, networks))


def features(
    x: Tensor, networks: int, depth: int, width: int, generator: torch.Generator
) -> Tensor:
    """Last hidden layers of freshly drawn networks: (P, D) to (networks, width, P).

    Given a layer, the units of the next one are independent Gaussians whose covariance is the
    layer's Gram matrix. They are drawn from it, which is exact at any width and needs no weights.
    """
    gram = (x @ x.T / x.shape[1]).expand(networks, -1, -1)
    hidden = torch.empty(0)
    for _ in range(depth):
        normal = _normal((networks, width, len(x)), x, generator)
        hidden = torch.relu(normal @ cholesky(gram).mT)
        gram = hidden.mT @ hidden / width
    return hidden


def outputs(hidden: Tensor, scales: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Outputs (networks, P) of a fresh readout, and its weights (networks, width)."""
    readout = scales.sqrt()[:, None] * _normal(hidden.shape[:2], hidden, generator)
    return read(hidden, readout), readout


def read(hidden: Tensor, readout: Tensor) -> Tensor:
    """``φ^T v / sqrt(width)``: (networks, width, P), (networks, width) to (networks, P)."""
    found: Tensor = torch.einsum("kwp,kw->kp", hidden, readout) / math.sqrt(hidden.shape[1])
    return found


def train_readout(
    hidden: Tensor, readout: Tensor, y: Tensor, tolerance: float, max_steps: int
) -> Tensor:
    """Full-batch gradient descent on the squared error, readout weights only.

    Args:
        hidden: (networks, width, P); the first len(y) inputs are the training set.

    Returns:
        The trained readout, which fits every target to ``tolerance``.

    Raises:
        Diverged: when it does not after ``max_steps``.
    """
    examples = hidden[:, :, : len(y)]
    gram = examples.mT @ examples / hidden.shape[1]
    rate = 1 / torch.linalg.eigvalsh(gram)[:, -1:]
    for _ in range(max_steps):
        residual = read(examples, readout) - y
        if residual.abs().max() < tolerance:
            return readout
        gradient = torch.einsum("kwp,kp->kw", examples, residual) / hidden.shape[1] ** 0.5
        readout = readout - rate * gradient
    raise Diverged(f"targets are missed by {float(residual.abs().max()):.2g}")


def train_all(
    x: Tensor,
    y: Tensor,
    scales: Tensor,
    width: int,
    curvature: Tensor,
    tolerance: float,
    max_steps: int,
    generator: torch.Generator,
) -> Tensor:
    """Train both layers of one-hidden-layer networks and return the outputs on all inputs.

    Args:
        x: (P, D); the first len(y) inputs are the training set.
        scales: (networks,).
        curvature: largest eigenvalue of each network's limiting tangent kernel, (networks,); the
            step size is 0.9 over it.

    Raises:
        Diverged: when a target is missed by more than ``tolerance`` after ``max_steps``.
    """
    networks, inputs = len(scales), x.shape[1]
    weights = _normal((networks, width, inputs), x, generator)
    readout = scales.sqrt()[:, None] * _normal((networks, width), x, generator)
    examples, root = x[: len(y)] / inputs**0.5, width**0.5
    rate = (0.9 / curvature)[:, None]
    for _ in range(max_steps):
        hidden = torch.relu(weights @ examples.T)
        residual = read(hidden, readout) - y
        if residual.abs().max() < tolerance:
            break
        towards = torch.einsum("kwp,kp->kw", hidden, residual) / root
        back = (hidden > 0) * residual[:, None] * readout[:, :, None] / root
        weights = weights - rate[:, :, None] * (back @ examples)
        readout = readout - rate * towards
    else:
        raise Diverged(f"targets are missed by {float(residual.abs().max()):.2g}")
    return read(torch.relu(weights @ x.T / inputs**0.5), readout)


def _normal(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
