"""The laws of random functions that the theory predicts, against networks and against integrals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from baselines import nngp
from experiments.scale_mixture_nngp import networks as nets
from experiments.scale_mixture_nngp.networks import Problem
from experiments.scale_mixture_nngp.priors import (
    Array,
    BurrXII,
    InverseGamma,
    importance_predictive,
)
from harness.procedures.base import Outcome, Progress, Trial, exact
from harness.records import Measured
from harness.seeding import derive

OUTER = 0.05  # a right law puts this share of the networks into its two tails together


def against(levels: Array) -> dict[str, float | Measured]:
    """How far probability levels (a law's CDF at what was drawn) are from uniform.

    ``distance`` is Kolmogorov and Smirnov's, ``tail_share`` the share of draws in the law's outer
    5 %, with its standard error under the law.
    """
    in_tails = float(np.mean((levels < OUTER / 2) | (levels > 1 - OUTER / 2)))
    stderr = math.sqrt(OUTER * (1 - OUTER) / len(levels))
    return {
        "distance": float(stats.kstest(levels, "uniform").statistic),
        "tail_share": Measured(value=in_tails, stderr=stderr),
    }


class PriorLaw:
    """Outputs of untrained networks at several inputs: are they jointly Student t?

    Args:
        constant_scale: give all networks the readout variance ``b / a`` (a control).
        a, b: parameters of the inverse gamma prior.
        networks: how many are drawn.
        width: units of each hidden layer.
        depth: hidden layers.
        inputs: points at which the networks are evaluated.
        features: dimension of the inputs.
        batch: networks drawn at once.
    """

    def __init__(
        self,
        constant_scale: bool = False,
        a: float = 2.0,
        b: float = 2.0,
        networks: int = 20000,
        width: int = 512,
        depth: int = 2,
        inputs: int = 5,
        features: int = 10,
        batch: int = 500,
    ) -> None:
        self.constant_scale = constant_scale
        self.a, self.b = a, b
        self.networks, self.width, self.depth = networks, width, depth
        self.inputs, self.features, self.batch = inputs, features, batch

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"distance", "tail_share", "joint_distance"}

    def run(self, trial: Trial) -> Outcome:
        rng = np.random.default_rng(derive(trial.seed, "inputs"))
        points = nets.sphere(rng, self.inputs, self.features)
        x = torch.from_numpy(points).to(trial.device)
        scales = nets.draw_scales(rng, self.networks, self.a, self.b, self.constant_scale)
        generator = torch.Generator(trial.device).manual_seed(derive(trial.seed, "networks"))
        parts = []
        for start in range(0, self.networks, self.batch):
            part = torch.from_numpy(scales[start : start + self.batch]).to(x)
            hidden = nets.features(x, len(part), self.depth, self.width, generator)
            parts.append(nets.outputs(hidden, part, generator)[0].cpu())
            trial.report(Progress(start + len(part), self.networks))
        return Outcome(self._metrics(torch.cat(parts), x))

    def _metrics(self, f: Tensor, x: Tensor) -> dict[str, float | Measured]:
        """One output for the marginal law; for the joint one ``f^T K^-1 f``, which has an F law."""
        kernel = nngp.dense(x, x, self.depth).nngp.cpu() * self.b / self.a
        first = (f[:, 0] / kernel[0, 0].sqrt()).numpy()
        metrics = against(stats.t.cdf(first, 2 * self.a))
        norms = (f * torch.linalg.solve(kernel, f.T).T).mean(1).numpy()
        joint = stats.f.cdf(norms, self.inputs, 2 * self.a)
        return metrics | {"joint_distance": against(joint)["distance"]}


class TrainedLaw:
    """Outputs of networks that gradient descent has trained to fit a few targets.

    The targets are twice as large as a scale of ``b / a`` would make them, so that a posterior,
    which learns the scale, and gradient descent, which does not, have visibly different laws.

    Args:
        layers: train the ``readout`` alone or ``all`` of the (then one-hidden-layer) network.
        constant_scale: give all networks the readout variance ``b / a`` (a control).
        posterior_scale: draw it from its posterior given the targets, IG(a + n/2, b + q/2), as
            Bayesian inference would and descent does not (a control).
        a, b: parameters of the inverse gamma prior.
        networks: how many are trained.
        width: units of each hidden layer.
        depth: hidden layers; 1 for ``all``.
        examples: training points.
        features: dimension of the inputs.
        tolerance: largest error left on a target.
        max_steps: of gradient descent.
        batch: networks trained at once.
    """

    def __init__(
        self,
        layers: Literal["readout", "all"],
        constant_scale: bool = False,
        posterior_scale: bool = False,
        a: float = 2.0,
        b: float = 2.0,
        networks: int = 2000,
        width: int = 1024,
        depth: int = 1,
        examples: int = 8,
        features: int = 10,
        tolerance: float = 1e-4,
        max_steps: int = 5000,
        batch: int = 100,
    ) -> None:
        if layers == "all" and depth != 1:
            raise ValueError("training all layers is built for one hidden layer")
        self.layers = layers
        self.constant_scale, self.posterior_scale = constant_scale, posterior_scale
        self.a, self.b = a, b
        self.networks, self.width, self.depth = networks, width, depth
        self.examples, self.features = examples, features
        self.tolerance, self.max_steps, self.batch = tolerance, max_steps, batch

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"distance", "tail_share", "posterior_distance"}

    def run(self, trial: Trial) -> Outcome:
        rng = np.random.default_rng(derive(trial.seed, "problem"))
        problem = self.problem(rng)
        generator = torch.Generator(trial.device).manual_seed(derive(trial.seed, "networks"))
        x = torch.from_numpy(problem.everything).float().to(trial.device)
        y = torch.from_numpy(problem.y).to(x)
        limit = nngp.dense(x.double(), x.double(), self.depth)
        scales = self._scales(rng, problem)
        found = []
        for start in range(0, self.networks, self.batch):
            part = torch.from_numpy(scales[start : start + self.batch]).to(x)
            trained = self._train(x, y, part, limit, generator)
            found.append(trained[:, self.examples].double().cpu().numpy())
            trial.report(Progress(start + len(part), self.networks))
        return Outcome(self._metrics(np.concatenate(found), problem))

    def _scales(self, rng: np.random.Generator, problem: Problem) -> Array:
        a, b = self.a, self.b
        if self.posterior_scale:
            x = torch.from_numpy(problem.everything)
            q = posterior_moments(nngp.dense(x, x, self.depth).nngp.numpy(), problem.y)[2]
            a, b = a + len(problem.y) / 2, b + q / 2
        return nets.draw_scales(rng, self.networks, a, b, self.constant_scale)

    def problem(self, rng: np.random.Generator) -> Problem:
        """Points on the sphere with targets ``N(0, 4 (b / a) K)``, and one point to predict."""
        x, z = nets.sphere(rng, self.examples, self.features), nets.sphere(rng, 1, self.features)
        kernel = nngp.dense(torch.from_numpy(x), torch.from_numpy(x), self.depth).nngp
        normal = rng.standard_normal(self.examples)
        y = 2 * math.sqrt(self.b / self.a) * nngp.cholesky(kernel).numpy() @ normal
        return Problem(x, y, z)

    def _train(
        self, x: Tensor, y: Tensor, scales: Tensor, limit: nngp.Limit, generator: torch.Generator
    ) -> Tensor:
        if self.layers == "readout":
            hidden = nets.features(x, len(scales), self.depth, self.width, generator)
            readout = nets.outputs(hidden, scales, generator)[1]
            readout = nets.train_readout(hidden, readout, y, self.tolerance, self.max_steps)
            return nets.read(hidden, readout)
        n = len(y)
        tangent = limit.nngp[:n, :n] + scales.double()[:, None, None] * limit.below[:n, :n]
        curvature = torch.linalg.eigvalsh(tangent)[:, -1].to(x)
        return nets.train_all(
            x, y, scales, self.width, curvature, self.tolerance, self.max_steps, generator
        )

    def _metrics(self, f: Array, problem: Problem) -> dict[str, float | Measured]:
        x = torch.from_numpy(problem.everything)
        limit = nngp.dense(x, x, self.depth)
        prior = InverseGamma(self.a, self.b)
        mean, variance, q = posterior_moments(limit.nngp.numpy(), problem.y)
        if self.layers == "readout":
            law = stats.t.cdf((f - mean) / math.sqrt(self.b / self.a * variance), 2 * self.a)
        else:
            law = descent_cdf(f, limit, problem.y, prior)
        freedom = 2 * self.a + len(problem.y)
        width = math.sqrt((2 * self.b + q) / freedom * variance)
        bayes = against(stats.t.cdf((f - mean) / width, freedom))
        return against(law) | {"posterior_distance": bayes["distance"]}


def posterior_moments(kernel: Array, y: Array) -> tuple[float, float, float]:
    """Mean and unit-scale variance at the last point given exact targets at the others, and q."""
    n = len(y)
    solved = np.linalg.solve(kernel[:n, :n], np.stack([y, kernel[:n, n]], axis=1))
    mean = float(kernel[n, :n] @ solved[:, 0])
    variance = float(kernel[n, n] - kernel[n, :n] @ solved[:, 1])
    return mean, variance, float(y @ solved[:, 0])


def descent_cdf(
    f: Array, limit: nngp.Limit, y: Array, prior: InverseGamma, nodes: int = 400
) -> Array:
    """CDF at ``f`` (N,) of the output at the last point after training all layers to the end.

    Given the readout variance ``s`` the tangent kernel is ``T = K + s K'`` and the output is
    Gaussian with mean ``T* T^-1 y`` and the variance over initialisations of
    ``f0* - T* T^-1 f0(X)``; the law is the mixture of these over the prior, at the midpoints of
    ``nodes`` equal shares of it.
    """
    n = len(y)
    kernel, below = limit.nngp.numpy(), limit.below.numpy()
    shares = (np.arange(nodes) + 0.5) / nodes
    levels = np.zeros_like(f)
    for s in stats.invgamma.ppf(shares, prior.a, scale=prior.b):
        tangent = kernel + s * below
        weights = np.append(-np.linalg.solve(tangent[:n, :n], tangent[:n, n]), 1.0)
        spread = math.sqrt(s * weights @ kernel @ weights)
        levels += stats.norm.cdf((f + weights[:n] @ y) / spread) / nodes
    return levels


class PosteriorLaw:
    """The closed-form predictive density against integration over the scale, and the reverse.

    A deterministic check on a fixed problem: noisy targets at points of the sphere, and a grid
    of values for a new one.

    Args:
        inference: ``closed-form``; ``prior-scale`` leaves the degrees of freedom and the scale at
            those of the prior (a control); ``importance`` is the paper's weighting of draws from
            the prior, for a Burr prior, which has no closed form.
        a, b: parameters of the inverse gamma prior.
        draws: from the prior, for ``importance``.
        examples: training points.
    """

    def __init__(
        self,
        inference: Literal["closed-form", "prior-scale", "importance"],
        a: float = 2.0,
        b: float = 2.0,
        draws: int = 1000,
        examples: int = 20,
    ) -> None:
        self.inference = inference
        self.a, self.b = a, b
        self.draws, self.examples = draws, examples

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"log_density_error"}

    def run(self, trial: Trial) -> Outcome:
        rng = np.random.default_rng(derive(trial.seed, "problem"))
        n = self.examples
        points = torch.from_numpy(nets.sphere(rng, n + 1, 5))
        kernel = nngp.dense(points, points, 2).nngp.numpy() + 0.1 * np.eye(n + 1)
        y = 1.5 * np.linalg.cholesky(kernel[:n, :n]) @ rng.standard_normal(n)
        mean, variance, q = posterior_moments(kernel, y)
        grid = mean + math.sqrt(variance) * np.linspace(-5, 5, 41)
        arguments = (grid, np.full_like(grid, mean), np.full_like(grid, variance), q, n)
        if self.inference == "importance":
            burr = BurrXII(2.0, 2.0)
            scales = stats.burr12.rvs(burr.c, burr.d, size=self.draws, random_state=rng)
            error = importance_predictive(scales, *arguments)[0] - burr.log_predictive(*arguments)
            return Outcome({"log_density_error": float(np.abs(error).max())})
        truth = np.log([_integrated(v, mean, variance, q, n, self.a, self.b) for v in grid])
        if self.inference == "closed-form":
            density = InverseGamma(self.a, self.b).log_predictive(*arguments)
        else:
            scale = math.sqrt(self.b / self.a * variance)
            density = stats.t.logpdf(grid, 2 * self.a, mean, scale)
        return Outcome({"log_density_error": exact(np.abs(density - truth).max())})


def _integrated(
    value: float, mean: float, variance: float, q: float, n: int, a: float, b: float
) -> float:
    """The predictive density by adaptive quadrature of likelihood times prior over ``ln s``."""
    from scipy.integrate import quad

    mode = math.log((b + q / 2) / (a + n / 2))  # of the posterior of ln s, nearly

    def weight(u: float, extra: float) -> float:
        exponent = -(a + (n + extra) / 2) * (u - mode) - (b + q / 2) * math.exp(-u)
        return math.exp(exponent + (b + q / 2) * math.exp(-mode))

    def joint(u: float) -> float:
        residual = (value - mean) ** 2 / (2 * variance) * math.exp(-u)
        return weight(u, 1.0) * math.exp(-residual - mode / 2)

    span = (mode - 12.0, mode + 12.0)
    options = {"epsabs": 0.0, "epsrel": 1e-10, "points": [mode], "limit": 400}
    above, below = quad(joint, *span, **options)[0], quad(weight, *span, args=(0.0,), **options)[0]
    return float(above / below / math.sqrt(2 * math.pi * variance))
