"""Monte Carlo over pre-activations of random networks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from experiments.dl_theory import networks as sampling
from experiments.dl_theory.activations import named
from experiments.dl_theory.ensembles import drawn_blocks, gathered, series
from experiments.dl_theory.kernel import (
    Layer,
    critical_layer,
    flow,
    linear_correlator,
    relu_cosine,
    vertex_rate,
)
from experiments.dl_theory.moments import (
    Statistic,
    measured,
    preactivation_moments,
    slope,
    two_point,
    vertex_ratio,
)
from harness.procedures.base import Outcome, Trial
from harness.records import Measured, Series


class Preactivations:
    """Two- and four-point correlators of one input over depth and width.

    Args:
        activation: name of the activation.
        weight_scale: C_W over its critical value; 1 is critical.
        skip: γ of the residual connection.
        first_kernel: K of the first layer; by default 1, or K* if that is not 0.
        width: n.
        depth: last layer.
        fit_from: first layer of the fits over depth.
        networks: networks drawn at each width.
        widths: of the ensembles that say how the second layer depends on n (none: not measured).
    """

    def __init__(
        self,
        activation: str,
        weight_scale: float = 1.0,
        skip: float = 0.0,
        first_kernel: float = 1.0,
        width: int = 256,
        depth: int = 24,
        fit_from: int = 2,
        networks: int = 20_000,
        widths: Sequence[int] = (),
    ) -> None:
        if not 1 <= fit_from < depth:
            raise ValueError(f"fit_from {fit_from} needs to lie between 1 and the depth {depth}")
        critical = critical_layer(named(activation), skip)
        weight = weight_scale * critical.weight_variance
        self.layer = Layer(critical.activation, critical.bias_variance, weight, skip)
        self.first_kernel = first_kernel
        self.width = width
        self.depth = depth
        self.fit_from = fit_from
        self.networks = networks
        self.widths = list(widths)

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        names = {"growth_rate", "kernel_over_theory", "vertex_over_theory", "vertex_rate"}
        names |= {"first_layer_vertex", "second_layer_vertex", "second_layer_over_theory"}
        names |= {"kernel", "vertex"}
        return names | ({"connected_by_width"} if init_args.get("widths") else set())

    def run(self, trial: Trial) -> Outcome:
        n, theory = self.width, flow(self.layer, self.first_kernel, self.depth)
        blocks = self._drawn(trial, n, self.depth)
        fit = slice(self.fit_from - 1, self.depth)
        layers = range(self.fit_from, self.depth + 1)
        second = theory.vertex[1] / theory.kernel[1] ** 2
        metrics = {
            "growth_rate": measured(blocks, lambda m: slope(layers, two_point(m)[fit].log())),
            "kernel_over_theory": measured(blocks, lambda m: m[-1, 0] / theory.kernel[-1]),
            "first_layer_vertex": measured(blocks, lambda m: n * vertex_ratio(m)[0]),
            "second_layer_vertex": measured(blocks, lambda m: n * vertex_ratio(m)[1]),
            "second_layer_over_theory": measured(blocks, lambda m: n * vertex_ratio(m)[1] / second),
            "vertex_over_theory": measured(
                blocks, lambda m: vertex_ratio(m)[-1] / self._expected_ratio()
            ),
            "vertex_rate": measured(blocks, lambda m: self._rate(layers, vertex_ratio(m)[fit])),
        }
        every = range(1, self.depth + 1)
        found = {
            "kernel": series("layer", every, blocks, two_point),
            "vertex": series("layer", every, blocks, lambda m: n * vertex_ratio(m)),
        }
        if self.widths:
            found["connected_by_width"] = self._by_width(trial)
        return Outcome(metrics, found)

    def _drawn(self, trial: Trial, width: int, depth: int) -> Tensor:
        def sample(count: int, generator: torch.Generator) -> Iterator[Tensor]:
            drawn = sampling.single_input(
                self.layer, self.first_kernel, count, width, depth, generator
            )
            return map(preactivation_moments, drawn)

        return drawn_blocks(trial, f"preactivations {width}", self.networks, width, sample)

    def _by_width(self, trial: Trial) -> Series:
        """V / (n K²) of the second layer over widths."""
        points: dict[float, Measured] = {}
        for width in self.widths:
            points[width] = measured(self._drawn(trial, width, 2), lambda m: vertex_ratio(m)[1])
        return gathered("width", points)

    def _expected_ratio(self) -> float:
        """V / (n K²) of the last layer: to first order in 1/n, or compounded if without a scale."""
        if self.layer.activation.slopes is not None and self.layer.skip == 0:
            rate = vertex_rate(self.layer.activation) / self.width
            return float((1 + rate) ** (self.depth - 1) - 1)
        theory = flow(self.layer, self.first_kernel, self.depth)
        return theory.vertex[-1] / theory.kernel[-1] ** 2 / self.width

    def _rate(self, layers: range, ratio: Tensor) -> Tensor:
        """ν. Without a scale ``1 + V/(nK²)`` grows by the factor 1 + ν/n, so fit its logarithm."""
        if self.layer.activation.slopes is None:
            return self.width * slope(layers, ratio)
        return self.width * torch.expm1(slope(layers, torch.log1p(ratio)))


ORDERS = {"four_point": 2, "six_point": 3}


class DeepLinear:
    """Correlators of critical deep linear networks, exact and in the limit of fixed L/n.

    Args:
        width, depth: of the ensemble for the exact formulas.
        networks: networks of that ensemble.
        widths: of the ensembles at fixed aspect ratio.
        aspect: r, reached at layer 1 + r n.
        same_depth: that of all ensembles instead, so that r differs between them (a control).
        aspect_networks: networks of each of these.
    """

    def __init__(
        self,
        width: int = 32,
        depth: int = 11,
        networks: int = 100_000,
        widths: Sequence[int] = (32, 64, 128),
        aspect: float = 0.25,
        aspect_networks: int = 50_000,
        same_depth: int | None = None,
    ) -> None:
        self.layer = critical_layer(named("linear"))
        self.width = width
        self.depth = depth
        self.networks = networks
        self.widths = sorted(widths)
        self.aspect = aspect
        self.aspect_networks = aspect_networks
        self.same_depth = same_depth

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {
            "four_point_over_exact",
            "six_point_over_exact",
            "four_point_at_aspect",
            "aspect_spread",
            "four_point",
            "six_point",
            "four_point_by_width",
        }

    def run(self, trial: Trial) -> Outcome:
        blocks = self._drawn(trial, self.width, self.depth, self.networks)
        metrics = {
            f"{name}_over_exact": measured(blocks, self._over_exact(order))
            for name, order in ORDERS.items()
        }
        at_aspect: dict[float, Measured] = {}
        for n in self.widths:
            depth = self.same_depth or 1 + round(self.aspect * n)
            wide = self._drawn(trial, n, depth, self.aspect_networks)
            at_aspect[n] = measured(wide, lambda m: correlator(2, n)(m)[-1])  # noqa: B023
        metrics["four_point_at_aspect"] = at_aspect[n]
        values = [m.value for m in at_aspect.values()]
        metrics["aspect_spread"] = Measured(value=max(values) / min(values) - 1)
        ratios = [layer / n for layer in range(wide.shape[1])]
        found = {
            name: series("aspect ratio", ratios, wide, correlator(order, n))
            for name, order in ORDERS.items()
        }
        found["four_point_by_width"] = gathered("width", at_aspect)
        return Outcome(metrics, found)

    def _over_exact(self, order: int) -> Statistic:
        """The last layer's correlator over the exact formula (3.25, 3.43)."""
        exact_value = linear_correlator(order, self.width, self.depth)
        return lambda m: correlator(order, self.width)(m)[-1] / exact_value

    def _drawn(self, trial: Trial, width: int, depth: int, networks: int) -> Tensor:
        def sample(count: int, generator: torch.Generator) -> Iterator[Tensor]:
            drawn = sampling.single_input(self.layer, 1.0, count, width, depth, generator)
            return map(preactivation_moments, drawn)

        return drawn_blocks(trial, f"linear {width} {depth}", networks, width, sample)


