"""Exact regression with a scale mixture of NNGPs, hyper-parameters of maximal evidence."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from baselines import nngp
from experiments.scale_mixture_nngp.priors import (
    Array,
    BurrXII,
    Constant,
    InverseGamma,
    ScalePrior,
)
from harness.loading.splits import Splits
from harness.procedures.base import Outcome, Trial

Prior = Literal["constant", "tuned-constant", "inverse-gamma", "tuned-inverse-gamma", "burr"]
JITTER = 1e-6  # least variance of a latent value
NOISES = tuple(float(10.0**power) for power in range(-6, 5))


@dataclass(frozen=True)
class Setting:
    """One point of the grid, with the spectrum of the kernel and what regression needs of it."""

    weight_std: float
    bias_std: float
    noise: float
    prior: ScalePrior
    values: Array
    vectors: Array
    evidence: float

    def q(self, y: Array, noise: float) -> float:
        """``y^T (K + noise I)^-1 y``."""
        return float(np.sum((self.vectors.T @ y) ** 2 / (self.values + noise)))


class Regression:
    """Evidence maximised over a grid, then the predictive density of every test target.

    ``nll`` is that of a new target, noise included; ``nll_latent`` evaluates as the released code
    does: the density of the latent function, in the t law's scale a q without the noise.

    Args:
        prior: on the variance of the readout weights; ``constant`` is 1, the parameters of those
            that are ``tuned`` have maximal evidence.
        a: shape of the inverse gamma prior.
        b: scale of the inverse gamma prior.
        shapes: values of a, where the prior is tuned.
        burr: values of both parameters of the Burr prior, chosen by evidence.
        depth: hidden layers.
        weight_stds: grid of the standard deviation of weights.
        bias_stds: likewise of biases.
        noises: likewise of the noise's variance, as a multiple of the readout variance.
        max_train: at most so many training rows, the first ones of a random order.
    """

    def __init__(
        self,
        prior: Prior,
        a: float = 2.0,
        b: float = 2.0,
        shapes: Sequence[float] = (1.0, 2.0, 4.0, 16.0, 64.0, 256.0, 1024.0),
        burr: Sequence[float] = (1.0, 2.0, 3.0),
        depth: int = 4,
        weight_stds: Sequence[float] = (1.0, 1.4, 2.0),
        bias_stds: Sequence[float] = (0.0, 0.3, 1.0),
        noises: Sequence[float] = NOISES,
        max_train: int | None = None,
    ) -> None:
        candidates: dict[Prior, list[ScalePrior]] = {
            "constant": [Constant(1.0)],
            "tuned-constant": [Constant()],
            "inverse-gamma": [InverseGamma(a, b)],
            "tuned-inverse-gamma": [InverseGamma(shape, None) for shape in shapes],
            "burr": [BurrXII(c, d) for c, d in itertools.product(burr, burr)],
        }
        self.priors = candidates[prior]
        self.depth = depth
        self.kernels = list(itertools.product(weight_stds, bias_stds))
        self.noises = list(noises)
        self.max_train = max_train

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"nll", "nll_latent", "rmse", "evidence", "noise"}

    def run(self, trial: Trial) -> Outcome:
        train, test, std = standardised(trial.data, self.max_train, trial.seed)
        x = torch.from_numpy(train[0]).to(trial.device)
        best = self.best(x, train[1])
        z = torch.from_numpy(test[0]).to(x)
        mean, variance, q = self.predict(best, x, z, train[1])

        def nll(variance: Array, q: float) -> float:
            density = best.prior.log_predictive(test[1], mean, variance, q, len(x))
            return float(-density.mean() + np.log(std))

        released = best.q(train[1], JITTER) if isinstance(best.prior, InverseGamma) else q
        return Outcome(
            {
                "nll": nll(variance + best.noise, q),
                "nll_latent": nll(np.maximum(variance, JITTER), released),
                "rmse": float(std * np.sqrt(np.mean((mean - test[1]) ** 2))),
                "evidence": best.evidence / len(x) - float(np.log(std)),
                "noise": best.noise,
            }
        )

    def best(self, x: torch.Tensor, y: Array) -> Setting:
        """The grid point of maximal evidence; one eigendecomposition serves all noises."""
        found: Setting | None = None
        for weight_std, bias_std in self.kernels:
            kernel = nngp.dense(x, x, self.depth, weight_std**2, bias_std**2).nngp
            values, vectors = (part.cpu().numpy() for part in torch.linalg.eigh(kernel))
            values = np.maximum(values, 0.0)  # negative only by rounding
            squares = (vectors.T @ y) ** 2
            for noise, prior in itertools.product(self.noises, self.priors):
                q = float(np.sum(squares / (values + noise)))
                log_det = float(np.sum(np.log(values + noise)))
                evidence = prior.log_evidence(q, log_det, len(y))
                if found is None or evidence > found.evidence:
                    closed = prior.fitted(q, len(y))
                    found = Setting(weight_std, bias_std, noise, closed, values, vectors, evidence)
        assert found is not None
        return found

    def predict(
        self, setting: Setting, x: torch.Tensor, z: torch.Tensor, y: Array
    ) -> tuple[Array, Array, float]:
        """Mean (T,) and variance (T,) of the latent function at unit scale, and ``q``."""
        arguments = (self.depth, setting.weight_std**2, setting.bias_std**2)
        cross = nngp.dense(z, x, *arguments).nngp.cpu().numpy() @ setting.vectors
        prior = nngp.dense_variance(z, *arguments).cpu().numpy()
        spectrum = setting.values + setting.noise
        coefficients = setting.vectors.T @ y
        mean = cross @ (coefficients / spectrum)
        explained = np.sum(cross**2 / spectrum, axis=1)
        variance = np.maximum(prior - explained, 0.0)
        return mean, variance, setting.q(y, setting.noise)


def standardised(
    splits: Splits, max_train: int | None, seed: int
) -> tuple[tuple[Array, Array], tuple[Array, Array], float]:
    """Training and test inputs and targets in units of the training part, and the target's unit."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(splits.train), generator=generator)
    train = splits.train[order if max_train is None else order[:max_train]]
    test = splits.test[torch.arange(len(splits.test))]
    x, y = train["x"].double().numpy(), train["y"].double().numpy()
    centre, spread = x.mean(0), x.std(0)
    spread = np.where(spread > 0, spread, 1.0)  # a constant column becomes zeros
    std = float(y.std())
    test_x = (test["x"].double().numpy() - centre) / spread
    test_y = (test["y"].double().numpy() - y.mean()) / std
    return ((x - centre) / spread, (y - y.mean()) / std), (test_x, test_y), std
