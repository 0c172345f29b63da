"""Scale priors against scipy's densities, direct integration, and the rules of probability."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from experiments.scale_mixture_nngp.priors import (
    BurrXII,
    Constant,
    InverseGamma,
    importance_predictive,
)

N = 6


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    """A covariance of N + 1 targets, and the targets."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(N + 1, N + 1))
    return root @ root.T + np.eye(N + 1), 3 * rng.normal(size=N + 1)


def summary(covariance: np.ndarray, y: np.ndarray) -> tuple[float, float, int]:
    q = float(y @ np.linalg.solve(covariance, y))
    return q, float(np.linalg.slogdet(covariance)[1]), len(y)


def test_inverse_gamma_evidence_is_the_multivariate_t_density(data) -> None:
    covariance, y = data
    prior = InverseGamma(1.5, 0.7)
    expected = stats.multivariate_t.logpdf(y, shape=0.7 / 1.5 * covariance, df=3.0)
    assert prior.log_evidence(*summary(covariance, y)) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("prior", [InverseGamma(1.5, 0.7), BurrXII(2, 3), BurrXII(1, 1)])
def test_predictive_density_is_the_ratio_of_evidences(prior, data) -> None:
    """p(y* | y) = p(y, y*) / p(y), which ties mean, variance and degrees of freedom together."""
    covariance, y = data
    q, log_det, n = summary(covariance[:N, :N], y[:N])
    weights = np.linalg.solve(covariance[:N, :N], covariance[:N, N])
    mean, variance = weights @ y[:N], covariance[N, N] - weights @ covariance[:N, N]
    found = prior.log_predictive(y[N:], np.array([mean]), np.array([variance]), q, n)
    ratio = prior.log_evidence(*summary(covariance, y)) - prior.log_evidence(q, log_det, n)
    assert found[0] == pytest.approx(ratio, abs=1e-6)


@pytest.mark.parametrize("c, d", [(1.0, 1.0), (2.0, 3.0), (3.0, 2.0)])
def test_burr_evidence_is_the_integral_over_the_prior(c, d, data) -> None:
    covariance, y = data

    def joint(s: float) -> float:
        density = stats.multivariate_normal.pdf(y, cov=s * covariance)
        return float(density * stats.burr12.pdf(s, c, d))

    evidence = sum(quad(joint, *ends, epsrel=1e-10)[0] for ends in ((0, 1), (1, 10), (10, np.inf)))
    found = BurrXII(c, d).log_evidence(*summary(covariance, y))
    assert found == pytest.approx(math.log(evidence), abs=1e-6)


def test_burr_nodes_follow_a_posterior_that_many_targets_make_narrow() -> None:
    s, log_weights, _ = BurrXII(2, 2).posterior(q=30_000.0, n=10_000)
    weights = np.exp(log_weights)
    mean = weights @ s
    assert weights.sum() == pytest.approx(1)
    assert mean == pytest.approx(3, rel=1e-3)
    spread = math.sqrt(weights @ (s - mean) ** 2)
    assert spread == pytest.approx(3 * math.sqrt(2 / 10_000), rel=0.01)


def test_tuned_constant_has_the_largest_evidence_of_all_constants(data) -> None:
    tuned = Constant().log_evidence(*summary(*data))
    others = [Constant(s).log_evidence(*summary(*data)) for s in np.geomspace(0.01, 100, 400)]
    assert tuned >= max(others)
    assert tuned == pytest.approx(max(others), abs=1e-2)


def test_no_mixture_has_more_evidence_than_the_tuned_constant(data) -> None:
    """Why the prior's own parameters must not be tuned by evidence: they would collapse."""
    tuned = Constant().log_evidence(*summary(*data))
    assert InverseGamma(2, 2).log_evidence(*summary(*data)) < tuned
    q, _, n = summary(*data)
    narrow = InverseGamma(1e6, 1e6 * q / n).log_evidence(*summary(*data))
    assert narrow == pytest.approx(tuned, abs=1e-4)


def test_narrow_inverse_gamma_predicts_like_a_constant(data) -> None:
    y, mean, variance = np.array([0.5, 2.0]), np.zeros(2), np.array([1.0, 2.0])
    q, _, n = summary(*data)
    narrow = InverseGamma(1e8, 1e8).log_predictive(y, mean, variance, q, n)
    assert narrow == pytest.approx(stats.norm.logpdf(y, mean, np.sqrt(variance)), abs=1e-5)


def test_importance_sampling_converges_to_the_closed_form(data) -> None:
    q, _, n = summary(*data)
    y, mean, variance = np.linspace(-4, 4, 9), np.zeros(9), np.ones(9)
    rng = np.random.default_rng(0)
    scales = stats.invgamma.rvs(2.0, scale=2.0, size=400_000, random_state=rng)
    found, effective = importance_predictive(scales, y, mean, variance, q, n)
    expected = InverseGamma(2.0, 2.0).log_predictive(y, mean, variance, q, n)
    assert found == pytest.approx(expected, abs=0.02)
    assert 1000 < effective < len(scales)


def test_importance_sampling_survives_weights_that_underflow() -> None:
    scales = np.array([1.0, 2.0])
    one = np.ones(1)
    density, effective = importance_predictive(scales, one, 0 * one, one, q=1e5, n=10)
    assert np.isfinite(density).all()
    assert effective == pytest.approx(1)
    assert density[0] == pytest.approx(stats.norm.logpdf(1, 0, math.sqrt(2)))
