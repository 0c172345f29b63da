"""The neural tangent kernel of random networks: its mean, its fluctuation, and gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from experiments.dl_theory import networks as sampling
from experiments.dl_theory.activations import named
from experiments.dl_theory.ensembles import drawn_blocks, gathered, series
from experiments.dl_theory.kernel import Layer, critical_layer, flow
from experiments.dl_theory.moments import measured, slope
from harness.procedures.base import Outcome, Trial
from harness.records import Measured


class TangentKernel:
    """Mean and fluctuation of the neural tangent kernel, and of gradients, over depth and width.

    Args:
        activation: name of the activation.
        weight_scale: C_W over its critical value; 1 is critical.
        first_kernel: K of the first layer.
        widths: ascending; the last is the one over whose depth is fitted.
        depth: last layer.
        probe: layer at which widths are compared.
        networks: networks drawn at each width.
    """

    def __init__(
        self,
        activation: str,
        weight_scale: float = 1.0,
        first_kernel: float = 1.0,
        widths: Sequence[int] = (32, 64, 128),
        depth: int = 12,
        probe: int = 4,
        networks: int = 2000,
    ) -> None:
        if not 2 <= probe <= depth:
            raise ValueError(f"the probed layer {probe} needs to lie between 2 and {depth}")
        critical = critical_layer(named(activation))
        weight = weight_scale * critical.weight_variance
        self.layer = Layer(critical.activation, critical.bias_variance, weight)
        self.first_kernel = first_kernel
        self.widths = sorted(widths)
        self.depth = depth
        self.probe = probe
        self.networks = networks

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        names = {"tangent_over_theory", "second_layer_tangent_fluctuation", "gradient_rate"}
        return names | {"tangent", "tangent_fluctuation", "fluctuation_by_width"}

    def run(self, trial: Trial) -> Outcome:
        points: dict[float, Measured] = {}
        for n in self.widths:
            depth = self.depth if n == self.widths[-1] else self.probe
            blocks = self._drawn(trial, n, depth)
            points[n] = measured(blocks, lambda m: fluctuation(m)[self.probe - 1])
        theory = flow(self.layer, self.first_kernel, self.depth)
        layers = range(1, self.depth + 1)
        metrics = {
            "tangent_over_theory": measured(blocks, lambda m: m[-1, 0] / theory.tangent[-1]),
            "second_layer_tangent_fluctuation": measured(blocks, lambda m: n * fluctuation(m)[1]),
            "gradient_rate": measured(blocks, lambda m: slope(layers, m[:, 2].log())),
        }
        found = {
            "tangent": series("layer", layers, blocks, lambda m: m[:, 0]),
            "tangent_fluctuation": series(
                "layers from the first", layers[:-1], blocks, lambda m: n * fluctuation(m)[1:]
            ),
            "fluctuation_by_width": gathered("width", points),
        }
        return Outcome(metrics, found)

    def _drawn(self, trial: Trial, width: int, depth: int) -> Tensor:
        def sample(count: int, generator: torch.Generator) -> Iterator[Tensor]:
            drawn = sampling.derivatives(
                self.layer, self.first_kernel, count, width, depth, generator
            )
            return map(derivative_moments, drawn)

        return drawn_blocks(trial, f"tangent {width}", self.networks, width**2, sample)


def derivative_moments(at: sampling.Derivatives) -> Tensor:
    """Means of the tangent kernel's diagonal, of its square, and of the squared gradient."""
    diagonal = at.tangent.double()
    return torch.stack([diagonal.mean(), diagonal.square().mean(), at.gradient.double().mean()])


def fluctuation(moments: Tensor) -> Tensor:
    """Relative variance of the tangent kernel's diagonal per layer; (layers, 3) to (layers,)."""
    return moments[:, 1] / moments[:, 0] ** 2 - 1
