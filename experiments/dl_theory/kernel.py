"""The theory at infinite width and to first order in 1/n: averages, recursions, critical points.

``K`` is the variance of one pre-activation. All averages ``<f>_K`` are over z ~ N(0, K).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from scipy.optimize import brentq
from torch import Tensor

from experiments.dl_theory.activations import Activation, Pointwise

_EXTENT, _NODES = 12.0, 1201


@lru_cache(maxsize=1)
def _nodes() -> tuple[Tensor, Tensor]:
    """Trapezoid nodes and weights for N(0, 1): spectrally accurate for smooth integrands."""
    x = torch.linspace(-_EXTENT, _EXTENT, _NODES, dtype=torch.float64)
    weights = torch.exp(-x * x / 2)
    return x, weights / weights.sum()


def average(f: Pointwise, kernel: float) -> float:
    """``<f(z)>_K``."""
    x, weights = _nodes()
    return float((f(math.sqrt(kernel) * x) * weights).sum())


@dataclass(frozen=True)
class Averages:
    """What an activation comes to at one K.

    Attributes:
        square: ``<σ²>``.
        fourth: ``<σ⁴>``.
        slope: ``d<σ²>/dK = <σ'² + σσ''>`` (without C_W, the parallel susceptibility).
        gain: ``<σ'²>`` (without C_W, the perpendicular susceptibility).
    """

    square: float
    fourth: float
    slope: float
    gain: float


def averages(activation: Activation, kernel: float) -> Averages:
    """The four averages, in closed form for scale-invariant activations."""
    if activation.slopes is not None:
        a2, a4 = activation.moment(2), activation.moment(4)
        return Averages(a2 * kernel, 3 * a4 * kernel**2, a2, a2)
    square = average(lambda z: activation.value(z) ** 2, kernel)
    gain = average(lambda z: activation.first(z) ** 2, kernel)
    return Averages(
        square=square,
        fourth=average(lambda z: activation.value(z) ** 4, kernel),
        slope=gain + average(lambda z: activation.value(z) * activation.second(z), kernel),
        gain=gain,
    )


@dataclass(frozen=True)
class Layer:
    """One layer ``z' = b + W σ(z) + γ z`` at initialisation (2.19; γ = 0 without skips).

    Attributes:
        activation: σ.
        bias_variance: C_b, the variance of a bias.
        weight_variance: C_W; a weight has variance C_W / n.
        skip: γ.
    """

    activation: Activation
    bias_variance: float
    weight_variance: float
    skip: float = 0.0


@dataclass(frozen=True)
class Flow:
    """Recursions over layers l = 1 … L, lists of length L.

    Attributes:
        kernel: K (5.4).
        vertex: V; the connected ``E[z_i² z_j²]`` of i != j is V / n to first order.
        tangent: mean diagonal of the neural tangent kernel, λ_b = 0 and λ_W = 1.
        parallel: product of the parallel susceptibilities up to the layer.
        perpendicular: likewise of the perpendicular ones.
    """

    kernel: list[float]
    vertex: list[float]
    tangent: list[float]
    parallel: list[float]
    perpendicular: list[float]


def flow(layer: Layer, first_kernel: float, depth: int) -> Flow:
    """Iterate all recursions, with V = 0 in the first layer, which is Gaussian (4.9-4.10).

    With a skip, ``z'_i = sqrt(S) g_i + γ z_i`` where ``S = C_b + C_W mean σ²``, and the covariance
    of ``z'_i²`` and ``z'_j²`` gives ``V' = (χ + γ²)² V + C_W² (<σ⁴> - <σ²>²) + 4 γ² χ K²``. Odd
    correlators of z, which a skip lets activations without parity build up, are left out.
    """
    weight, gamma2 = layer.weight_variance, layer.skip**2
    kernel, vertex, tangent = first_kernel, 0.0, (first_kernel - layer.bias_variance) / weight
    parallel = perpendicular = 1.0
    rows = []
    for _ in range(depth):
        rows.append((kernel, vertex, tangent, parallel, perpendicular))
        at = averages(layer.activation, kernel)
        chi_parallel, chi_perpendicular = weight * at.slope, weight * at.gain
        source = weight**2 * (at.fourth - at.square**2) + 4 * gamma2 * chi_parallel * kernel**2
        vertex = (chi_parallel + gamma2) ** 2 * vertex + source
        tangent = at.square + chi_perpendicular * tangent
        kernel = layer.bias_variance + weight * at.square + gamma2 * kernel
        parallel *= chi_parallel + gamma2
        perpendicular *= chi_perpendicular + gamma2
    columns = [list(column) for column in zip(*rows, strict=True)]
    return Flow(*columns)


@dataclass(frozen=True)
class Critical:
    """Initialisation at which both susceptibilities are 1 at a fixed point K* (§5.1)."""

    bias_variance: float
    weight_variance: float
    kernel: float


def critical_points(
    activation: Activation, smallest: float = 1e-3, largest: float = 200.0, steps: int = 400
) -> list[Critical]:
    """All critical initialisations with K* = 0 or between ``smallest`` and ``largest``.

    Equal susceptibilities need ``<σ σ''>_K = 0``; then ``C_W = 1/<σ'²>`` and ``C_b = K - C_W <σ²>``
    (§5.1), which must not be negative. A scale-invariant activation is critical at every K.
    """
    if activation.slopes is not None:
        return [Critical(0.0, 1 / activation.moment(2), 1.0)]
    found = []
    zero = torch.zeros(1, dtype=torch.float64)
    if float(activation.value(zero)) == 0 and float(activation.first(zero)) != 0:
        curvature = float(activation.second(zero))
        if curvature == 0:
            found.append(Critical(0.0, float(activation.first(zero)) ** -2, 0.0))
    difference: Callable[[float], float] = lambda kernel: average(  # noqa: E731
        lambda z: activation.value(z) * activation.second(z), kernel
    )
    grid = torch.logspace(math.log10(smallest), math.log10(largest), steps).tolist()
    values = [difference(kernel) for kernel in grid]
    for low, high, a, b in zip(grid[:-1], grid[1:], values[:-1], values[1:], strict=True):
        if a * b < 0:
            kernel = brentq(difference, low, high, xtol=1e-13, rtol=1e-13)
            at = averages(activation, kernel)
            weight = 1 / at.gain
            if kernel - weight * at.square >= 0:
                found.append(Critical(kernel - weight * at.square, weight, kernel))
    return found


def critical_layer(activation: Activation, skip: float = 0.0) -> Layer:
    """The critical initialisation; with a skip γ the weights' part of K is 1 - γ² (App. B).

    Raises:
        ValueError: without a critical point, or with a skip unless C_b = 0 and K may be 0.
    """
    points = critical_points(activation)
    if not points:
        raise ValueError("this activation has no critical initialisation")
    point = points[0]
    if skip and point.bias_variance:
        raise ValueError("skips are critical at (1 - γ²) C_W only where C_b = 0")
    return Layer(activation, point.bias_variance, point.weight_variance * (1 - skip**2), skip)


def vertex_rate(activation: Activation, skip: float = 0.0) -> float:
    """ν: growth of ``V / K²`` per layer at criticality (§5.4.1; with skips App. B).

    ``(1 - γ²) [(1 - γ²)(3 A_4/A_2² - 1) + 4 γ²]`` for scale-invariant activations and
    ``2/3 (1 - γ⁴)`` for K* = 0 (§5.4.2).
    """
    rest = 1 - skip**2
    if activation.slopes is None:
        return 2 / 3 * (1 - skip**4)
    ratio = 3 * activation.moment(4) / activation.moment(2) ** 2
    return rest * (rest * (ratio - 1) + 4 * skip**2)


def relu_cosine(cosine: float) -> float:
    """Cosine between two inputs one critical ReLU layer later (§5.5)."""
    angle = math.acos(min(1.0, max(-1.0, cosine)))
    return (math.sin(angle) + (math.pi - angle) * cosine) / math.pi


def linear_correlator(order: int, width: int, layer: int) -> float:
    """``G_2m / G_2^m = c_2m(n)^{l-1}`` of a deep linear network (3.46, 3.50), m = ``order``."""
    factor = math.prod(1 + 2 * s / width for s in range(1, order))
    return factor ** (layer - 1)
