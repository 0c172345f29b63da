"""What needs no network: critical initialisations and the flow of the kernel with depth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from experiments.dl_theory.activations import named
from experiments.dl_theory.kernel import (
    Critical,
    Layer,
    averages,
    critical_layer,
    critical_points,
    flow,
    relu_cosine,
)
from harness.procedures.base import Outcome, Trial, exact
from harness.records import Measured, Series


class Criticality:
    """Critical points of an activation, and from which sides their fixed points attract.

    Args:
        activation: name of the activation.
        displacement: relative distance from K* at which the kernel's drift is taken.
    """

    def __init__(self, activation: str, displacement: float = 1e-3) -> None:
        self.activation = named(activation)
        self.displacement = displacement

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {
            "critical_points",
            "critical_weight_variance",
            "critical_bias_variance",
            "fixed_point",
            "susceptibility_error",
            "one_sidedness",
        }

    def run(self, trial: Trial) -> Outcome:
        points = critical_points(self.activation)
        metrics = {"critical_points": exact(len(points))}
        if points:
            metrics |= self._of(points[0])
        return Outcome(metrics)

    def _of(self, point: Critical) -> dict[str, Measured]:
        metrics = {
            "critical_weight_variance": exact(point.weight_variance),
            "critical_bias_variance": exact(point.bias_variance),
            "fixed_point": exact(point.kernel),
        }
        if point.kernel and self.activation.slopes is None:
            at = averages(self.activation, point.kernel)
            errors = (abs(point.weight_variance * chi - 1) for chi in (at.slope, at.gain))
            metrics["susceptibility_error"] = exact(max(errors))
            metrics["one_sidedness"] = exact(one_sidedness(self._attraction(point)))
        return metrics

    def _attraction(self, point: Critical) -> tuple[float, float]:
        """Drift back to K* in one layer, relative to K*, from above and from below."""
        back = []
        for side in (1, -1):
            kernel = point.kernel * (1 + side * self.displacement)
            square = averages(self.activation, kernel).square
            after = point.bias_variance + point.weight_variance * square
            back.append(side * (kernel - after) / point.kernel)
        return back[0], back[1]


def one_sidedness(attraction: tuple[float, float]) -> float:
    """1 if a fixed point attracts from one side and repels to the other, 0 if both are alike."""
    above, below = attraction
    return abs(above - below) / (abs(above) + abs(below))


class KernelFlow:
    """Kernel and perturbations of it over the depth of an infinitely wide network.

    Args:
        activation: name of the activation.
        weight_scale: C_W over its critical value; 1 is critical.
        first_kernel: K of the first layer.
        depth: last layer.
        fit_from: first layer of the series; about 40 layers spaced logarithmically from there.
        cosine: between two inputs in the first layer (followed for ReLU only).
    """

    def __init__(
        self,
        activation: str,
        weight_scale: float = 1.0,
        first_kernel: float = 1.0,
        depth: int = 10_000,
        fit_from: int = 100,
        cosine: float = 0.5,
    ) -> None:
        self.activation = activation
        self.weight_scale = weight_scale
        self.first_kernel = first_kernel
        self.depth = depth
        self.fit_from = fit_from
        self.cosine = cosine

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        names = {"kernel", "parallel", "perpendicular", "depth_times_kernel", "decay_exponent"}
        relu = init_args.get("activation") == "relu"
        return names | ({"angle", "depth_times_angle"} if relu else set())

    def run(self, trial: Trial) -> Outcome:
        critical = critical_layer(named(self.activation))
        weight = self.weight_scale * critical.weight_variance
        layer = Layer(critical.activation, critical.bias_variance, weight)
        along = flow(layer, self.first_kernel, self.depth)
        layers = self._layers()
        columns = {
            "kernel": along.kernel,
            "parallel": along.parallel,
            "perpendicular": along.perpendicular,
        }
        if self.activation == "relu":
            columns["angle"] = self._angles()
        series = {name: over_layers(layers, column) for name, column in columns.items()}
        first, last = along.kernel[layers[0] - 1], along.kernel[-1]
        exponent = math.log(last / first) / math.log(self.depth / layers[0])
        metrics = {
            "depth_times_kernel": exact(self.depth * last),
            "decay_exponent": exact(exponent),
        }
        if self.activation == "relu":
            metrics["depth_times_angle"] = exact(self.depth * columns["angle"][-1])
        return Outcome(metrics, series)

    def _layers(self) -> list[int]:
        ratio = self.depth / self.fit_from
        return sorted({round(self.fit_from * ratio ** (i / 39)) for i in range(40)})

    def _angles(self) -> list[float]:
        """Angle between two inputs, whatever C_W (a scale-invariant layer keeps angles)."""
        cosine, angles = self.cosine, []
        for _ in range(self.depth):
            angles.append(math.acos(cosine))
            cosine = relu_cosine(cosine)
        return angles


def over_layers(layers: list[int], column: list[float]) -> Series:
    """The values of some layers (counted from 1) of a column that has all of them."""
    return Series(over="layer", x=[float(at) for at in layers], y=[column[at - 1] for at in layers])
