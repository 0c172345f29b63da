"""Gaussian-process limits of infinitely wide networks: kernels, and dual activations.

Parametrisation: every affine map is ``sqrt(weight_var / fan_in) W h + sqrt(bias_var) b`` with
standard normal ``W`` and ``b``; the readout has unit weight variance and no bias. All kernels are
computed in the inputs' precision, which ought to be float64, and are differentiable in the
variances and the inputs.

On the unit sphere one layer without biases, of an activation φ with ``E[φ(u)²] = 1``, u standard
normal, takes a correlation ξ to ``A(ξ) = E[φ(u) φ(v)]``, the dual activation (Daniely et al. 2016);
``A'`` is the same of φ'. Composing A is what depth does, so a :class:`Dual` resolves both ends:
``1 - ξ`` of neighbours, which grows by ``A'(1)`` a layer, and ``log ξ`` of the nearly orthogonal.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
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


class Correlation(NamedTuple):
    """Correlations ξ in [0, 1], of any shape: ``log`` is log ξ, ``gap`` is 1 - ξ."""

    log: Tensor
    gap: Tensor

    @classmethod
    def of_gap(cls, gap: Tensor) -> Correlation:
        """Unit vectors at a distance r have the gap r²/2."""
        return cls(torch.log1p(-gap), gap)


class Dual(ABC):
    """A dual activation A; calling it maps a correlation to that of the next layer.

    Attributes:
        at_zero: A(0), the squared mean of φ.
        slope_at_zero: A'(0), the square of ``E[u φ(u)]``.
        slope_at_one: A'(1) = ``E[φ'(u)²]``.
    """

    at_zero: float = 0.0
    slope_at_zero: float
    slope_at_one: float

    @abstractmethod
    def activation(self, u: Tensor) -> Tensor:
        """φ, elementwise."""

    @abstractmethod
    def gap(self, at: Correlation) -> Tensor:
        """1 - A(ξ), to full relative precision for ξ near 1."""

    @abstractmethod
    def log_value(self, at: Correlation) -> Tensor:
        """log A(ξ), to full precision for ξ near 0."""

    @abstractmethod
    def log_slope(self, at: Correlation) -> Tensor:
        """log A'(ξ)."""

    def __call__(self, at: Correlation) -> Correlation:
        gap, log = self.gap(at), self.log_value(at)
        near = gap < 0.5
        return Correlation(
            torch.where(near, torch.log1p(-gap), log), torch.where(near, gap, -torch.expm1(log))
        )


class Hermite(Dual):
    """φ = sum of c_k h_k over normalised Hermite polynomials, A(ξ) = sum of c_k² ξ^k.

    Args:
        squares: c_k² by degree k (c_k is the positive root); they add up to 1.

    Raises:
        ValueError: for other squares.
    """

    def __init__(self, squares: Mapping[int, float]) -> None:
        self.squares = {k: square for k, square in sorted(squares.items()) if square}
        if min(self.squares.values()) < 0 or abs(sum(self.squares.values()) - 1) > 1e-12:
            raise ValueError(f"squared coefficients must be positive and add up to 1: {squares}")
        self.at_zero = self.squares.get(0, 0.0)
        self.slope_at_zero = self.squares.get(1, 0.0)
        self.slope_at_one = sum(k * square for k, square in self.squares.items())

    def activation(self, u: Tensor) -> Tensor:
        before, here, total = torch.zeros_like(u), torch.ones_like(u), torch.zeros_like(u)
        for k in range(max(self.squares) + 1):
            total = total + math.sqrt(self.squares.get(k, 0.0)) * here
            before, here = here, (u * here - math.sqrt(k) * before) / math.sqrt(k + 1)
        return total

    def gap(self, at: Correlation) -> Tensor:
        terms = [square * torch.expm1(k * at.log) for k, square in self.squares.items() if k]
        return -torch.stack(terms).sum(0)

    def log_value(self, at: Correlation) -> Tensor:
        return _log_polynomial(self.squares, at.log)

    def log_slope(self, at: Correlation) -> Tensor:
        return _log_polynomial({k - 1: k * s for k, s in self.squares.items() if k}, at.log)


