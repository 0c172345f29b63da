"""Sparse variational classification with an NNGP (SVGP) or its inverse gamma mixture (SVTP).

``C`` latent functions share a kernel, ``M`` inducing inputs and, in SVTP, one scale ``s``. With
``s ~ IG(a', b')`` and ``u_c | s ~ N(mu_c, s diag(v_c))`` as the posterior's form, a latent value is
``f_c | s ~ N(A mu_c, s (A diag(v_c) A^T + B))``, where ``A = K_fu K_uu^-1`` and ``B`` is what the
inducing values leave of the prior's variance. SVGP is the same with ``s = 1``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Gamma
from torch.optim.lr_scheduler import CosineAnnealingLR

from baselines import nngp
from experiments.scale_mixture_nngp.data import Images
from harness.loading.splits import Batch, Tensors
from harness.procedures.base import Outcome, Trial
from harness.procedures.recipe import At, Recipe
from harness.procedures.training import train
from harness.seeding import seed_all

Network = Literal["dense", "convolutional"]


class Latent(NamedTuple):
    """Means and, at unit scale, variances of the latent values: (N, C) each."""

    mean: Tensor
    variance: Tensor


class SparseProcess(nn.Module):
    """The variational posterior, with a trainable kernel and trainable inducing inputs.

    Args:
        inducing: initial inducing inputs, (M, 1, H, W).
        classes: latent functions C.
        heavy_tailed: SVTP instead of SVGP.
        network: whose limit the kernel is.
        depth: hidden layers.
        a: shape of the inverse gamma prior.
        b: scale of the inverse gamma prior.
    """

    def __init__(
        self,
        inducing: Tensor,
        classes: int,
        heavy_tailed: bool,
        network: Network = "dense",
        depth: int = 4,
        a: float = 2.0,
        b: float = 2.0,
    ) -> None:
        super().__init__()
        self.heavy_tailed, self.network, self.depth = heavy_tailed, network, depth
        self.a, self.b = a, b
        self.inducing = nn.Parameter(inducing.clone())
        self.log_weight_var = nn.Parameter(inducing.new_zeros(()))
        self.log_bias_var = nn.Parameter(inducing.new_full((), -4.0))
        self.log_readout_var = nn.Parameter(inducing.new_zeros(()))
        self.mu = nn.Parameter(inducing.new_zeros(len(inducing), classes))
        self.log_v = nn.Parameter(inducing.new_zeros(len(inducing), classes))
        self.log_a = nn.Parameter(inducing.new_full((), math.log(a)))
        self.log_b = nn.Parameter(inducing.new_full((), math.log(b)))
        with torch.no_grad():  # the variances that minimise the divergence from the prior
            precision = torch.cholesky_inverse(self.factor()).diagonal()
            self.log_v.sub_(precision.log()[:, None])

    def kernel(self, x: Tensor, z: Tensor) -> Tensor:
        """Covariance at unit scale: (A, 1, H, W), (B, 1, H, W) to (A, B)."""
        variances = (self.log_weight_var.exp(), self.log_bias_var.exp())
        if self.network == "convolutional":
            found = nngp.convolutional(x, z, self.depth, *variances)
        else:
            found = nngp.dense(x.flatten(1), z.flatten(1), self.depth, *variances).nngp
        return self.log_readout_var.exp() * found

    def variance(self, x: Tensor) -> Tensor:
        """The kernel's diagonal: (A, 1, H, W) to (A,)."""
        variances = (self.log_weight_var.exp(), self.log_bias_var.exp())
        if self.network == "convolutional":
            found = nngp.convolutional_variance(x, self.depth, *variances)
        else:
            found = nngp.dense_variance(x.flatten(1), self.depth, *variances)
        return self.log_readout_var.exp() * found

    def factor(self) -> Tensor:
        """Cholesky factor of the inducing inputs' covariance, with a jitter of 1e-6 (M, M)."""
        covariance = self.kernel(self.inducing, self.inducing)
        jitter = 1e-6 * covariance.detach().diagonal().mean()
        return nngp.cholesky(covariance + jitter * torch.eye(len(covariance)).to(covariance))

    def latent(self, x: Tensor, factor: Tensor | None = None) -> Latent:
        """Marginal posterior at inputs (N, 1, H, W), given the scale 1."""
        factor = self.factor() if factor is None else factor
        cross = self.kernel(self.inducing, x)
        half = torch.linalg.solve_triangular(factor, cross, upper=False)
        weights = torch.linalg.solve_triangular(factor.mT, half, upper=True).mT
        left = (self.variance(x) - half.square().sum(0)).clamp_min(1e-12)
        return Latent(weights @ self.mu, left[:, None] + weights.square() @ self.log_v.exp())

    def sample(self, latent: Latent, samples: int) -> Tensor:
        """Latent values with one scale for all of a draw: (samples, N, C)."""
        shape = (samples, *latent.mean.shape)
        normal = torch.randn(shape, dtype=latent.mean.dtype, device=latent.mean.device)
        deviation = latent.variance.sqrt() * normal
        if self.heavy_tailed:
            gamma = Gamma(self.log_a.exp(), 1.0).rsample((samples, 1, 1))
            deviation = deviation * (self.log_b.exp() / gamma).sqrt()
        return latent.mean + deviation

    def divergence(self, factor: Tensor | None = None) -> Tensor:
        """Kullback-Leibler divergence of the posterior from the prior, in nats."""
        factor = self.factor() if factor is None else factor
        precision = torch.cholesky_inverse(factor)
        inducing, classes = self.mu.shape
        a, b = self.log_a.exp(), self.log_b.exp()
        inverse_scale = a / b if self.heavy_tailed else 1.0
        gaussian = 0.5 * (
            2 * classes * factor.diagonal().log().sum()
            - self.log_v.sum()
            - inducing * classes
            + (precision.diagonal()[:, None] * self.log_v.exp()).sum()
            + inverse_scale * (self.mu * (precision @ self.mu)).sum()
        )
        if not self.heavy_tailed:
            return gaussian
        scale = self.a * (self.log_b - math.log(self.b)) - torch.lgamma(a) + math.lgamma(self.a)
        scale = scale + (a - self.a) * torch.digamma(a) + (self.b - b) * a / b
        return gaussian + scale


