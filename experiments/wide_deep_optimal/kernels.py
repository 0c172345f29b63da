"""Kernels of infinitely wide networks as functions of one number, the gap 1 - ξ of two inputs.

Logarithms throughout: deep kernels range over hundreds of orders of magnitude. A kernel is iterated
on a few thousand nodes and interpolated between them, which is what makes depth cheap.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from baselines.nngp import Correlation, Dual

Kind = Literal["nngp", "ntk"]
_MOST_LAYERS = 100_000
_FEW_LAYERS = 10
_BLOCK = 50_000  # gaps that are looked up at a time
_LINEAR = -45.0  # below it, ξ adds nothing to 1 in float64
_ORTHOGONAL = 1 - 1e-15  # beyond it a gap is 1 in float64, the logarithm of ξ is lost


def log_nngp(dual: Dual, at: Correlation, depth: int) -> Tensor:
    """log Σ_L, with Σ_L = A(Σ_{L-1}) and Σ_0 = ξ."""
    for _ in range(depth):
        at = dual(at)
    return at.log


def log_ntk(dual: Dual, at: Correlation, depth: int) -> Tensor:
    """log K_L, with K_L = Σ_L + K_{L-1} A'(Σ_{L-1}) and K_0 = ξ.

    Where A(ξ) = A'(0) ξ to the last digit, m more layers make ``A'(0)^m (K + m Σ)`` of it, so that
    a singular activation may have any depth.
    """
    tangent = at.log
    for layer in range(depth):
        if dual.at_zero == 0 < dual.slope_at_zero and float(at.log.max()) < _LINEAR:
            more, rate = depth - layer, math.log(dual.slope_at_zero)
            return torch.logaddexp(tangent, at.log + math.log(more)) + more * rate
        slope = dual.log_slope(at)
        at = dual(at)
        tangent = torch.logaddexp(at.log, tangent + slope)
    return tangent


def log_ntk_diagonal(dual: Dual, depth: int) -> float:
    """log of the sum of A'(1)^j over j = 0 … L, the kernel at equal inputs."""
    if dual.slope_at_one == 1:
        return math.log(depth + 1)
    rate = math.log(dual.slope_at_one)
    return depth * rate + math.log(math.expm1(-(depth + 1) * rate) / math.expm1(-rate))


def log_kernel(dual: Dual, at: Correlation, depth: int, kind: Kind) -> Tensor:
    """log of the kernel divided by its value at equal inputs."""
    if kind == "nngp":
        return log_nngp(dual, at, depth)
    return log_ntk(dual, at, depth) - log_ntk_diagonal(dual, depth)


def log_singular(dual: Dual, at: Correlation, tolerance: float = 1e-12) -> Tensor:
    """log ψ, the limit of Σ_L / A'(0)^L, for which ψ(A(ξ)) = A'(0) ψ(ξ) (Koenigs' function).

    Raises:
        ValueError: where the limit is 0 or infinite.
    """
    rate = math.log(dual.slope_at_zero) if dual.slope_at_zero else -math.inf
    if dual.at_zero or not -math.inf < rate < 0:
        raise ValueError("A(0) = 0 and 0 < A'(0) < 1 are needed for a singular kernel")
    for layer in range(_MOST_LAYERS):
        deeper = dual(at)
        moved = torch.where(torch.isfinite(at.log), deeper.log - at.log - rate, 0.0)
        at = deeper
        if float(moved.abs().max()) < tolerance:
            return at.log - (layer + 1) * rate
    raise ValueError(f"no limit within {_MOST_LAYERS} layers")


def resolving_depth(dual: Dual, gap: float, to: float = 1e-3) -> int:
    """Layers until the NNGP kernel of two inputs that far apart has fallen to ``to``.

    With the gap of the closest training inputs this is the depth from which the Gram matrix is
    nearly the identity. A shallower network gives neighbours with different labels equal rows.

    Raises:
        ValueError: if it never does (equal inputs, or an activation with A'(1) <= 1 or A(0) > 0).
    """
    if gap <= 0 or dual.slope_at_one <= 1 or dual.at_zero >= to:
        raise ValueError(f"no depth tells inputs apart whose gap is {gap}, or not this activation")
    at = Correlation.of_gap(torch.tensor(gap, dtype=torch.float64))
    for depth in range(_MOST_LAYERS):
        if float(at.log) <= math.log(to):
            return depth
        at = dual(at)
    raise ValueError(f"{_MOST_LAYERS} layers do not tell the closest inputs apart")


class Grid:
    """Nodes at equal steps of log(gap / (1 - gap)), in which log kernels are nearly straight lines.

    Args:
        smallest, largest: gaps that will be asked for.
        nodes: the error of interpolation falls as 1 / nodes²; it is 1e-7 at 32,768.
    """

    def __init__(self, smallest: float, largest: float, nodes: int = 32_768) -> None:
        ends = torch.tensor([max(smallest, 1e-300), min(largest, _ORTHOGONAL)], dtype=torch.float64)
        low, high = _position(ends).tolist()
        self._low, self._step = low, max(high - low, 1e-9) / (nodes - 1)
        at = low + self._step * torch.arange(nodes, dtype=torch.float64)
        softplus = torch.nn.functional.softplus
        self.nodes = Correlation(log=-softplus(at), gap=torch.exp(-softplus(-at)))

    def read(self, values: Tensor, gaps: Tensor) -> Tensor:
        """Values at the nodes, interpolated at gaps of any shape; beyond the ends, the end's."""
        last = len(values) - 1
        place = ((_position(gaps) - self._low) / self._step).clamp_(0, last)
        left = place.long().clamp_(max=last - 1)
        return torch.lerp(values[left], values[left + 1], place - left)


class Tabulated:
    """A log kernel of matrices of gaps, a block of rows at a time.

    Few layers are computed at the gaps themselves: a shallow Gram matrix may be nearly singular,
    and interpolated it would have negative eigenvalues.
    """

    def __init__(self, log: Callable[[Correlation], Tensor], grid: Grid, direct: bool) -> None:
        self._log, self._grid, self._direct = log, grid, direct
        self._values = torch.empty(0) if direct else log(grid.nodes)

    @classmethod
    def deep(cls, dual: Dual, grid: Grid, depth: int, kind: Kind) -> Tabulated:
        return cls(lambda at: log_kernel(dual, at, depth, kind), grid, depth <= _FEW_LAYERS)

    @classmethod
    def singular(cls, dual: Dual, grid: Grid) -> Tabulated:
        return cls(lambda at: log_singular(dual, at), grid, direct=False)

    def __call__(self, gaps: Tensor) -> Tensor:
        blocks = torch.split(gaps, max(1, _BLOCK // gaps.shape[1]))
        return torch.cat([self._of(rows) for rows in blocks])

    def _of(self, gaps: Tensor) -> Tensor:
        if self._direct:
            return self._log(Correlation.of_gap(gaps.clamp(max=_ORTHOGONAL)))
        return self._grid.read(self._values, gaps)


def _position(gaps: Tensor) -> Tensor:
    return torch.logit(gaps.clamp(max=_ORTHOGONAL))
