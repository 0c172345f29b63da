"""Mean-field theory of diluted patterns at low storage, exact for many neurons.

A neuron's entries in the K patterns are one of 3^K states: 0 with probability d, ±1 with (1 - d)/2
each. Averages over patterns are sums over these states. Noise T is in units in which the network
``H/N = -1/2 Σ m_μ²`` orders at ``T_c = 1 - d``; ``m_μ = E[ξ^μ s]`` is the Mattis magnetisation.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

Array = npt.NDArray[np.float64]

_NODES, _EXTENT = 1601, 8.0


@dataclass(frozen=True)
class Columns:
    """The 3^K possible entries of one neuron in K patterns.

    Attributes:
        entries: shape (3^K, K), values -1, 0 and 1.
        weights: their probabilities, shape (3^K,).
    """

    entries: Array
    weights: Array

    def average(self, values: Array) -> Array:
        """Mean of ``values`` (..., 3^K) over the states."""
        mean: Array = values @ self.weights
        return mean

    def correlate(self, values: Array) -> Array:
        """``E[ξ^μ value]`` for each pattern; (..., 3^K) to (..., K)."""
        correlated: Array = (values * self.weights) @ self.entries
        return correlated


def columns(patterns: int, dilution: float) -> Columns:
    """All states of one neuron.

    Raises:
        ValueError: unless ``patterns >= 1`` and ``0 <= dilution <= 1``.
    """
    if patterns < 1 or not 0 <= dilution <= 1:
        raise ValueError(f"{patterns} patterns of dilution {dilution}")
    entries = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=patterns)))
    chance = np.where(entries == 0, dilution, (1 - dilution) / 2)
    return Columns(entries, np.prod(chance, axis=1))


def hierarchical(patterns: int, dilution: float) -> Array:
    """``m_k = (1 - d) d^(k-1)``, shape (K,): each neuron follows its first entry that is not 0."""
    return np.asarray((1 - dilution) * dilution ** np.arange(patterns, dtype=np.float64))


def response(states: Columns, m: Array, noise: float) -> Array:
    """Right-hand side ``E[ξ^μ tanh(ξ·m / T)]`` of self-consistency (sign at T = 0), (..., K)."""
    field: Array = m @ states.entries.T
    return states.correlate(np.tanh(field / noise) if noise > 0 else np.sign(field))


def retrieved(
    states: Columns, start: Array, noise: float, tolerance: float = 1e-12, most: int = 50_000
) -> Array:
    """The fixed point of ``m = E[ξ tanh(ξ·m / T)]`` that is reached from ``start``, (..., K).

    Raises:
        ValueError: when it has not settled after ``most`` steps.
    """
    m = np.asarray(start, dtype=np.float64)
    for _ in range(most):
        after = response(states, m, noise)
        if np.abs(after - m).max() < tolerance:
            return after
        m = after
    raise ValueError(f"not settled at T = {noise} after {most} steps")


def free_energy(states: Columns, m: Array, noise: float) -> Array:
    """Free energy per neuron, ``1/2 Σ m² - T E[ln 2cosh(ξ·m / T)]``, shape (...)."""
    field = np.abs(m @ states.entries.T)
    if noise > 0:
        field = field + noise * np.log1p(np.exp(-2 * field / noise))
    lowered: Array = (m * m).sum(-1) / 2 - states.average(field)
    return lowered


def ground_state(
    patterns: int, dilution: float, noise: float, starts: int = 60, seed: int = 0
) -> Array:
    """Magnetisations, falling, at the lowest free energy found from random starts, (K,)."""
    states = columns(patterns, dilution)
    generator = np.random.default_rng(seed)
    tries = generator.uniform(0, 1 - dilution, (starts, patterns))
    tries[0] = hierarchical(patterns, dilution)
    tries[1] = (1 - dilution) / 2
    found = retrieved(states, tries, noise)
    best = found[np.argmin(free_energy(states, found, noise))]
    return -np.sort(-np.abs(best))


def critical_dilution(patterns: int) -> float:
    """d_c: at T = 0 the hierarchical state is stable below the root of ``1 - 2 d + d^K``.

    ``m_1`` must exceed the sum of all others, ``1 - d > d - d^K``; the conditions for ``k > 1``
    are weaker.

    Raises:
        ValueError: for fewer than three patterns, where the state is stable at every d.
    """
    if patterns < 3:
        raise ValueError("two patterns never compete with the first")
    lowest = (2 / patterns) ** (1 / (patterns - 1))
    return float(brentq(lambda d: 1 - 2 * d + d**patterns, 0.5, lowest, xtol=1e-14))


def hierarchy_is_stable(patterns: int, dilution: float) -> bool:
    """Whether every one of the 3^K kinds of neurons is aligned with its field at T = 0."""
    entries = columns(patterns, dilution).entries
    first = np.argmax(entries != 0, axis=1)
    follows = np.take_along_axis(entries, first[:, None], axis=1)[:, 0]
    field = entries @ hierarchical(patterns, dilution)
    return bool(np.all(field * follows >= 0))


def stability_threshold(patterns: int, tolerance: float = 1e-10) -> float:
    """Where :func:`hierarchy_is_stable` changes, by bisection between d = 0.45 and 0.7."""
    low, high = 0.45, 0.7
    while high - low > tolerance:
        middle = (low + high) / 2
        low, high = (middle, high) if hierarchy_is_stable(patterns, middle) else (low, middle)
    return (low + high) / 2


def learned(
    states: Columns, start: Array, noise: float, entropy: float, most: int = 20_000
) -> Array:
    """Magnetisations after learning from many noisy examples, shape (K,).

    With ρ = (1 - r²)/(M r²) the field of a neuron is Gaussian given its entries,
    ``g = [Σ ξ^ν n_ν + z sqrt(ρ Σ (ξ^ν n_ν)²)] / T``, where
    ``n_μ = m_μ/(1 + ρ) + ρ/(1 + ρ) n_μ E[(ξ^μ)² (1 - tanh² g)] / T`` and ``m_μ = E[ξ^μ tanh g]``:
    the self-consistency of averaged examples, with Stein's lemma for the noise of the average.
    With and without a teacher it is the same where all examples of a pattern are retrieved alike.

    Args:
        start: initial n.
        noise: T > 0.
        entropy: ρ; 0 is storing.

    Raises:
        ValueError: when it has not settled after ``most`` steps.
    """
    z = np.linspace(-_EXTENT, _EXTENT, _NODES)
    density = np.exp(-z * z / 2)
    density /= density.sum()
    occupied = states.entries**2
    n = np.asarray(start, dtype=np.float64)
    for _ in range(most):
        spread = np.sqrt(entropy * (occupied @ n**2))
        state = np.tanh((states.entries @ n)[:, None] / noise + np.outer(spread, z) / noise)
        m = states.correlate(state @ density)
        slope = (states.weights * ((1 - state**2) @ density)) @ occupied / noise
        after = (m + entropy * slope * n) / (1 + entropy)
        if np.abs(after - n).max() < 1e-10:
            return m
        n = after
    raise ValueError(f"not settled at T = {noise}, ρ = {entropy} after {most} steps")


def one_pattern(dilution: float, entropy: float) -> float:
    """``(1 - d) erf(1/sqrt(2 ρ))``: one pattern learned at T = 0, by signal to noise."""
    return (1 - dilution) * math.erf(1 / math.sqrt(2 * entropy))


def data_set_entropy(quality: float, examples: int) -> float:
    """``ρ = (1 - r²)/(M r²)``: how little M examples of quality r say about their pattern."""
    return (1 - quality**2) / (examples * quality**2)