def correlator(order: int, width: int) -> Statistic:
    """``G_2m / G_2^m`` per layer of a linear network, m = ``order`` of 2 or 3 (3.44).

    All index pairings have one coefficient, so that ``E[(mean z²)^m] = c_2m(n) G_2m``.
    """
    factor = linear_correlator(order, width, 2)
    return lambda m: m[:, order] / m[:, 0] ** order / factor


class TwoInputs:
    """Angle between two inputs of wide critical ReLU networks against its recursion (§5.5).

    Args:
        width, depth, networks: of the ensemble.
        cosine: between the inputs in the first layer.
        fit_from: first layer of the fitted exponent.
    """

    def __init__(
        self,
        width: int = 1024,
        depth: int = 64,
        networks: int = 400,
        cosine: float = 0.5,
        fit_from: int = 16,
    ) -> None:
        self.layer = critical_layer(named("relu"))
        self.width = width
        self.depth = depth
        self.networks = networks
        self.cosine = cosine
        self.fit_from = fit_from

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"angle_over_theory", "angle"}

    def run(self, trial: Trial) -> Outcome:
        def sample(count: int, generator: torch.Generator) -> Iterator[Tensor]:
            drawn = sampling.two_inputs(
                self.layer, 1.0, self.cosine, count, self.width, self.depth, generator
            )
            return map(mean_angle, drawn)

        blocks = drawn_blocks(trial, "two inputs", self.networks, 2 * self.width, sample)
        cosine = self.cosine
        for _ in range(self.depth - 1):
            cosine = relu_cosine(cosine)
        expected = math.acos(cosine)
        metrics = {"angle_over_theory": measured(blocks, lambda m: m[-1, 0] / expected)}
        fit = slice(self.fit_from - 1, self.depth)
        found = series("layer", range(self.fit_from, self.depth + 1), blocks, lambda m: m[fit, 0])
        return Outcome(metrics, {"angle": found})


def mean_angle(z: Tensor) -> Tensor:
    """Mean over networks of the angle between two inputs; (2, networks, n) to (1,)."""
    a, b = z.double()
    cosine = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
    return torch.arccos(cosine.clamp(-1, 1)).mean().reshape(1)
