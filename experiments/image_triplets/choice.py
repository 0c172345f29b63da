"""Choices of people between two images, and what similarities explain of them."""

from __future__ import annotations

import numpy as np
from scipy import stats

from experiments.image_triplets.search import Floats, Triplets


def choices(dissimilarities: Floats, triplets: Triplets) -> Floats:
    """What people would choose as more like the root, read off their judgements.

    Args:
        dissimilarities: (P, n, n), one matrix a person.

    Returns:
        (P, T): 1 for the second image, 0 for the first, 1/2 where both are judged alike.
    """
    first = dissimilarities[:, triplets.root, triplets.first]
    second = dissimilarities[:, triplets.root, triplets.second]
    return (np.sign(first - second) + 1) / 2


def logistic(predictors: Floats, chosen: Floats, tolerance: float = 1e-8) -> Floats:
    """Logistic regressions of choices on the same predictors, by Newton's method.

    Args:
        predictors: (T, k); an intercept is put before them.
        chosen: (P, T), from 0 to 1.
        tolerance: of the last step.

    Returns:
        (P, 1 + k).

    Raises:
        ValueError: there is no triplet.
    """
    if not len(predictors):
        raise ValueError("no triplets were found to regress choices on")
    x = _with_intercept(predictors)
    once = np.ones((1, len(x)))
    beta = np.zeros((len(chosen), x.shape[1]))
    for _ in range(25):
        (step,) = _newton(x, chosen, beta, once)
        beta = beta + step
        if np.abs(step).max() < tolerance:
            break
    return beta


def reweighted(predictors: Floats, chosen: Floats, fitted: Floats, weights: Floats) -> Floats:
    """Coefficients (B, P, 1 + k) with ``weights`` (B, T) of triplets, one Newton step from those
    ``fitted`` (P, 1 + k) without: the first order of a bootstrap, at the price of two products."""
    step = _newton(_with_intercept(predictors), chosen, fitted, weights)
    return fitted + step


def _with_intercept(predictors: Floats) -> Floats:
    return np.column_stack([np.ones(len(predictors)), predictors])


def _newton(x: Floats, chosen: Floats, beta: Floats, weights: Floats) -> Floats:
    """Steps (B, P, k) from ``beta`` (P, k), with each of the weights (B, T)."""
    people, size = beta.shape
    p = 1 / (1 + np.exp(-(beta @ x.T)))
    slopes = ((chosen - p)[..., None] * x).swapaxes(0, 1).reshape(len(x), -1)
    curves = ((p * (1 - p))[..., None, None] * (x[:, :, None] * x[:, None, :])).swapaxes(0, 1)
    # hardly any ridge: it keeps a regression whose choices separate from running away
    ridge = 1e-6 * weights.sum(1)[:, None, None]
    slope = (weights @ slopes).reshape(-1, people, size) - ridge * beta
    curvature = (weights @ curves.reshape(len(x), -1)).reshape(-1, people, size, size)
    step: Floats = np.linalg.solve(curvature + ridge[..., None] * np.eye(size), slope[..., None])
    return step[..., 0]


def standardised(*differences: Floats) -> Floats:
    """Predictors (T, k): differences over their root mean square, whose mean is zero over both
    orders of a pair."""
    columns = np.column_stack(differences)
    scaled: Floats = columns / np.sqrt((columns**2).mean(0))
    return scaled


def image_weights(triplets: Triplets, images: int, draws: int, seed: int) -> Floats:
    """Weights (draws, T) of triplets when images are drawn with replacement.

    A triplet counts as often as its three images can be drawn for it: the product of how often
    each of them was drawn.
    """
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(images, np.full(images, 1 / images), draws).astype(np.float64)
    product: Floats = drawn[:, triplets.root] * drawn[:, triplets.first] * drawn[:, triplets.second]
    return product


def accuracy(difference: Floats, chosen: Floats) -> Floats:
    """Share (P,) of choices that the sign of a difference (T,) foretells; a tie is half right."""
    foretold = (np.sign(difference) + 1) / 2
    share: Floats = (1 - np.abs(foretold - chosen)).mean(1)
    return share


def ceiling(chosen: Floats) -> float:
    """Share of a person's choices that the majority of the other people foretells (P, T)."""
    others = chosen.sum(0) - chosen - (len(chosen) - 1) / 2
    return float(np.mean(1 - np.abs((np.sign(others) + 1) / 2 - chosen)))


def two_sided(t: Floats, df: float) -> Floats:
    """p of a t statistic."""
    p: Floats = 2 * stats.t.sf(np.abs(t), df)
    return p


def holm(p: Floats) -> Floats:
    """p of several tests, adjusted by Holm's step-down procedure."""
    order = np.argsort(p, kind="stable")
    factors = len(p) - np.arange(len(p))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * factors))
    return adjusted


def rank_correlation(one: Floats, other: Floats) -> float:
    """Spearman's; 0 where one of them is constant."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(stats.spearmanr(one, other).statistic)


def upper(matrix: Floats) -> Floats:
    """Entries above the diagonal, which are all that a symmetric matrix says."""
    entries: Floats = matrix[np.triu_indices(len(matrix), 1)]
    return entries
