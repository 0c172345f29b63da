"""The closed forms against kernel regression, Monte Carlo, and what the theory must satisfy."""

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq

from experiments.exact_permutations import limit
from experiments.exact_permutations.limit import (
    Moments,
    bound,
    expected_accuracy,
    kernels,
    moments,
    regression_mean,
    required_size,
    worst_case,
)


def unit_input(k: int, ones: int) -> np.ndarray:
    x = np.zeros((1, k))
    x[0, :ones] = 1
    return x / np.sqrt(ones)


@pytest.mark.parametrize("which", [0, 1])
def test_kernels_are_averages_over_random_features(which: int) -> None:
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(3, 4)), rng.normal(size=(2, 4))
    w = rng.normal(size=(400_000, 4))
    hidden = [np.maximum(v @ w.T, 0) for v in (x, z)]
    features = hidden[0] @ hidden[1].T / len(w) / 4
    active = (hidden[0] > 0).astype(float) @ (hidden[1] > 0).T / len(w)
    expected = [features, features + active * (x @ z.T) / 4][which]
    assert kernels(x, z)[which] == pytest.approx(expected, abs=4e-3)


@pytest.mark.parametrize("parametrization", ["ntk", "standard"])
@pytest.mark.parametrize(("k", "ones"), [(2, 2), (5, 1), (5, 2), (7, 7), (12, 5), (30, 2)])
def test_means_are_kernel_regression_on_the_basis(parametrization, k, ones) -> None:
    basis = np.eye(k)
    mean = regression_mean(basis, basis, unit_input(k, ones), parametrization)[0]
    at = moments(k, ones, parametrization)
    assert mean[:ones] == pytest.approx(float(at.on), abs=1e-12)
    if ones < k:
        assert mean[ones:] == pytest.approx(float(at.off), abs=1e-12)


@pytest.mark.parametrize("parametrization", ["ntk", "standard"])
@pytest.mark.parametrize(("k", "ones"), [(5, 2), (9, 4), (20, 20)])
def test_variance_is_that_of_the_prior_less_what_training_fixes(parametrization, k, ones) -> None:
    basis, x = np.eye(k), unit_input(k, ones)
    which = 1 if parametrization == "ntk" else 0
    weights = np.linalg.solve(kernels(basis, basis)[which], kernels(basis, x)[which])[:, 0]
    prior, cross, within = kernels(x, x)[0], kernels(x, basis)[0], kernels(basis, basis)[0]
    expected = prior[0, 0] - 2 * cross[0] @ weights + weights @ within @ weights
    assert float(moments(k, ones, parametrization).variance) == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("parametrization", ["ntk", "standard"])
def test_training_vectors_are_fitted_without_variance(parametrization) -> None:
    at = moments(np.arange(2, 40), 1, parametrization)
    assert at.on == pytest.approx(1)
    assert at.off == pytest.approx(0, abs=1e-14)
    assert at.variance == pytest.approx(0, abs=1e-14)


def test_mean_signs_hold_for_every_number_of_ones() -> None:
    for k in range(3, 200):
        at = moments(k, np.arange(2, k + 1))
        assert (at.on > 0).all() and (at.off < 0).all()


def test_two_ones_need_the_largest_ensemble() -> None:
    for k in (5, 10, 30, 500):
        worst, two = worst_case(k, "ntk", "zero"), moments(k, 2)
        assert worst.spread() == pytest.approx(float(two.spread()))


def test_known_values_at_ten() -> None:
    at = moments(10, 2)
    assert float(at.on) == pytest.approx(0.56542, abs=5e-6)
    assert float(at.off) == pytest.approx(-0.00985, abs=5e-6)
    assert float(at.variance) == pytest.approx(0.006519, abs=5e-7)
    assert float(bound(10, np.log(1000), 0.1, at)) == pytest.approx(6513, rel=0.01)


def test_expected_accuracy_is_the_gaussian_orthant_probability() -> None:
    at = moments(4, 2)
    rng = np.random.default_rng(1)
    means = np.array([at.on, at.on, at.off, at.off])
    draws = means + rng.normal(size=(200_000, 4)) * np.sqrt(at.variance / 30)
    right = ((draws > 0) == [True, True, False, False]).all(axis=1).mean()
    assert float(expected_accuracy(30, 4, 2, at)) == pytest.approx(right, abs=4e-3)


@pytest.mark.parametrize("parametrization", ["ntk", "standard"])
def test_required_size_is_where_the_accuracy_crosses(parametrization) -> None:
    at = moments(10, 2, parametrization)
    crossing = brentq(lambda n: float(expected_accuracy(n, 10, 2, at)) - 0.9, 1, 5000)
    assert required_size(10, 0.9, parametrization) == int(np.ceil(crossing))


def test_rounding_halfway_needs_one_model_where_rounding_at_zero_needs_hundreds() -> None:
    assert required_size(10, 0.9, threshold="midpoint") == 1
    assert required_size(10, 0.9) > 300


def test_bound_is_the_gaussian_tail_with_a_union_over_outputs() -> None:
    at = Moments(np.array(0.5), np.array(-0.1), np.array(2.0))
    size = float(bound(8, np.log(16), 0.1, at))
    failure = 2 * 8 * 16 * np.exp(-size * 0.05**2 / (2 * 2.0))
    assert failure == pytest.approx(0.1)
    assert 8 * 16 * 2 * stats.norm.sf(0.05 * np.sqrt(size / 2)) < 0.1


def test_missing_example_leaves_its_coordinate_without_sign() -> None:
    kept = np.eye(4)[:3]
    mean = regression_mean(kept, kept, np.array([[0.0, 0, 1, 1]]), "ntk")
    assert mean[0, 2] > 0
    assert mean[0, 3] == 0


@pytest.mark.parametrize("ones", [0, 6])
def test_impossible_inputs_are_refused(ones) -> None:
    with pytest.raises(ValueError, match="ones"):
        moments(5, ones)


def test_impossible_accuracy_is_refused() -> None:
    with pytest.raises(ValueError, match="accuracy"):
        limit.required_size(5, 1.0)