class Bound(Recipe):
    """The evidence lower bound by ``samples`` draws, turned round: nats per image.

    Args:
        images: in training, that share the divergence from the prior.
        samples: Monte Carlo draws a step.
        settings: of the recipe.
    """

    def __init__(self, images: int, samples: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.images, self.samples = images, samples

    def training_loss(self, model: nn.Module, batch: Batch, at: At) -> Tensor:
        assert isinstance(model, SparseProcess)
        factor = model.factor()
        draws = model.sample(model.latent(batch["x"], factor), self.samples)
        labels = batch["y"].expand(self.samples, -1)[..., None]
        fit = draws.log_softmax(-1).gather(-1, labels).mean()
        return model.divergence(factor) / self.images - fit


class Classification:
    """Fit a sparse process by Adam and test it on clean, corrupted and unseen images.

    Args:
        heavy_tailed: SVTP instead of SVGP.
        a, b: of SVTP's inverse gamma prior; where both are large all tails are Gaussian.
        network: whose limit the kernel is.
        depth: hidden layers.
        inducing: inducing inputs, drawn from the training images class by class.
        epochs: passes over the training images; with 0 the process stays as it starts.
        batch_size: images a step.
        learning_rate: of Adam; falls to zero on a cosine.
        samples: Monte Carlo draws in training.
        test_samples: Monte Carlo draws in testing.
    """

    def __init__(
        self,
        heavy_tailed: bool,
        network: Network = "dense",
        depth: int = 4,
        inducing: int = 100,
        epochs: int = 50,
        batch_size: int = 100,
        learning_rate: float = 1e-2,
        samples: int = 10,
        test_samples: int = 1000,
        a: float = 2.0,
        b: float = 2.0,
    ) -> None:
        self.heavy_tailed, self.network, self.depth = heavy_tailed, network, depth
        self.a, self.b = a, b
        self.inducing, self.epochs, self.batch_size = inducing, epochs, batch_size
        self.learning_rate, self.samples, self.test_samples = learning_rate, samples, test_samples

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        shown = {f"{m}_{s}" for m in ("nll", "accuracy") for s in ("clean", "impulse", "shot")}
        return shown | {"nll_corrupted", "entropy_clean", "entropy_unseen"}

    def run(self, trial: Trial) -> Outcome:
        images: Images = trial.data
        process = self._fitted(trial, images).to(trial.device)
        metrics: dict[str, float] = {}
        with torch.no_grad():
            for name, test in images.tests.items():
                seed_all(trial.seed, "test", name)
                scores = self._score(process, test.to(trial.device))
                metrics |= {f"{metric}_{name}": value for metric, value in scores.items()}
        metrics["nll_corrupted"] = (metrics["nll_impulse"] + metrics["nll_shot"]) / 2
        kept = self.produces({})
        found = {name: value for name, value in metrics.items() if name in kept}
        return Outcome(found, samples=self.epochs * len(images.train))

    def _fitted(self, trial: Trial, images: Images) -> SparseProcess:
        columns = images.train.columns
        seed_all(trial.seed, "inducing")
        start = columns["x"][per_class(columns["y"], self.inducing)]
        classes, kernel = images.dims["classes"], (self.network, self.depth)
        process = SparseProcess(start, classes, self.heavy_tailed, *kernel, self.a, self.b)
        if self.epochs:
            recipe = Bound(
                len(images.train),
                self.samples,
                optimizer=partial(torch.optim.Adam, lr=self.learning_rate),
                schedule=partial(CosineAnnealingLR, T_max=self.epochs),
                epochs=self.epochs,
                batch_size=self.batch_size,
            )
            train(process, images.train, recipe, trial)
        return process

    def _score(self, process: SparseProcess, test: Tensors) -> dict[str, float]:
        """Scores of the predictive distribution, the mean of softmax over draws; in nats."""
        x, y = test.columns["x"], test.columns["y"]
        factor, parts = process.factor(), []
        for images in torch.split(x, self.batch_size):
            draws = process.sample(process.latent(images, factor), self.test_samples)
            log_mean = draws.log_softmax(-1).logsumexp(0) - math.log(self.test_samples)
            parts.append(log_mean)
        log_p = torch.cat(parts)
        return {
            "nll": float(-log_p.gather(1, y[:, None]).mean()),
            "accuracy": float((log_p.argmax(1) == y).double().mean()),
            "entropy": float(-(log_p.exp() * log_p).sum(1).mean()),
        }


def per_class(labels: Tensor, count: int) -> Tensor:
    """Indices of ``count`` random examples, as many of each class as its share asks for.

    Raises:
        ValueError: when there are not that many examples.
    """
    if count > len(labels):
        raise ValueError(f"{count} inducing inputs need as many examples, got {len(labels)}")
    order = torch.randperm(len(labels)).to(labels.device)
    ordered = order[labels[order].argsort(stable=True)]
    # equidistant in the list sorted by class
    picks = torch.arange(count, device=labels.device) * len(labels) // count
    return ordered[picks]
