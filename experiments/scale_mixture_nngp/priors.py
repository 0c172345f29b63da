"""Priors on the variance ``s`` of the readout weights, and what they make of a Gaussian process.

Given ``s`` the targets are ``N(0, s C)`` with ``C = K + noise I``. Everything below depends on the
data through ``q = y^T C^-1 y``, ``log det C`` and the number ``n`` of targets; the predictive
distribution of one new target is a mixture over the posterior of ``s`` of ``N(mean, s variance)``,
with ``mean`` and ``variance`` those of the Gaussian process with ``s = 1``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import gammaln, logsumexp

Array = NDArray[np.float64]


class ScalePrior(Protocol):
    """What regression needs of a prior."""

    def fitted(self, q: float, n: int) -> ScalePrior:
        """With the parameters that were left open, those of maximal evidence."""
        ...

    def log_evidence(self, q: float, log_det: float, n: int) -> float:
        """Log density of the targets."""
        ...

    def log_predictive(self, y: Array, mean: Array, variance: Array, q: float, n: int) -> Array:
        """Log density of new targets, one by one: shape (T,)."""
        ...


def log_gaussian_evidence(s: float | Array, q: float, log_det: float, n: int) -> Array:
    """Log density of ``n`` targets given the scale."""
    return np.asarray(-0.5 * (n * np.log(2 * math.pi * s) + log_det + q / s), float)


@dataclass(frozen=True)
class Constant:
    """The plain NNGP; left open, its scale is ``q / n``."""

    scale: float | None = None

    def fitted(self, q: float, n: int) -> Constant:
        return Constant(q / n) if self.scale is None else self

    def log_evidence(self, q: float, log_det: float, n: int) -> float:
        scale = self.fitted(q, n).scale
        assert scale is not None
        return float(log_gaussian_evidence(scale, q, log_det, n))

    def log_predictive(self, y: Array, mean: Array, variance: Array, q: float, n: int) -> Array:
        scale = self.fitted(q, n).scale
        assert scale is not None
        return np.asarray(stats.norm.logpdf(y, mean, np.sqrt(scale * variance)))


@dataclass(frozen=True)
class InverseGamma:
    """``s ~ IG(a, b)``: a Student t process with ``2 a`` degrees of freedom, shape ``(b/a) K``.

    Left open, b is ``a q / n``.
    """

    a: float = 2.0
    b: float | None = 2.0

    def fitted(self, q: float, n: int) -> InverseGamma:
        return InverseGamma(self.a, self.a * q / n) if self.b is None else self

    def log_evidence(self, q: float, log_det: float, n: int) -> float:
        """The multivariate t density with scale matrix ``(b/a) C``."""
        b = self.fitted(q, n).b
        assert b is not None
        constant = gammaln(self.a + n / 2) - gammaln(self.a) - n / 2 * math.log(2 * math.pi * b)
        return float(constant - log_det / 2 - (self.a + n / 2) * math.log1p(q / (2 * b)))

    def log_predictive(self, y: Array, mean: Array, variance: Array, q: float, n: int) -> Array:
        """A t with ``2 a + n`` degrees of freedom and scale ``(2 b + q) / (2 a + n) variance``."""
        b, freedom = self.fitted(q, n).b, 2 * self.a + n
        assert b is not None
        scale = np.sqrt((2 * b + q) / freedom * variance)
        return np.asarray(stats.t.logpdf(y, freedom, mean, scale))


@dataclass(frozen=True)
class BurrXII:
    """``s`` has the density ``c d s^(c-1) / (1 + s^c)^(d+1)``; integrated numerically."""

    c: float = 2.0
    d: float = 2.0

    def fitted(self, q: float, n: int) -> BurrXII:
        return self

    def log_density(self, log_s: Array) -> Array:
        """Log density of ``ln s``."""
        c, d = self.c, self.d
        return np.asarray(math.log(c * d) + c * log_s - (d + 1) * np.logaddexp(0, c * log_s))

    def posterior(self, q: float, n: int, points: int = 257) -> tuple[Array, Array, float]:
        """Nodes ``s``, their log weights (normalised), and the log of the evidence.

        The evidence lacks the factor ``(2 pi)^(-n/2) det(C)^(-1/2)``. The nodes are equidistant in
        ``ln s`` where the integrand is within e^-40 of its largest value.
        """

        def log_integrand(log_s: Array) -> Array:
            # e^-690 already makes the likelihood vanish; a larger quotient would overflow
            misfit = np.exp(np.minimum(np.log(max(q, 1e-300) / 2) - log_s, 690.0))
            return np.asarray(self.log_density(log_s) - n / 2 * log_s - misfit)

        coarse = np.arange(-45.0, 45.0, 0.02)
        values = log_integrand(coarse)
        near = coarse[values > values.max() - 40]
        nodes = np.linspace(near[0] - 0.02, near[-1] + 0.02, points)
        log_weights = log_integrand(nodes) + math.log(nodes[1] - nodes[0])
        log_weights[[0, -1]] -= math.log(2)
        total = float(logsumexp(log_weights))
        return np.exp(nodes), log_weights - total, total

    def log_evidence(self, q: float, log_det: float, n: int) -> float:
        return self.posterior(q, n)[2] - 0.5 * (n * math.log(2 * math.pi) + log_det)

    def log_predictive(self, y: Array, mean: Array, variance: Array, q: float, n: int) -> Array:
        s, log_weights, _ = self.posterior(q, n)
        given = stats.norm.logpdf(y[:, None], mean[:, None], np.sqrt(s * variance[:, None]))
        return np.asarray(logsumexp(given + log_weights, axis=1))


def importance_predictive(
    scales: Array, y: Array, mean: Array, variance: Array, q: float, n: int
) -> tuple[Array, float]:
    """The paper's inference for any prior: draws from it weighted by their likelihood.

    Args:
        scales: draws of ``s`` from the prior.

    Returns:
        Log density of new targets (T,), and the effective number of draws.
    """
    log_weights = -n / 2 * np.log(scales) - q / (2 * scales)
    log_weights -= logsumexp(log_weights)
    given = stats.norm.logpdf(y[:, None], mean[:, None], np.sqrt(scales * variance[:, None]))
    effective = math.exp(-float(logsumexp(2 * log_weights)))
    return np.asarray(logsumexp(given + log_weights, axis=1)), effective
