"""Classifiers of two classes, -1 and +1: the kernel machine, and the rules that it tends to.

Inputs are unit vectors; all that is known of them is the gap 1 - x·x' of training inputs to each
other, (n, n), or to test inputs, (n, m). Predictions have shape (m,); 0 counts as +1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.nngp import cholesky


def gaps(x: Tensor, z: Tensor) -> Tensor:
    """1 - x·z = |x - z|²/2 of unit vectors, (n, D) and (m, D) to (n, m).

    From differences of coordinates: from the product, angles below 1e-8 would be lost.
    """
    return torch.cdist(x, z, compute_mode="donot_use_mm_for_euclid_dist").square_().div_(2)


def closest(between: Tensor) -> float:
    """The smallest gap between two different training inputs."""
    others = between.clone()
    others.fill_diagonal_(2.0)
    return float(others.min())


def sign(scores: Tensor) -> Tensor:
    return torch.where(scores < 0, -1.0, 1.0).to(scores.dtype)


def coefficients(log_train: Tensor, y: Tensor) -> Tensor:
    """K^-1 y, the weights of a network trained to the end on the squared error, (n,).

    Args:
        log_train: logarithms of the training inputs' kernel (n, n); its diagonal is taken as 0. A
            shallow kernel that is singular in float64 gets the least jitter that it needs.
        y: labels, or a target of regression, (n,).
    """
    gram = torch.exp(log_train)
    gram.fill_diagonal_(1.0)
    return torch.cholesky_solve(y[:, None], cholesky(gram))[:, 0]


def kernel_machine(log_train: Tensor, log_test: Tensor, y: Tensor) -> Tensor:
    """sign(y^T K^-1 k(x)), with log k(x) (n, m), each column up to a constant of its own."""
    return nadaraya_watson(log_test, coefficients(log_train, y))


def nadaraya_watson(log_weights: Tensor, y: Tensor) -> Tensor:
    """sign(sum_i y_i w_i(x)) with weights (n, m) given by their logarithms."""
    return sign(y @ torch.exp(log_weights - log_weights.max(0).values))


def hilbert(apart: Tensor, y: Tensor, dimension: int) -> Tensor:
    """The Hilbert estimate of Devroye, Györfi and Krzyżak: weights |x - x_i|^-d."""
    return nadaraya_watson(-dimension / 2 * torch.log(apart), y)


def nearest(apart: Tensor, y: Tensor) -> Tensor:
    """The label of the nearest training input."""
    return y[apart.argmin(0)]


def majority(y: Tensor, points: int) -> Tensor:
    """The label that most training inputs have, -1 if neither has more."""
    label = 1.0 if y.sum() > 0 else -1.0
    return torch.full((points,), label, dtype=y.dtype)
