"""What holds of W_Mg without training: identities, convergence as a solver, size and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from experiments.mgno.vcycle import Smoothings, VCycle
from harness.procedures.base import Outcome, Trial, exact
from harness.procedures.cost import flops, parameters
from harness.records import Series

LAPLACE = torch.tensor([[0.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 0.0]])  # h = 1
BILINEAR = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 4
MIDDLE = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])


class Identities:
    """``linearity_error`` and ``shift_error`` of a V-cycle with random weights, double precision.

    Largest deviations from W(3 f - 2 g) = 3 W f - 2 W g, and from W f̂ = Ŵ f where ^ moves a
    function around the torus by one cell of the coarsest level, over the largest value of W f.
    """

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"linearity_error", "shift_error"}

    @torch.no_grad()
    def run(self, trial: Trial) -> Outcome:
        w = trial.model().double()
        assert isinstance(w, VCycle)
        f, g = torch.randn(2, 1, w.first.in_channels, w.side, w.side, dtype=torch.float64)
        image = w(f)
        mixed = w(3 * f - 2 * g) - (3 * image - 2 * w(g))
        shift = (2 ** (len(w.levels) - 1),) * 2
        moved = w(f.roll(shift, (2, 3))) - image.roll(shift, (2, 3))
        size = image.abs().max()
        return Outcome(
            {
                "linearity_error": float(mixed.abs().max() / size),
                "shift_error": float(moved.abs().max() / size),
            }
        )


def poisson_cycle(
    side: int, smoothings: Smoothings, residual: bool = True, damping: float = 0.8
) -> VCycle:
    """W_Mg of one channel with the kernels of -Δu = f, zero Dirichlet conditions, h = 1.

    A: five points, on every level with its own width. S: damped Jacobi, undamped on a coarsest
    level of one cell, where it is exact. R: full weighting of the residual; P: bilinear; Π: none,
    each coarser level begins with zero.

    Args:
        side: inner nodes along a side, 2^k - 1.
        residual: whether it is the residual that R restricts; else the right-hand side.
    """
    cycle = VCycle(side, 1, 1, smoothings, residual=residual, margin=0).double()
    coarsest = len(smoothings) - 1
    single = side + 1 == 2 ** len(smoothings)
    with torch.no_grad():
        for name, weight in cycle.named_parameters():
            parts = name.split(".")
            level = int(parts[1]) if parts[0] == "levels" else 0
            kind = parts[-2].replace("first", "smoother")
            step = 0.25 * (1.0 if single and level == coarsest else damping)
            kernel = {
                "operator": LAPLACE / 4**level,
                "smoother": step * 4**level * MIDDLE,
                "restrict": BILINEAR / 4,
                "prolong": BILINEAR,
                "project": 0 * MIDDLE,
            }[kind]
            weight.copy_(kernel[None, None])
    return cycle


class Contraction:
    """``residual_factor``: by what factor one application u <- u + W_Mg (f - A u) shrinks the
    residual of Poisson's equation, in the long run; a series over the grid's side, and
    ``worst_residual_factor``, the largest of it.

    Args:
        sides: inner nodes along a side, 2^k - 1; the hierarchy goes down to one node.
        levels: of the hierarchy, if not all; with 1 there is only the smoother.
        smoothings: before and after, on every level.
        residual: whether R restricts the residual.
        cycles: applications; the last one is measured.
    """

    def __init__(
        self,
        sides: Sequence[int] = (7, 15, 31, 63, 127),
        levels: int | None = None,
        smoothings: Sequence[int] = (2, 2),
        residual: bool = True,
        cycles: int = 20,
    ) -> None:
        self.sides, self.levels = sides, levels
        self.smoothings, self.residual, self.cycles = smoothings, residual, cycles

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"residual_factor", "worst_residual_factor"}

    @torch.no_grad()
    def run(self, trial: Trial) -> Outcome:
        factors = [self.factor(side) for side in self.sides]
        series = Series(over="side", x=[float(s) for s in self.sides], y=factors)
        return Outcome({"worst_residual_factor": max(factors)}, {"residual_factor": series})

    def factor(self, side: int) -> float:
        levels = self.levels or (side + 1).bit_length() - 1
        cycle = poisson_cycle(side, [self.smoothings] * levels, self.residual)
        laplace = LAPLACE.double()[None, None]
        u = torch.randn(1, 1, side, side, dtype=torch.float64)
        before = after = torch.tensor(0.0)
        for _ in range(self.cycles):  # f = 0, so that u is its own error, to every last digit
            residual = -F.conv2d(u, laplace, padding=1)
            u = u + cycle(residual)
            before, after = residual.norm(), F.conv2d(u, laplace, padding=1).norm()
        return float(after / before)


POWERS = {
    "parameter_exponent": "parameters_by_channels",
    "channel_exponent": "operations_by_channels",
    "side_exponent": "operations_by_side",
}


def steepest(series: Series) -> float:
    """The largest power of the swept variable between neighbouring points."""
    return float((np.diff(np.log(series.y)) / np.diff(np.log(series.x))).max())


class Scaling:
    """Parameters and operations of W_Mg, counted; a multiply and an add are two operations.

    Series: ``parameters_by_levels`` (levels are the logarithm of the side), and
    ``parameters_by_channels``, ``operations_by_channels`` and ``operations_by_side``. Of them,
    exactly: ``level_curvature``, the largest second difference of the first, which is 0 for a
    straight line; ``parameter_exponent``, ``channel_exponent`` and ``side_exponent``, the
    steepest powers between neighbouring points of the others.

    Args:
        levels, channels, sides: over which it is counted, each with the first of the others.
    """

    def __init__(
        self,
        levels: Sequence[int] = (3, 4, 5, 6),
        channels: Sequence[int] = (8, 16, 32, 64),
        sides: Sequence[int] = (32, 64, 128, 256),
    ) -> None:
        self.levels, self.channels, self.sides = levels, channels, sides

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        series = {"parameters_by_levels", *POWERS.values()}
        return series | {"level_curvature", *POWERS}

    def run(self, trial: Trial) -> Outcome:
        level, channel, side = self.levels[0], self.channels[0], self.sides[0]
        counts = {
            "parameters_by_levels": [self.size(j, channel, side) for j in self.levels],
            "parameters_by_channels": [self.size(level, n, side) for n in self.channels],
            "operations_by_channels": [self.work(level, n, side) for n in self.channels],
            "operations_by_side": [self.work(level, channel, d) for d in self.sides],
        }
        over = {"levels": self.levels, "channels": self.channels, "side": self.sides}
        series = {}
        for name, y in counts.items():
            swept = name.rpartition("_by_")[2]
            x = [float(value) for value in over[swept]]
            series[name] = Series(over=swept, x=x, y=[float(count) for count in y])
        curvature = np.abs(np.diff(counts["parameters_by_levels"], 2)).max()
        powers = {name: exact(steepest(series[of])) for name, of in POWERS.items()}
        return Outcome({"level_curvature": exact(float(curvature)), **powers}, series)

    def cycle(self, levels: int, channels: int, side: int) -> VCycle:
        return VCycle(side, channels, channels, [(1, 0)] * (levels - 1) + [(2, 0)])

    def size(self, levels: int, channels: int, side: int) -> int:
        return parameters(lambda: self.cycle(levels, channels, side))

    def work(self, levels: int, channels: int, side: int) -> int:
        with torch.device("meta"):
            cycle, f = self.cycle(levels, channels, side), torch.empty(1, channels, side, side)
        return sum(flops(lambda: cycle(f)).values())


class Size:
    """``parameters`` of the model; nothing is computed."""

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"parameters"}

    def run(self, trial: Trial) -> Outcome:
        return Outcome({"parameters": exact(parameters(trial.model))})
