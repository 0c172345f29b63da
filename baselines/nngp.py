"""Gaussian-process limits of infinitely wide networks: dense and convolutional kernels.

Parametrisation: every affine map is ``sqrt(weight_var / fan_in) W h + sqrt(bias_var) b`` with
standard normal ``W`` and ``b``; the readout has unit weight variance and no bias. All kernels are
computed in the inputs' precision, which ought to be float64, and are differentiable in the
variances and the inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Activation = Literal["relu", "erf"]
Variance = float | Tensor
_JITTERS = (0.0, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
_CLOSEST_TO_ONE = 1 - 1e-14  # beyond it the derivative of the angle is lost in rounding


class Limit(NamedTuple):
    """Kernels of the output, shape (A, B).

    With readout weights of variance ``s`` that are trained themselves, the output's covariance at
    the start is ``s * nngp`` and its tangent kernel ``nngp + s * below``.
    """

    nngp: Tensor
    below: Tensor


class NotPositiveDefinite(ValueError):
    """A covariance has no Cholesky factor even with the largest jitter."""


def relu_moments(cross: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """``E[φ(u) φ(v)]`` and ``E[φ'(u) φ'(v)]`` of Gaussian u, v (arc-cosine kernels, Cho and Saul).

    Args:
        cross, left, right: covariance of u and v, variance of u, variance of v.
    """
    norm = torch.sqrt(left * right)
    # A constant input has variance 0 without biases; its angle does not matter then.
    safe = torch.where(norm > 0, norm, torch.ones_like(norm))
    cosine = (cross / safe).clamp(-_CLOSEST_TO_ONE, _CLOSEST_TO_ONE)
    angle = torch.arccos(cosine)
    opening = (math.pi - angle) / (2 * math.pi)
    return norm * (torch.sqrt(1 - cosine**2) / (2 * math.pi) + opening * cosine), opening


def erf_moments(cross: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The same for the error function (Williams)."""
    square = (1 + 2 * left) * (1 + 2 * right)
    ratio = (2 * cross / torch.sqrt(square)).clamp(-_CLOSEST_TO_ONE, _CLOSEST_TO_ONE)
    slope = 4 / math.pi / torch.sqrt(square - 4 * cross**2)
    return 2 / math.pi * torch.arcsin(ratio), slope


_MOMENTS: dict[str, Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "relu": relu_moments,
    "erf": erf_moments,
}


def _second_moment(variance: Tensor, activation: Activation) -> Tensor:
    """``E[φ(u)²]``."""
    if activation == "relu":
        return variance / 2
    return 2 / math.pi * torch.arcsin(2 * variance / (1 + 2 * variance))


def dense(
    x: Tensor,
    z: Tensor,
    depth: int,
    weight_var: Variance = 1.0,
    bias_var: Variance = 0.0,
    activation: Activation = "relu",
) -> Limit:
    """A fully connected network with ``depth`` hidden layers: shapes (A, D), (B, D) to (A, B).

    Raises:
        ValueError: without a hidden layer.
    """
    if depth < 1:
        raise ValueError(f"a network needs a hidden layer, got depth {depth}")
    features = x.shape[1]
    cross = bias_var + weight_var * (x @ z.T) / features
    left = (bias_var + weight_var * (x * x).sum(1) / features)[:, None]
    right = (bias_var + weight_var * (z * z).sum(1) / features)[None]
    tangent = cross
    for _ in range(depth - 1):
        moment, slope = _MOMENTS[activation](cross, left, right)
        cross = bias_var + weight_var * moment
        tangent = cross + weight_var * slope * tangent
        left = bias_var + weight_var * _second_moment(left, activation)
        right = bias_var + weight_var * _second_moment(right, activation)
    moment, slope = _MOMENTS[activation](cross, left, right)
    return Limit(moment, slope * tangent)


def dense_variance(
    x: Tensor,
    depth: int,
    weight_var: Variance = 1.0,
    bias_var: Variance = 0.0,
    activation: Activation = "relu",
) -> Tensor:
    """The diagonal of ``dense(x, x, …).nngp`` alone: (A, D) to (A,)."""
    variance = bias_var + weight_var * (x * x).mean(1)
    for _ in range(depth - 1):
        variance = bias_var + weight_var * _second_moment(variance, activation)
    return _second_moment(variance, activation)


def convolutional(
    x: Tensor,
    z: Tensor,
    depth: int,
    weight_var: Variance = 1.0,
    bias_var: Variance = 0.0,
) -> Tensor:
    """NNGP kernel of ``depth`` 3x3 ReLU convolutions, flattened into a dense readout.

    The padding is of zeros. The readout has a weight for every position, so that positions stay
    independent and only covariances at equal positions are needed: shapes (A, C, H, W),
    (B, C, H, W) to (A, B), in memory A * B * H * W.
    """
    channels = x.shape[1]
    cross = torch.einsum("achw,bchw->abhw", x, z) / channels
    left, right = x.square().mean(1), z.square().mean(1)
    for _ in range(depth):
        cross = bias_var + weight_var * _window_mean(cross)
        left = bias_var + weight_var * _window_mean(left)
        right = bias_var + weight_var * _window_mean(right)
        cross = relu_moments(cross, left[:, None], right[None])[0]
        left, right = left / 2, right / 2
    return cross.mean((2, 3))


def convolutional_variance(
    x: Tensor, depth: int, weight_var: Variance = 1.0, bias_var: Variance = 0.0
) -> Tensor:
    """The diagonal of ``convolutional(x, x, …)`` alone: (A, C, H, W) to (A,)."""
    variance = x.square().mean(1)
    for _ in range(depth):
        variance = (bias_var + weight_var * _window_mean(variance)) / 2
    return variance.mean((1, 2))


def _window_mean(fields: Tensor) -> Tensor:
    """Mean over 3x3 windows of the last two dimensions, zeros outside counted."""
    height, width = fields.shape[-2:]
    flat = fields.reshape(-1, 1, height, width)
    return torch.nn.functional.avg_pool2d(flat, 3, stride=1, padding=1).reshape(fields.shape)


def cholesky(covariance: Tensor) -> Tensor:
    """Lower factor of (a batch of) covariances, with as little jitter on the diagonal as it takes.

    Jitter is relative to the mean variance: none, then from 1e-10 tenfold up to 1e-4.

    Raises:
        NotPositiveDefinite: when that is not enough.
    """
    size = covariance.shape[-1]
    mean = covariance.detach().diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    unit = mean * torch.eye(size, dtype=covariance.dtype, device=covariance.device)
    for jitter in _JITTERS:
        factor: Tensor
        factor, failed = torch.linalg.cholesky_ex(covariance + jitter * unit)
        if not failed.any():
            return factor
    raise NotPositiveDefinite(f"no Cholesky factor of a {size}x{size} covariance")
