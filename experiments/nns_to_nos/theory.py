"""What becomes of untrained layers as the grid is refined or the points are drawn anew."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import Voronoi
from torch import Tensor, nn

from experiments.nns_to_nos.extension import Extension, extended
from experiments.nns_to_nos.layers import LocalIntegral
from harness.procedures.base import Outcome, Trial, exact
from harness.records import Series

Quadrature = Literal["voronoi", "uniform"]
Floats = npt.NDArray[np.float64]


class Waves:
    """Real trigonometric polynomials on the unit torus: Σ c_k exp(2πi k·x) + conjugate.

    Args:
        highest: largest wave number along an axis.
    """

    def __init__(self, count: int, channels: int, highest: int, generator: torch.Generator) -> None:
        along = torch.arange(-highest, highest + 1, dtype=torch.float64)
        k = torch.cartesian_prod(along, along)
        self.k = k[(k[:, 0] > 0) | ((k[:, 0] == 0) & (k[:, 1] > 0))]
        parts = torch.randn(2, count, channels, len(self.k), generator=generator).double()
        self.coefficients = torch.complex(*parts) / (1 + self.k.square().sum(-1))

    def at(self, points: Tensor) -> Tensor:
        """Values at points (n, 2): (count, channels, n)."""
        return self._sum(self.coefficients, points)

    def through(self, symbol: Tensor, points: Tensor) -> Tensor:
        """Values of the image under Fourier multipliers (out, in, modes)."""
        return self._sum(torch.einsum("oik,bik->bok", symbol, self.coefficients), points)

    def _sum(self, coefficients: Tensor, points: Tensor) -> Tensor:
        modes = torch.exp(2j * math.pi * (self.k @ points.T))
        return 2 * (coefficients @ modes).real


def grid_points(side: int) -> Tensor:
    """(side², 2), the last coordinate fastest."""
    x = torch.arange(side, dtype=torch.float64) / side
    return torch.cartesian_prod(x, x)


class Refinement:
    """A layer on finer and finer grids, held against the closed form of what it stands for.

    Series over the grid's ``width``: ``error``, the distance to the integral or derivative whose
    value on a trigonometric polynomial is known, over its size; for integrals ``pointwise_error``,
    the same to the pointwise map Σ θ_ab δ² f. Mean squares over the points of the coarsest grid.
    ``error_at_base`` is the first on the grid of width δ.

    Args:
        sides: points along a side.
        highest: wave number of the polynomials.
    """

    def __init__(self, sides: Sequence[int] = (32, 64, 128, 256, 512), highest: int = 3) -> None:
        self.sides, self.highest = sides, highest

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"error", "pointwise_error", "log_error"}

    @classmethod
    def sometimes(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"pointwise_error"}

    @torch.no_grad()
    def run(self, trial: Trial) -> Outcome:
        layer: Any = trial.model().double()
        waves = Waves(2, 1, self.highest, torch.Generator().manual_seed(trial.seed))
        points = grid_points(self.sides[0])
        limits = {"error": waves.through(layer.symbol(waves.k), points)}
        if isinstance(layer, LocalIntegral):
            limits["pointwise_error"] = waves.through(layer.pointwise(waves.k), points)
        outputs = [self._output(layer, waves, side) for side in self.sides]
        width = [1 / side for side in self.sides]
        series = {
            name: Series(over="width", x=width, y=[relative(g, limit) for g in outputs])
            for name, limit in limits.items()
        }
        return Outcome({"log_error": math.log10(series["error"].y[-1])}, series)

    def _output(self, layer: nn.Module, waves: Waves, side: int) -> Tensor:
        """At the points of the coarsest grid: (count, out, points)."""
        values = waves.at(grid_points(side))
        f = values.reshape(*values.shape[:2], side, side)
        every = side // self.sides[0]
        image: Tensor = layer(f)[..., ::every, ::every]
        return image.flatten(2)


def relative(found: Tensor, limit: Tensor) -> float:
    return float((found - limit).norm() / limit.norm())


class Sampling:
    """A layer on scattered points that are dense on one side of the torus and sparse on the other.

    Series over the ``spacing`` 1/√n: ``error``, the distance to the layer on a regular grid of
    ``reference``² points, over its size, at fixed query points. ``gap`` is the distance between
    two draws of the largest number of points, one dense on the left and one on the right.

    Args:
        counts: points, n.
        quadrature: weights are the areas of the points' Voronoi cells, or 1/n.
        contrast: largest over mean density, less one; between 0 and 1.
    """

    def __init__(
        self,
        counts: Sequence[int] = (64, 256, 1024, 4096),
        quadrature: Quadrature = "voronoi",
        contrast: float = 0.8,
        queries: int = 64,
        reference: int = 128,
        highest: int = 2,
    ) -> None:
        self.counts, self.quadrature, self.contrast = counts, quadrature, contrast
        self.queries, self.reference, self.highest = queries, reference, highest

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"error", "gap"}

    @torch.no_grad()
    def run(self, trial: Trial) -> Outcome:
        layer = trial.model().double()
        generator = torch.Generator().manual_seed(trial.seed)
        waves = Waves(2, 1, self.highest, generator)
        y = torch.rand(self.queries, 2, generator=generator, dtype=torch.float64)
        regular = grid_points(self.reference)
        limit = layer(waves.at(regular).mT, regular, weights_of(regular, "uniform"), y)
        errors = []
        for n in self.counts:
            drawn = [scattered(n, side * self.contrast, generator) for side in (1, -1)]
            left, right = (
                layer(waves.at(x).mT, x, weights_of(x, self.quadrature), y) for x in drawn
            )
            errors.append((relative(left, limit) + relative(right, limit)) / 2)
        spacing = [n**-0.5 for n in self.counts]
        series = Series(over="spacing", x=spacing, y=errors)
        return Outcome({"gap": float((left - right).norm() / limit.norm())}, {"error": series})


def scattered(count: int, contrast: float, generator: torch.Generator) -> Tensor:
    """Points of density 1 + contrast · sin(2πx), (count, 2): by x alone they are unequally dense.

    Each falls into a cell of its own of a √count × √count grid of equal shares, so that gaps
    shrink like the spacing.

    Raises:
        ValueError: count is no square.
    """
    side = math.isqrt(count)
    if side**2 != count:
        raise ValueError(f"{count} is no square")
    cells = torch.cartesian_prod(*[torch.arange(side, dtype=torch.float64)] * 2)
    share, y = ((cells + torch.rand(count, 2, generator=generator)) / side).T
    x = share.clone()
    for _ in range(60):  # x + contrast (1 - cos 2πx) / 2π = share, by iteration from both ends
        grown = x + contrast * (1 - torch.cos(2 * math.pi * x)) / (2 * math.pi)
        x = x - (grown - share) / (1 + contrast * torch.sin(2 * math.pi * x)).clamp(min=0.5)
    return torch.stack((x % 1, y), 1)


def weights_of(points: Tensor, quadrature: Quadrature) -> Tensor:
    """Quadrature weights of points on the unit torus; their sum is 1."""
    if quadrature == "uniform":
        return torch.full((len(points),), 1 / len(points), dtype=torch.float64)
    return torch.from_numpy(voronoi_areas(points.numpy()))


def voronoi_areas(points: Floats, margin: float = 0.25) -> Floats:
    """Areas of the Voronoi cells of points (n, 2) on the unit torus.

    Points within ``margin`` of the border are also set on the other side of it; cells must not
    be wider than that.
    """
    shifts = [np.array((i, j)) for i in (0, -1, 1) for j in (0, -1, 1)]
    copies = [points + shift for shift in shifts]
    copies[1:] = [c[((c > -margin) & (c < 1 + margin)).all(1)] for c in copies[1:]]
    diagram = Voronoi(np.concatenate(copies))
    # Every ridge between two points belongs to a triangle with its apex in each of them.
    pairs = diagram.ridge_points
    places = np.array(diagram.ridge_vertices)
    finite = (places >= 0).all(1)
    pairs, ends = pairs[finite], np.asarray(diagram.vertices)[places[finite]]
    length = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
    apart = np.linalg.norm(np.subtract(*diagram.points[pairs.T]), axis=1)
    triangles = np.repeat(length * apart / 4, 2)
    areas = np.bincount(pairs.ravel(), triangles, len(diagram.points)).astype(np.float64)
    return areas[: len(points)]


class HighFrequencies:
    """What a network with random weights, made for one grid, does on a finer one with waves that
    its own grid cannot hold.

    ``response``: how much its output changes when waves of numbers from base / 2 on are added to
    the input; ``output_above``: the part of its output in these. Both over the output's size.

    Args:
        base, side: points along a side of the two grids.
        extension: as in ``Crossing``.
    """

    def __init__(self, base: int = 16, side: int = 64, extension: Extension = "none") -> None:
        self.base, self.side = base, side
        self.extension: Extension = extension

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"response", "output_above"}

    @torch.no_grad()
    def run(self, trial: Trial) -> Outcome:
        network = extended(trial.model(), self.base, self.side, self.extension, True).double()
        noise = torch.randn(2, 1, self.side, self.side, dtype=torch.float64)
        high = above(noise, self.base)
        low = network(noise - high)
        size = low.norm()
        response, output = (network(noise) - low).norm(), above(low, self.base).norm()
        return Outcome({"response": float(response / size), "output_above": float(output / size)})


def above(functions: Tensor, base: int) -> Tensor:
    """The part with a wave number of base / 2 or more along an axis."""
    d = functions.shape[-1]
    k = torch.fft.fftfreq(d, 1 / d).abs()
    kept = torch.maximum(k[:, None], k) >= base / 2
    part: Tensor = torch.fft.ifft2(torch.fft.fft2(functions) * kept).real
    return part


class Size:
    """``parameters`` of the model, two for a complex one; nothing is computed."""

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"parameters"}

    def run(self, trial: Trial) -> Outcome:
        with torch.device("meta"):
            weights = [p.numel() * (2 if p.is_complex() else 1) for p in trial.model().parameters()]
        return Outcome({"parameters": exact(sum(weights))})
