"""Self-consistency against energies, finite sums, closed forms and known states."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from experiments.multitasking_hopfield.theory import (
    columns,
    critical_dilution,
    data_set_entropy,
    free_energy,
    ground_state,
    hierarchical,
    hierarchy_is_stable,
    learned,
    one_pattern,
    retrieved,
    stability_threshold,
)


def test_states_have_the_moments_of_independent_entries() -> None:
    states = columns(3, 0.4)
    assert len(states.weights) == 27 and states.weights.sum() == pytest.approx(1)
    assert states.correlate(states.entries.T) == pytest.approx(0.6 * np.eye(3))
    assert states.average((states.entries == 0).all(1) * 1.0) == pytest.approx(0.4**3)


@pytest.mark.parametrize(("dilution", "noise"), [(0.2, 0.05), (0.5, 0.2), (0.8, 0.1)])
def test_fixed_points_are_where_the_free_energy_is_level(dilution: float, noise: float) -> None:
    states = columns(3, dilution)
    m = retrieved(states, hierarchical(3, dilution), noise)
    assert m[0] > 0.1
    for step in 1e-5 * np.eye(3):
        slope = (free_energy(states, m + step, noise) - free_energy(states, m - step, noise)) / 2e-5
        assert abs(slope) < 1e-6


@pytest.mark.parametrize(
    ("patterns", "dilution", "amplitudes"),
    [
        (3, 0.2, [0.8, 0.16, 0.032]),
        (3, 0.55, [0.404, 0.293, 0.182]),  # the hierarchical state is stable here, and not lowest
        (3, 0.8, [0.196, 0.164, 0.132]),
        (5, 0.5, [0.5, 0.25, 0.125, 0.0625, 0.03125]),
    ],
)
def test_lowest_states_at_zero_noise(
    patterns: int, dilution: float, amplitudes: list[float]
) -> None:
    assert ground_state(patterns, dilution, 0.0) == pytest.approx(amplitudes, abs=5e-4)


def test_zero_noise_is_the_limit_of_low_noise() -> None:
    assert ground_state(3, 0.8, 1e-4) == pytest.approx(ground_state(3, 0.8, 0.0), abs=1e-6)


def test_some_noise_makes_the_amplitudes_equal() -> None:
    even = ground_state(3, 0.9, 0.2 * 0.1)
    assert even == pytest.approx([0.0905] * 3, abs=5e-5)
    assert ground_state(3, 0.9, 0.0)[2] < 0.9 * ground_state(3, 0.9, 0.0)[0]


def test_retrieval_sets_in_at_one_minus_d() -> None:
    for dilution in (0.0, 0.3, 0.8):
        onset = 1 - dilution
        assert ground_state(2, dilution, 0.95 * onset)[0] > 0.1 * onset
        assert ground_state(2, dilution, 1.05 * onset)[0] < 1e-8


def test_three_patterns_end_at_the_golden_ratio() -> None:
    assert critical_dilution(3) == pytest.approx((math.sqrt(5) - 1) / 2, abs=1e-12)
    for patterns in (3, 4, 6):
        assert stability_threshold(patterns) == pytest.approx(critical_dilution(patterns), abs=1e-9)
    with pytest.raises(ValueError, match="never compete"):
        critical_dilution(2)


@pytest.mark.parametrize("side", [-0.01, 0.01])
def test_iteration_leaves_the_hierarchical_state_beyond_the_threshold(side: float) -> None:
    dilution = critical_dilution(4) + side
    start = hierarchical(4, dilution)
    stays = np.abs(retrieved(columns(4, dilution), start, 0.0) - start).max() < 1e-9
    assert stays == hierarchy_is_stable(4, dilution) == (side < 0)


def test_learning_is_the_sum_over_all_numbers_of_faithful_examples() -> None:
    """The definition itself, for two patterns and finite M: no Gaussian, no Stein's lemma."""
    quality, count, noise, dilution = 0.15, 150, 0.1, 0.3
    faithful = np.arange(count + 1)
    weight = binom.pmf(faithful, count, (1 + quality) / 2)
    mean = 2 * faithful / count - 1
    square = quality**2 + (1 - quality**2) / count
    values = np.concatenate([mean, [0.0], -mean])
    chance = np.concatenate([weight * (1 - dilution) / 2, [dilution], weight * (1 - dilution) / 2])
    original = np.concatenate([np.ones(count + 1), [0.0], -np.ones(count + 1)])
    joint, n = np.outer(chance, chance), np.array([0.5, 0.2]) * quality
    for _ in range(120):
        state = np.tanh(np.add.outer(values * n[0], values * n[1]) / (noise * square))
        n = np.array([values @ (joint * state).sum(1), values @ (joint * state).sum(0)])
    m = [original @ (joint * state).sum(1), original @ (joint * state).sum(0)]
    predicted = learned(
        columns(2, dilution), hierarchical(2, dilution), noise, data_set_entropy(quality, count)
    )
    assert predicted == pytest.approx(m, abs=4e-3)  # of order 1/M
    assert m[0] < retrieved(columns(2, dilution), hierarchical(2, dilution), noise)[0] - 0.03


def test_limits_of_learning() -> None:
    states, start = columns(3, 0.2), hierarchical(3, 0.2)
    assert learned(states, start, 0.05, 0.0) == pytest.approx(
        retrieved(states, start, 0.05), abs=1e-8
    )
    for entropy in (0.15, 1.0):
        one = learned(columns(1, 0.2), hierarchical(1, 0.2), 0.002, entropy)
        assert one[0] == pytest.approx(one_pattern(0.2, entropy), abs=1e-4)
    assert learned(states, start, 0.02, 0.15) == pytest.approx([0.781, 0.172, 0.036], abs=1e-3)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="dilution"):
        columns(3, 1.2)
    with pytest.raises(ValueError, match="not settled"):
        retrieved(columns(3, 0.2), hierarchical(3, 0.2), 0.8, most=3)
