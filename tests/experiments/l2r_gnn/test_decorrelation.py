"""Decorrelation against loops over the paper's equations, closed forms and scipy."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr

from experiments.l2r_gnn.decorrelation import (
    across,
    correlations,
    covariances,
    dissimilarity,
    effective_share,
    fourier,
    stable_clusters,
    standardised,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_covariances_are_the_equation_written_out():
    g = generator()
    n, d, a = 7, 3, 2
    u, v = (torch.randn(n, d, a, generator=g, dtype=torch.float64) for _ in range(2))
    w = torch.rand(n, generator=g, dtype=torch.float64)
    found = covariances(u, v, w)
    for i in range(d):
        for j in range(d):
            total = torch.zeros(a, a, dtype=torch.float64)
            for k in range(n):
                left = w[k] * u[k, i] - sum(w[m] * u[m, i] for m in range(n)) / n
                right = w[k] * v[k, j] - sum(w[m] * v[m, j] for m in range(n)) / n
                total += torch.outer(left, right) / (n - 1)
            assert float(found[i, j]) == pytest.approx(float(total.square().sum()), rel=1e-9)


def test_covariances_of_coordinates_are_numpys():
    z = np.random.default_rng(0).standard_normal((50, 4))
    found = covariances(*[torch.from_numpy(z)[:, :, None]] * 2, torch.ones(50).double())
    assert np.allclose(found, np.cov(z.T) ** 2)


def test_fourier_functions_approximate_the_gaussian_kernel():
    """E u(x) u(y) over ω, φ is exp(-(x - y)²/2)."""
    z = torch.tensor([[0.0], [0.5], [2.0]], dtype=torch.float64)
    u = fourier(z, 200_000, generator())[:, 0]
    kernel = torch.exp(-((z - z.T) ** 2) / 2)
    torch.testing.assert_close(u @ u.T / u.shape[1], kernel, atol=0.02, rtol=0)


def test_functions_see_a_dependence_that_correlation_does_not():
    """x and x² are uncorrelated; x and an independent number depend on each other in no way."""
    g = generator(1)
    x, other = torch.randn(2, 4000, generator=g, dtype=torch.float64)
    z = standardised(torch.stack([x, x.square(), other], 1))
    equal = torch.ones(len(z), dtype=torch.float64)
    linear = covariances(z[:, :, None], z[:, :, None], equal)
    nonlinear = covariances(fourier(z, 20, g), fourier(z, 20, g), equal)
    assert linear[0, 1] < 0.02
    assert nonlinear[0, 1] > 50 * nonlinear[0, 2]


def test_only_pairs_in_different_clusters_count_and_each_once():
    found = across(torch.tensor([0, 0, 1, 2]))
    assert found.tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]


def test_correlations_are_scipys_and_constants_have_none():
    z = torch.randn(30, 3, generator=generator(), dtype=torch.float64)
    z[:, 2] = 5
    found = correlations(z)
    assert float(found[0, 1]) == pytest.approx(pearsonr(z[:, 0], z[:, 1]).statistic)
    assert found[2].abs().max() == 0


def test_dissimilarity_is_the_deviation_over_environments():
    values = torch.rand(6, 4, 4, generator=generator())
    found = dissimilarity(values.mean(0), values.square().mean(0))
    torch.testing.assert_close(found, values.std(0, correction=0), atol=1e-4, rtol=1e-3)


def test_clusters_join_what_correlates_alike_everywhere():
    """Two groups, each held together by a factor of its own; the factors' correlation changes."""
    g = generator(2)
    moments = torch.zeros(2, 6, 6)
    for share in torch.linspace(-0.9, 0.9, 12):
        first = torch.randn(500, generator=g)
        second = share * first + math.sqrt(1 - share**2) * torch.randn(500, generator=g)
        factors = torch.stack([first, second, first, second, first, second], 1)
        found = correlations(factors + 0.5 * torch.randn(500, 6, generator=g))
        moments += torch.stack([found, found.square()]) / 12
    clusters = stable_clusters(dissimilarity(*moments), 2)
    assert len(clusters.unique()) == 2
    assert torch.equal(clusters[0::2], clusters[:1].expand(3))
    assert torch.equal(clusters[1::2], clusters[1:2].expand(3))


@pytest.mark.parametrize(
    ("weights", "share"), [([1, 1, 1, 1], 1), ([4, 0, 0, 0], 0.25), ([3, 1], 0.8)]
)
def test_effective_sample_size(weights, share):
    assert float(effective_share(torch.tensor(weights).float())) == pytest.approx(share)
