"""How an error flows back through time: the bounds on simple networks, and the LSTM's carousel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from harness.procedures.base import Outcome, Trial
from harness.records import Measured, Series

Activation = Literal["tanh", "logistic", "linear"]
SLOPES = {"tanh": 1.0, "logistic": 0.25, "linear": 1.0}  # γ: the largest slope


class GradientFlow:
    """∂h_T/∂h_1 of h_t = φ(U h_{t-1} + x_t) with random weights, against its bound.

    Pascanu et al. (arXiv 1211.5063, section 2.1): the factor of a step is diag(φ') U, so that the
    spectral norm of their product is at most (γ s)^(T-1), with s the largest singular value of U
    and γ the largest slope of φ. Double precision.

    ``bound_excess``: the most by which the natural logarithm of the norm exceeds that of the
    bound, over lags. ``norm_over_lag``: the norm; ``log10_norm``: its decadic logarithm at the
    longest lag.

    Args:
        gain: γ times the scale of U.
        activation: φ.
        hidden: units.
        lags: T - 1.
        inputs: standard deviation of x_t.
        matrix: ``singular`` has the largest singular value gain/γ, ``orthogonal`` has all of
            them there, ``jordan`` has the spectral radius gain/γ and a far larger singular value.
        bound: by the largest singular value, or wrongly by the spectral radius (a control).
    """

    def __init__(
        self,
        gain: float,
        activation: Activation = "tanh",
        hidden: int = 32,
        lags: Sequence[int] = (1, 2, 5, 10, 20, 50, 100),
        inputs: float = 1.0,
        matrix: Literal["singular", "orthogonal", "jordan"] = "singular",
        bound: Literal["singular", "radius"] = "singular",
    ) -> None:
        self.gain, self.activation, self.hidden = gain, activation, hidden
        self.lags, self.inputs = list(lags), inputs
        self.matrix, self.bound = matrix, bound

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"bound_excess", "log10_norm", "norm_over_lag"}

    def run(self, trial: Trial) -> Outcome:
        slope = SLOPES[self.activation]
        weights = recurrent_matrix(self.matrix, self.hidden, self.gain / slope)
        x = self.inputs * torch.randn(max(self.lags), self.hidden, dtype=torch.float64)
        norms = jacobian_norms(weights, x, self.activation)
        scale = spectral_norm(weights) if self.bound == "singular" else spectral_radius(weights)
        excess = [math.log(norms[n - 1]) - n * math.log(slope * scale) for n in self.lags]
        series = Series(
            over="lag", x=[float(n) for n in self.lags], y=[norms[n - 1] for n in self.lags]
        )
        metrics = {"bound_excess": max(excess), "log10_norm": math.log10(series.y[-1])}
        return Outcome(metrics, {"norm_over_lag": series})


def recurrent_matrix(kind: str, hidden: int, scale: float) -> Tensor:
    """A random matrix (hidden, hidden) in double precision; see :class:`GradientFlow`."""
    rotation: Tensor = torch.linalg.qr(torch.randn(hidden, hidden, dtype=torch.float64))[0]
    if kind == "orthogonal":
        return scale * rotation
    if kind == "jordan":
        block = scale * torch.eye(hidden, dtype=torch.float64)
        block += torch.diag(torch.ones(hidden - 1, dtype=torch.float64), 1)
        return rotation @ block @ rotation.T
    weights = torch.randn(hidden, hidden, dtype=torch.float64)
    return weights * (scale / spectral_norm(weights))


def spectral_norm(weights: Tensor) -> float:
    """The largest singular value."""
    return float(torch.linalg.matrix_norm(weights, 2))


def spectral_radius(weights: Tensor) -> float:
    """The largest absolute eigenvalue."""
    return float(torch.linalg.eigvals(weights).abs().max())


def jacobian_norms(weights: Tensor, x: Tensor, activation: Activation) -> list[float]:
    """Spectral norms of ∂h_{t+1}/∂h_1 for t = 1, 2, …, from h_1 = 0 with inputs x (T, hidden)."""
    h = torch.zeros(len(weights), dtype=weights.dtype)
    product, found = torch.eye(len(weights), dtype=weights.dtype), []
    for now in x:
        h, slope = activated(weights @ h + now, activation)
        product = slope[:, None] * (weights @ product)
        found.append(spectral_norm(product))
    return found


def activated(a: Tensor, activation: Activation) -> tuple[Tensor, Tensor]:
    """φ(a) and φ'(a)."""
    if activation == "linear":
        return a, torch.ones_like(a)
    if activation == "tanh":
        return a.tanh(), 1 - a.tanh() ** 2
    return a.sigmoid(), a.sigmoid() * (1 - a.sigmoid())


class Carousel:
    """What is left of an error that flows back through memory cells with random gates.

    Hochreiter and Schmidhuber (1997): c_t = f c_{t-1} + i_t g_t. With the error cut where it would
    leave the cell (gates and inputs see h_{t-1} without its history), ∂c_T/∂c_1 is the product of
    the forget gates, element by element; in the original cell f = 1, and the error stays as it is.

    ``error_flow``: ∂c_T/∂c_1 by automatic differentiation, averaged over cells. ``path_error``:
    its largest distance to the product.

    Args:
        lag: T - 1.
        hidden: cells.
        forget: the weight of c_{t-1}: ``none`` is 1, ``gate`` a forget gate sigmoid(U h + x + 1).
        cut: whether the error is cut outside the cell.
    """

    def __init__(
        self,
        lag: int = 1000,
        hidden: int = 16,
        forget: Literal["none", "gate"] = "none",
        cut: bool = True,
    ) -> None:
        self.lag, self.hidden, self.forget, self.cut = lag, hidden, forget, cut

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"error_flow", "path_error"}

    def run(self, trial: Trial) -> Outcome:
        flow, product = self.flows(torch.Generator().manual_seed(trial.seed))
        return Outcome(
            {
                "error_flow": Measured(value=float(flow.mean())),
                "path_error": float((flow - product).abs().max()),
            }
        )

    def flows(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Diagonal of ∂c_T/∂c_1 and the product of the forget gates, (hidden,) each."""
        n, kind = self.hidden, torch.float64
        recurrent = torch.randn(4 * n, n, generator=generator, dtype=kind) / math.sqrt(n)
        x = torch.randn(self.lag, 4 * n, generator=generator, dtype=kind)
        first = torch.zeros(n, dtype=kind, requires_grad=True)
        c, h, product = first, torch.zeros(n, dtype=kind), torch.ones(n, dtype=kind)
        for now in x:
            i, f, o, g = (recurrent @ (h.detach() if self.cut else h) + now).chunk(4)
            gate = torch.sigmoid(f + 1) if self.forget == "gate" else torch.ones_like(f)
            c = gate * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            product = product * gate.detach()
        if self.cut:  # nothing passes from one cell to another
            (flow,) = torch.autograd.grad(c.sum(), first)
            return flow, product
        rows = [torch.autograd.grad(one, first, retain_graph=True)[0] for one in c]
        return torch.stack(rows).diagonal(), product
