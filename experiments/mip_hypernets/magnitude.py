"""How the size of θ goes with that of γ: what holds before training, and how it is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from experiments.mip_hypernets.model import Activation, Encoding, HyperNet, encoded
from harness.procedures.base import Outcome, Trial
from harness.records import Series
from harness.seeding import derive

SIZES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0)


def log_slope(sizes: Tensor, values: Tensor) -> float:
    """Least-squares slope of log values on log sizes, both (G,) and positive."""
    x = sizes.double().log() - sizes.double().log().mean()
    return float((x * values.double().log()).sum() / (x * x).sum())


def dependence(thetas: Tensor) -> float:
    """How much θ differs between the rows (G, P) of several γ: its rms distance from their mean,
    relative to the rms of θ. 0 where γ does not matter, 1 where the mean vanishes."""
    around = (thetas - thetas.mean(0)).square().sum()
    return float((around / thetas.square().sum().clamp_min(1e-300)).sqrt())


@dataclass(frozen=True)
class Profile:
    """Of one network, over γ = s u with sizes s (G,) and a direction u.

    Attributes:
        norms: ‖θ‖ (G,).
        variances: of θ over its elements (G,).
        disproportion: largest distance of x(s u) / s from x(u), relative to ‖x(u)‖, over hidden
            layers and θ.
        dependence: see :func:`dependence`.
    """

    norms: Tensor
    variances: Tensor
    disproportion: float
    dependence: float

    @classmethod
    @torch.no_grad()
    def of(cls, net: HyperNet, sizes: Tensor, direction: Tensor) -> Profile:
        states = net.states(sizes[:, None] * direction)
        whole = net.states(direction)
        distances = [
            ((x / sizes[:, None] - one).norm(dim=1) / one.norm()).max()
            for x, one in zip(states, whole, strict=True)
        ]
        theta = states[-1]
        worst = float(torch.stack(distances).max())
        return cls(theta.norm(dim=1), theta.var(1), worst, dependence(theta))


class AtStart:
    """Untrained hypernetworks in double precision, for sizes of γ between 0.01 and 1.

    Means over draws: ``slope`` of log ‖θ‖ on log ‖γ‖, ``variance_slope`` of the logarithm of θ's
    variance over its elements, ``dependence`` of θ on γ. ``norm_ratio``: largest over smallest
    ‖θ‖, the median draw. ``disproportion``: the largest of all draws, see :class:`Profile`.
    ``encoding_error``: largest distance of ‖E(γ)‖ from √d. Series: ``norm``, ‖θ‖ relative to
    that at ‖γ‖'s largest, over the size.

    Args:
        draws: networks, each with another direction of γ.
        outputs: rows and columns of the two predicted matrices.
        inputs, hidden, encoding, residual, activation, layer_norm, uniform_biases: see
            :class:`HyperNet`. ``residual`` adds θ_0.
    """

    def __init__(
        self,
        draws: int = 20,
        outputs: Sequence[int] = (64, 40),
        inputs: int = 1,
        hidden: Sequence[int] = (16, 64, 128),
        encoding: Encoding = "none",
        residual: bool = False,
        activation: Activation = "leaky-relu",
        layer_norm: bool = False,
        uniform_biases: bool = False,
    ) -> None:
        self.draws = draws
        shapes = {"a.weight": list(outputs), "b.weight": list(outputs)[::-1]}
        kind = (encoding, residual, False, activation, layer_norm, uniform_biases)
        self.encoding, self.inputs = encoding, inputs
        self.net: Callable[[], HyperNet] = lambda: HyperNet(shapes, inputs, hidden, *kind).double()

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        slopes = {"slope", "variance_slope", "dependence", "norm_ratio"}
        return slopes | {"disproportion", "encoding_error", "norm"}

    def run(self, trial: Trial) -> Outcome:
        sizes = torch.tensor(SIZES, dtype=torch.float64)
        found, errors = [], []
        for draw in range(self.draws):
            torch.manual_seed(derive(trial.seed, "draw", draw))
            direction = torch.rand(self.inputs, dtype=torch.float64)
            direction /= direction.max()
            found.append(Profile.of(self.net(), sizes, direction))
            inputs = encoded(sizes[:, None] * direction, self.encoding)
            errors.append((inputs.norm(dim=1) - self.inputs**0.5).abs().max())
        norms = torch.stack([profile.norms for profile in found])
        variances = torch.stack([profile.variances for profile in found])
        metrics = {
            "slope": fmean(log_slope(sizes, row) for row in norms),
            "variance_slope": fmean(log_slope(sizes, row) for row in variances),
            "dependence": fmean(profile.dependence for profile in found),
            "norm_ratio": float((norms.amax(1) / norms.amin(1)).median()),
            "disproportion": max(profile.disproportion for profile in found),
            "encoding_error": float(torch.stack(errors).max()),
        }
        relative = (norms / norms[:, -1:]).median(0).values
        return Outcome(metrics, {"norm": Series(over="size", x=list(SIZES), y=relative.tolist())})
