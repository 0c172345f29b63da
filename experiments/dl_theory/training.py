"""Networks in training: how far the tangent kernel moves, and what it predicts (ch. 10-11).

Deep critical tanh networks (C_b = 0, C_W = 1) without biases and with one output, many of one
shape side by side. With weights ``W / sqrt(n)`` and W of variance C_W, one learning rate for W is
the book's λ_W / n. The activation is smooth, as the derivatives of the tangent kernel need it.

The loop is its own: gradients of a few examples are of low rank, and a step adds them to the
weights without ever writing them out. ``train`` has gradients as large as the weights, which
makes a step of these networks take two to five times as long.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.dl_theory.activations import Activation, Pointwise, named
from experiments.dl_theory.ensembles import gathered
from harness.procedures.base import Diverged, Outcome, Progress, Trial
from harness.records import Measured
from harness.seeding import derive

ACTIVATION = named("tanh")  # σ'(0) = 1: critical at C_W = 1


class Networks:
    """``members`` networks ``features -> width -> … -> 1`` of ``depth`` weight layers."""

    def __init__(
        self, members: int, features: int, width: int, depth: int, generator: torch.Generator
    ) -> None:
        sizes = [features, *[width] * (depth - 1), 1]
        self.weights = [
            torch.randn(members, after, before, generator=generator, device=generator.device)
            for before, after in pairwise(sizes)
        ]

    def layers(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """What enters each weight layer, and the pre-activations it makes of it.

        ``x`` is (inputs, features); both lists hold (members, inputs, n of the layer).
        """
        entering, made = [x.expand(len(self.weights[0]), *x.shape)], []
        for weights in self.weights:
            made.append(entering[-1] @ weights.mT / math.sqrt(entering[-1].shape[-1]))
            entering.append(ACTIVATION.value(made[-1]))
        return entering[:-1], made

    def outputs(self, x: Tensor) -> Tensor:
        """Outputs on ``x``, (members, inputs)."""
        return self.layers(x)[1][-1][..., 0]

    def sensitivities(self, made: list[Tensor]) -> list[Tensor]:
        """d output / d pre-activation of every layer, of the shapes of ``made``."""
        found = [torch.ones_like(made[-1])]
        for weights, z in zip(reversed(self.weights[1:]), reversed(made[:-1]), strict=True):
            back = found[0] @ weights / math.sqrt(z.shape[-1])
            found.insert(0, back * ACTIVATION.first(z))
        return found

    def tangent_kernel(self, x: Tensor) -> Tensor:
        """Empirical tangent kernel with λ_W = 1, (members, inputs, inputs)."""
        entering, made = self.layers(x)
        pairs = zip(self.sensitivities(made), entering, strict=True)
        terms = [(s @ s.mT) * (a @ a.mT) / a.shape[-1] for s, a in pairs]
        return torch.stack(terms).sum(0)

    def step(self, x: Tensor, y: Tensor, rate: float) -> None:
        """One step of gradient descent on half the summed squared error."""
        entering, made = self.layers(x)
        error = made[-1] - y[:, None]
        pairs = zip(self.sensitivities(made), entering, strict=True)
        for weights, (sensitivity, active) in zip(self.weights, pairs, strict=True):
            scaled = error * sensitivity / math.sqrt(active.shape[-1])
            weights.baddbmm_(scaled.mT, active, alpha=-rate)


def limit_kernel(x: Tensor, depth: int, activation: Activation = ACTIVATION) -> Tensor:
    """Infinite-width tangent kernel of the output with C_W = 1, (inputs, inputs).

    ``Θ' = <σσ> + C_W <σ'σ'> Θ`` (λ_b = 0, λ_W = 1) from ``Θ = x.x / n_0``, beside the kernel
    recursion ``K' = C_W <σσ>`` (5.4). ``x`` is (inputs, features).
    """
    kernel = (x @ x.T / x.shape[1]).double()
    tangent = kernel
    for _ in range(depth - 1):
        product = pair_average(activation.value, kernel)
        tangent = product + pair_average(activation.first, kernel) * tangent
        kernel = product
    return tangent


def pair_average(f: Pointwise, kernel: Tensor, nodes: int = 40) -> Tensor:
    """``<f(z_a) f(z_b)>_K`` for every pair of inputs, by Gauss-Hermite quadrature.

    For smooth f only. ``kernel`` is a covariance (inputs, inputs) in double precision.
    """
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    g = torch.as_tensor(points, device=kernel.device)
    w = torch.as_tensor(weights / weights.sum(), device=kernel.device)
    scale = kernel.diagonal().sqrt()
    cosine = (kernel / torch.outer(scale, scale)).clamp(-1, 1)[..., None, None]
    second = cosine * g[:, None] + (1 - cosine**2).sqrt() * g
    left = f(scale[:, None] * g) * w
    inner = (f(scale[:, None, None] * second) * w).sum(-1)
    return (left[:, None] * inner).sum(-1)


def relative_change(before: Tensor, after: Tensor) -> Tensor:
    """Frobenius norm of the change over that before, per network; (R, N, N) to (R,)."""
    change: Tensor = torch.linalg.matrix_norm(after - before) / torch.linalg.matrix_norm(before)
    return change


class Training:
    """Train ensembles of growing width, and of growing depth, on a small task.

    Args:
        widths: ascending; trained at ``depth``.
        depth: weight layers.
        depths: trained at the middle one of the widths.
        members: networks of each shape.
        steps: of full-batch gradient descent.
        rate: learning rate times the largest eigenvalue of the limit's kernel.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128, 256),
        depth: int = 3,
        depths: Sequence[int] = (2, 3, 4, 6),
        members: int = 48,
        steps: int = 200,
        rate: float = 0.5,
    ) -> None:
        self.widths = sorted(widths)
        self.depth = depth
        self.depths = sorted(depths)
        self.members = members
        self.steps = steps
        self.rate = rate

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"prediction_gap", "train_error", "kernel_change", "kernel_change_by_depth"}

    def run(self, trial: Trial) -> Outcome:
        change: dict[float, Measured] = {}
        errors = []
        for width in self.widths:
            change[width], gap, error = self._trained(trial, width, self.depth)
            errors.append(error)
        middle = self.widths[len(self.widths) // 2]
        by_depth = {float(d): self._trained(trial, middle, d)[0] for d in self.depths}
        metrics = {"prediction_gap": gap, "train_error": max(errors)}
        found = {
            "kernel_change": gathered("width", change),
            "kernel_change_by_depth": gathered("depth", by_depth),
        }
        trained = self.members * (len(self.widths) + len(self.depths))
        return Outcome(metrics, found, trained * self.steps * len(trial.data.train))

    def _trained(self, trial: Trial, width: int, depth: int) -> tuple[Measured, float, float]:
        """Change of the kernel, gap to its prediction, and the squared error left in training."""
        x, y = (trial.data.train.columns[name].to(trial.device) for name in ("x", "y"))
        test = trial.data.test.columns["x"].to(trial.device)
        generator = torch.Generator(trial.device)
        generator.manual_seed(derive(trial.seed, "training", width, depth))
        networks = Networks(self.members, x.shape[1], width, depth, generator)
        kernel = limit_kernel(torch.cat([x, test]), depth)
        train = kernel[: len(x), : len(x)]
        rate = self.rate / float(torch.linalg.eigvalsh(train)[-1])
        before = networks.tangent_kernel(x)
        for _ in range(self.steps):
            networks.step(x, y, rate)
        error = float((networks.outputs(x) - y).square().mean())
        if not math.isfinite(error):
            raise Diverged(f"width {width}, depth {depth}: the training error is {error}")
        change = relative_change(before, networks.tangent_kernel(x)).double()
        spread = float(change.std()) / math.sqrt(self.members)
        decay = torch.linalg.matrix_power(
            torch.eye(len(x), dtype=torch.float64, device=x.device) - rate * train, self.steps
        )
        reached = y.double() - decay @ y.double()
        expected = kernel[len(x) :, : len(x)] @ torch.linalg.solve(train, reached)
        gap = prediction_gap(networks.outputs(test).double(), expected)
        trial.report(Progress(1, 1, {"width": width, "depth": depth, "train_error": error}))
        return Measured(value=float(change.mean()), stderr=spread), gap, error


def prediction_gap(outputs: Tensor, expected: Tensor) -> float:
    """Squared distance of the ensemble mean to a prediction, relative to the prediction's square.

    What the finite ensemble adds by its scatter is taken off, so that the gap of networks whose
    mean is the prediction is 0 on average (and may be negative). ``outputs`` is (members, inputs).
    """
    distance = (outputs.mean(0) - expected).square().mean()
    scatter = outputs.var(0).mean() / len(outputs)
    return float((distance - scatter) / expected.square().mean())
