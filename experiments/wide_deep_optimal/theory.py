"""What needs no data: exponents of the activations, and limits of their kernels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from baselines.nngp import Correlation, Dual, Relu
from experiments.wide_deep_optimal import kernels
from experiments.wide_deep_optimal.activations import DIMENSIONS, SINES, exponent, named, optimal
from harness.procedures.base import Outcome, Trial, exact
from harness.records import Measured, Series

_ANGLES = torch.logspace(-4, -2.5, 16, dtype=torch.float64)  # where exponents are measured
_APART = torch.tensor([0.3, 0.6, 1.0, 1.4], dtype=torch.float64)  # where limits are


def exponent_of_activation(dual: Dual, nodes: int = 200) -> float:
    """alpha from φ itself: A'(0) = E[u φ]² and A'(1) = E[φ'²], by quadrature and autograd."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    u = torch.from_numpy(points).requires_grad_()
    w = torch.from_numpy(weights / weights.sum())
    value = dual.activation(u)
    (slope,) = torch.autograd.grad(value.sum(), u)
    first = float((w * u * value).detach().sum()) ** 2
    return -2 * math.log(first) / math.log(float((w * slope**2).sum()))


def exponent_of_kernel(dual: Dual) -> float:
    """alpha as the slope of log ψ over the logarithm of the distance, at angles near 1e-3.

    ψ is a power of the distance times a function that is periodic in its logarithm with period
    log A'(1) / 2. For A'(1) = 2 this is constant to 1e-4; for steep sines it is not.
    """
    distance = torch.log(2 * torch.sin(_ANGLES / 2))
    psi = kernels.log_singular(dual, at_angles(_ANGLES))
    centred = distance - distance.mean()
    return -float((centred * psi).sum() / (centred**2).sum())


def at_angles(angles: Tensor) -> Correlation:
    return Correlation.of_gap(2 * torch.sin(angles / 2) ** 2)


class Exponents:
    """Exponents alpha of the activations that are said to be consistent in d dimensions.

    Each is the largest deviation from d over the activations of a family; from A'(0) and A'(1),
    from φ by quadrature, and of the infinitely deep kernel of the Hermite activations.

    Args:
        coordinates: take d for the number of coordinates, one more than the sphere's dimension.
    """

    def __init__(self, coordinates: bool = False) -> None:
        self.shift = 1 if coordinates else 0

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        families = ("hermite", "sine")
        exponents = {f"{f}_error{end}" for f in families for end in ("", "_activation")}
        return exponents | {"hermite_error_kernel"}

    def run(self, trial: Trial) -> Outcome:
        families = {
            "hermite": {d: optimal(d) for d in DIMENSIONS},
            "sine": {d: named("sine-optimal", d) for d in SINES},
        }
        ways = {"": exponent, "_activation": exponent_of_activation}
        metrics: dict[str, float | Measured] = {
            f"{family}_error{end}": exact(self._error(duals, way))
            for family, duals in families.items()
            for end, way in ways.items()
        }
        metrics["hermite_error_kernel"] = exact(
            self._error(families["hermite"], exponent_of_kernel)
        )
        return Outcome(metrics)

    def _error(self, duals: Mapping[int, Dual], way: Callable[[Dual], float]) -> float:
        return max(abs(way(dual) - d - self.shift) for d, dual in duals.items())


class Limits:
    """How far deep kernels are from their limits, at angles from 0.3 to 1.4.

    Args:
        depth: layers of the ReLU network.
        tangent_depth: layers at which NTK / (L A'(0)^L) is held against ψ.
    """

    def __init__(self, depth: int = 10_000, tangent_depth: int = 1_000_000) -> None:
        self.depth = depth
        self.tangent_depth = tangent_depth

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"relu_ratio", "relu_nngp", "tangent_error", "relu_excess"}

    def run(self, trial: Trial) -> Outcome:
        at = at_angles(_APART)
        ratio = torch.exp(kernels.log_kernel(Relu(), at, self.depth, "ntk"))
        farthest = ratio[torch.argmax((ratio - 0.25).abs())]
        metrics: dict[str, float | Measured] = {
            "relu_ratio": exact(float(farthest)),
            "relu_nngp": exact(float(torch.exp(kernels.log_nngp(Relu(), at, self.depth)).min())),
            "tangent_error": exact(self._tangent_error(at)),
        }
        depths = [self.depth // 100, self.depth // 10, self.depth]
        excess = [
            float((torch.exp(kernels.log_kernel(Relu(), at, L, "ntk")) - 0.25).max())
            for L in depths
        ]
        series = Series(over="layers", x=[float(L) for L in depths], y=excess)
        return Outcome(metrics, {"relu_excess": series})

    def _tangent_error(self, at: Correlation) -> float:
        """Largest relative distance of NTK_L / (L A'(0)^L) to ψ, over the Hermite activations."""
        layers, worst = self.tangent_depth, 0.0
        for d in DIMENSIONS:
            dual = optimal(d)
            scale = math.log(layers) + layers * math.log(dual.slope_at_zero)
            off = kernels.log_ntk(dual, at, layers) - scale - kernels.log_singular(dual, at)
            worst = max(worst, float(torch.expm1(off).abs().max()))
        return worst
