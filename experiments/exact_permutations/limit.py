"""The infinite-width limit in closed form: mean, variance, accuracy and ensemble sizes.

Setting: a two-layer ReLU network ``R^k -> R^k`` without biases is trained on the ``k`` standard
basis vectors with targets ``P e_i`` for a permutation ``P``, until the squared loss is zero, and
evaluated on ``x / |x|`` for a binary ``x`` with ``m`` ones. In the limit every output is Gaussian
over initialisations, and by symmetry only ``k`` and ``m`` matter: one mean for the coordinates
where ``P x`` is 1 (*on*), one where it is 0 (*off*), one variance for all, and the coordinates
are independent.

Which kernel gives the mean depends on the parametrisation. With ``f = W2 relu(W1 x / sqrt k) /
sqrt n`` and unit-variance weights (``ntk``) both layers move and it is the neural tangent kernel.
In ordinary layers under one learning rate (``standard``) the output layer's part of the kernel is
``n`` times larger, only that layer moves in the limit, and it is the kernel of the random features.

The training kernels are ``((d - b) I + b 1 1^T) / k`` with ``b = 1/(2 pi)`` and diagonal ``d``
(1 for ``ntk``, 1/2 for ``standard``), so that everything has a closed form by Sherman-Morrison.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr

Parametrization = Literal["ntk", "standard"]
Threshold = Literal["zero", "midpoint"]
Array = NDArray[np.float64]

B = 1 / (2 * math.pi)
DIAGONAL: dict[Parametrization, float] = {"ntk": 1.0, "standard": 0.5}


@dataclass(frozen=True)
class Moments:
    """Mean of an output coordinate where ``P x`` is 1 and where it is 0, and its variance."""

    on: Array
    off: Array
    variance: Array

    def margin(self, threshold: Threshold = "zero") -> tuple[Array, Array]:
        """Distance of the two means from the rounding threshold, positive on the right side."""
        at = 0.0 if threshold == "zero" else (self.on + self.off) / 2
        return self.on - at, at - self.off

    def spread(self, threshold: Threshold = "zero") -> Array:
        """Variance over the squared smaller margin: the models needed for unit signal-to-noise."""
        on, off = self.margin(threshold)
        return np.asarray(self.variance / np.minimum(on, off) ** 2, float)


def moments(k: ArrayLike, ones: ArrayLike, parametrization: Parametrization = "ntk") -> Moments:
    """Mean and variance of the trained output for inputs of length ``k`` with ``ones`` ones.

    With ``s/k`` the mean's kernel between the input and a basis vector in its support and
    ``a = d - b``, the weight of that example is ``(s - b (m s + (k - m) b)/(a + b k))/a``, and
    since its target is a basis vector this weight *is* the mean of its coordinate.
    ``k`` and ``ones`` are broadcast; ``off`` at ``ones == k`` belongs to no coordinate.

    Raises:
        ValueError: unless ``1 <= ones <= k``.
    """
    k, m = np.broadcast_arrays(np.asarray(k, float), np.asarray(ones, float))
    if np.any(m < 1) or np.any(m > k):
        raise ValueError(f"an input needs between 1 and k ones, got k={k} and {m}")
    a = DIAGONAL[parametrization] - B
    nngp_s, tangent_s = _support_kernels(m)
    s = tangent_s if parametrization == "ntk" else nngp_s
    shared = B * (m * s + (k - m) * B) / (a + B * k)
    on, off = (s - shared) / a, (B - shared) / a
    prior = 1 / (2 * k)
    cross = (m * on * nngp_s + (k - m) * off * B) / k
    within = (0.5 - B) * (m * on**2 + (k - m) * off**2) + B * (m * on + (k - m) * off) ** 2
    # In exact arithmetic this is non-negative; at ones == 1 it is zero up to rounding.
    return Moments(on, off, np.maximum(prior - 2 * cross + within / k, 0.0))


def _support_kernels(m: Array) -> tuple[Array, Array]:
    """``k`` times both kernels (:func:`kernels`) of ``x/|x|`` and a basis vector in its support."""
    cosine = 1 / np.sqrt(m)
    opening = math.pi - np.arccos(cosine)
    sine = np.sqrt(np.maximum(1 - cosine**2, 0.0))
    return B * (sine + opening * cosine), B * (sine + 2 * opening * cosine)


def expected_accuracy(
    size: ArrayLike, k: int, ones: int, limit: Moments, threshold: Threshold = "zero"
) -> Array:
    """Probability that all ``k`` rounded coordinates of a mean over ``size`` models are right."""
    scale = np.sqrt(np.asarray(size, float) / limit.variance)
    on, off = limit.margin(threshold)
    log_right = ones * log_ndtr(on * scale) + (k - ones) * log_ndtr(off * scale)
    return np.asarray(np.exp(log_right), float)


def required_size(
    k: int,
    accuracy: float,
    parametrization: Parametrization = "ntk",
    ones: int = 2,
    threshold: Threshold = "zero",
) -> int:
    """Smallest ensemble whose expected accuracy on inputs with ``ones`` ones is ``accuracy``.

    Raises:
        ValueError: unless ``0 < accuracy < 1``.
    """
    if not 0 < accuracy < 1:
        raise ValueError(f"the accuracy must lie strictly between 0 and 1, got {accuracy}")
    limit = moments(k, ones, parametrization)

    def reached(size: int) -> bool:
        return bool(expected_accuracy(size, k, ones, limit, threshold) >= accuracy)

    high = 1
    while not reached(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def bound(
    k: ArrayLike,
    log_tests: ArrayLike,
    delta: float,
    limit: Moments,
    threshold: Threshold = "zero",
) -> Array:
    """Ensemble size that is right on ``exp(log_tests)`` inputs with probability ``1 - delta``.

    Sufficient (Eq. 21 as plotted in Figure 1): the Gaussian tail bound and a union over
    coordinates and inputs put every mean within half its margin of its expectation,
    ``N = 8 spread ln(2 k tests / delta)``. ``log_tests`` is 0 for one input, ``k ln 2`` for all.
    """
    log_outputs = np.log(2 * np.asarray(k, float) / delta) + np.asarray(log_tests, float)
    return np.asarray(8 * limit.spread(threshold) * log_outputs, float)


def worst_case(k: int, parametrization: Parametrization, threshold: Threshold) -> Moments:
    """The moments at the number of ones (2 … k) that needs the largest ensemble."""
    everything = moments(k, np.arange(2, k + 1), parametrization)
    worst = int(np.argmax(everything.spread(threshold)))
    return Moments(everything.on[worst], everything.off[worst], everything.variance[worst])


def kernels(x: Array, z: Array) -> tuple[Array, Array]:
    """Random-feature (NNGP) and neural tangent kernel between the rows of ``x`` and of ``z``.

    Arc-cosine kernels of degree 1 and 0 (Cho and Saul), for weights of unit variance:
    shapes (A, k), (B, k) to (A, B).
    """
    length = x.shape[1]
    norms = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(z, axis=1)[None]
    cosine = np.clip(x @ z.T / norms, -1.0, 1.0)
    angle = np.arccos(cosine)
    opening = (math.pi - angle) * cosine
    features = B * norms * (np.sin(angle) + opening) / length
    return features, features + B * norms * opening / length


def regression_mean(
    examples: Array, targets: Array, inputs: Array, parametrization: Parametrization
) -> Array:
    """Mean of the trained networks for any training set, by kernel regression.

    Shapes (T, k), (T, k), (A, k) to (A, k). The closed forms of :func:`moments` are this on the
    standard basis.
    """
    which = 1 if parametrization == "ntk" else 0
    gram = kernels(examples, examples)[which]
    return kernels(inputs, examples)[which] @ np.linalg.solve(gram, targets)