def _log_polynomial(coefficients: Mapping[int, float], log: Tensor) -> Tensor:
    """log of sum a_k ξ^k with positive a_k; the lowest power, which may vanish, is taken out."""
    lowest, xi = min(coefficients), torch.exp(log)
    rest = torch.stack([a * xi ** (k - lowest) for k, a in coefficients.items()]).sum(0)
    return torch.log(rest) + (lowest * log if lowest else 0.0)


class Sine(Dual):
    """φ(u) = sin(√s u) / sqrt(e^-s sinh s), A(ξ) = sinh(s ξ) / sinh s."""

    def __init__(self, s: float) -> None:
        self.s = s
        self.slope_at_zero = s / math.sinh(s)
        self.slope_at_one = s / math.tanh(s)

    def activation(self, u: Tensor) -> Tensor:
        return torch.sin(math.sqrt(self.s) * u) / math.sqrt(math.exp(-self.s) * math.sinh(self.s))

    def gap(self, at: Correlation) -> Tensor:
        half = self.s * at.gap / 2
        return 2 * torch.cosh(self.s - half) * torch.sinh(half) / math.sinh(self.s)

    def log_value(self, at: Correlation) -> Tensor:
        argument = self.s * torch.exp(at.log)
        over = torch.where(argument > 0, torch.sinh(argument) / argument, torch.ones_like(argument))
        return at.log + torch.log(over) + math.log(self.slope_at_zero)

    def log_slope(self, at: Correlation) -> Tensor:
        return torch.log(torch.cosh(self.s * torch.exp(at.log))) + math.log(self.slope_at_zero)


class Erf(Dual):
    """φ(u) = erf(u) up to a factor, A(ξ) = arcsin(2ξ/3) / arcsin(2/3) (Williams)."""

    _A = 2 / 3
    slope_at_zero = _A / math.asin(_A)
    slope_at_one = _A / math.sqrt(1 - _A**2) / math.asin(_A)

    def activation(self, u: Tensor) -> Tensor:
        return torch.erf(u) / math.sqrt(2 / math.pi * math.asin(self._A))

    def gap(self, at: Correlation) -> Tensor:
        # The difference of two arcsines, without that of two nearly equal numbers.
        a, b = self._A, self._A * (1 - at.gap)
        sines = a * torch.sqrt(1 - b * b) + b * math.sqrt(1 - a * a)
        return torch.arcsin(a * at.gap * (a + b) / sines) / math.asin(a)

    def log_value(self, at: Correlation) -> Tensor:
        argument = self._A * torch.exp(at.log)
        ratio = torch.arcsin(argument) / argument
        over = torch.where(argument > 0, ratio, torch.ones_like(ratio))
        return at.log + torch.log(over) + math.log(self.slope_at_zero)

    def log_slope(self, at: Correlation) -> Tensor:
        square = (self._A * torch.exp(at.log)) ** 2
        return math.log(self.slope_at_zero) - torch.log1p(-square) / 2


class Relu(Dual):
    """φ(u) = √2 max(0, u), A(cos θ) = (sin θ + (π - θ) cos θ) / π (Cho and Saul)."""

    at_zero = 1 / math.pi
    slope_at_zero = 0.5
    slope_at_one = 1.0

    def activation(self, u: Tensor) -> Tensor:
        return math.sqrt(2) * torch.relu(u)

    def gap(self, at: Correlation) -> Tensor:
        angle = _angle(at.gap)
        square = angle * angle
        # sin θ - θ cos θ, of which differences leave nothing at small angles
        series = angle * square * (1 - square * (1 - square * (1 - square / 54) / 28) / 10) / 3
        difference = torch.sin(angle) - angle * torch.cos(angle)
        return at.gap - torch.where(angle < 0.1, series, difference) / math.pi

    def log_value(self, at: Correlation) -> Tensor:
        return torch.log1p(-self.gap(at))

    def __call__(self, at: Correlation) -> Correlation:
        return Correlation.of_gap(self.gap(at))  # A(ξ) >= 1/π: the gap alone resolves it

    def log_slope(self, at: Correlation) -> Tensor:
        return torch.log1p(-_angle(at.gap) / math.pi)


def _angle(gap: Tensor) -> Tensor:
    return 2 * torch.arcsin(torch.sqrt(gap / 2))
