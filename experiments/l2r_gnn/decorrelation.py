"""Nonlinear graph decorrelation: how dependent coordinates of a representation are, and clusters.

Section numbers are those of arXiv 2312.12475. Z is (n, d), one row a graph; W holds n weights.
"""

from __future__ import annotations

import math

import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from torch import Tensor


def fourier(z: Tensor, functions: int, generator: torch.Generator | None = None) -> Tensor:
    """Random Fourier functions √2 cos(ω z + φ) of every coordinate.

    ω is standard normal, φ uniform on [0, 2π); the same functions serve all coordinates.

    Args:
        z: (n, d), standardised coordinates.
        functions: how many.

    Returns:
        (n, d, functions)
    """
    omega = torch.randn(functions, generator=generator, device=z.device, dtype=z.dtype)
    phase = torch.rand(functions, generator=generator, device=z.device, dtype=z.dtype)
    return math.sqrt(2) * torch.cos(z[:, :, None] * omega + 2 * math.pi * phase)


def standardised(z: Tensor) -> Tensor:
    """Every coordinate with mean 0 and deviation 1; constant ones are 0."""
    centred = z - z.mean(0)
    return centred / centred.square().mean(0).sqrt().clamp(min=1e-6)


def covariances(u: Tensor, v: Tensor, weights: Tensor) -> Tensor:
    """Squared norms ‖Σ̂_ij‖² (d, d) of weighted partial cross-covariance matrices.

    Σ̂_ij = 1/(n-1) Σ_n [w_n u(Z_ni) - mean(w u(Z_i))]ᵀ [w_n v(Z_nj) - mean(w v(Z_j))]

    Args:
        u, v: functions of the coordinates, (n, d, a) and (n, d, b).
        weights: (n,), of mean 1.
    """
    n, d, a = u.shape
    left = weights[:, None] * u.flatten(1)
    right = weights[:, None] * v.flatten(1)
    left, right = left - left.mean(0), right - right.mean(0)
    matrix = left.T @ right / (n - 1)
    return matrix.square().view(d, a, d, -1).sum((1, 3))


def weighted_covariances(u: Tensor, v: Tensor, weights: Tensor) -> Tensor:
    """Squared norms (d, d) of covariances under the weights: p = w / Σw, Σ p uᵀv - (Σ p u)ᵀ(Σ p v).

    These vanish where the reweighted coordinates are independent. Those of the paper's equation,
    which weighs before it centres, do so only if the weights do not vary or functions have mean 0.
    """
    d, a = u.shape[1:]
    p = (weights / weights.sum())[:, None]
    left, right = u.flatten(1), v.flatten(1)
    matrix = (p * left).T @ right - (p * left).sum(0)[:, None] * (p * right).sum(0)
    return matrix.square().view(d, a, d, -1).sum((1, 3))


def across(clusters: Tensor) -> Tensor:
    """I (d, d): 1 for i < j in different ``clusters`` (d,), else 0."""
    different = clusters[:, None] != clusters
    return different.triu(1).float()


def correlations(z: Tensor) -> Tensor:
    """Pearson correlations (d, d); constant coordinates correlate with nothing."""
    scaled = standardised(z)
    return scaled.T @ scaled / len(z)


def dissimilarity(mean: Tensor, square: Tensor) -> Tensor:
    """Dis_ij = √mean_m (Corr_m(i,j) - mean Corr(i,j))², over environments m: (d, d).

    Args:
        mean, square: of the correlations (d, d) over the environments.
    """
    return (square - mean.square()).clamp(min=0).sqrt()


def stable_clusters(dissimilarity: Tensor, clusters: int) -> Tensor:
    """Group coordinates whose correlations are stable: cluster numbers (d,).

    Complete linkage: the largest dissimilarity within a cluster is kept small.
    """
    distance = dissimilarity.detach().cpu().double()
    distance = ((distance + distance.T) / 2).fill_diagonal_(0)
    tree = linkage(squareform(distance.numpy(), checks=False), "complete")
    numbers = fcluster(tree, clusters, "maxclust")
    return torch.as_tensor(numbers, dtype=torch.long, device=dissimilarity.device)


def effective_share(weights: Tensor) -> Tensor:
    """Effective sample size (Σw)² / Σw² as a share of the sample: 1 for equal weights."""
    return weights.sum().square() / weights.square().sum() / len(weights)
