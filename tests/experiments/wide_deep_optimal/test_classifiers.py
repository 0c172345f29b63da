"""Classifiers against scikit-learn and plain formulas; the three limits on a small sample."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from experiments.wide_deep_optimal import classifiers, kernels
from experiments.wide_deep_optimal.activations import named
from experiments.wide_deep_optimal.kernels import Grid, Tabulated

DIMENSION, TRAIN, TEST = 2, 80, 200


@pytest.fixture(scope="module")
def sample() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    x = np.abs(rng.normal(size=(TRAIN + TEST, DIMENSION + 1)))
    x = torch.from_numpy(x / np.linalg.norm(x, axis=1, keepdims=True))
    y = torch.from_numpy(np.where(rng.random(TRAIN) < 0.3, 1.0, -1.0))
    return x[:TRAIN], x[TRAIN:], y


def deep(sample, name: str, depth: int, kind: kernels.Kind = "nngp") -> torch.Tensor:
    x, z, y = sample
    train, test = classifiers.gaps(x, x), classifiers.gaps(x, z)
    grid = Grid(classifiers.closest(train), float(test.max()), nodes=512)
    kernel = Tabulated.deep(named(name, DIMENSION), grid, depth, kind)
    return classifiers.kernel_machine(kernel(train), kernel(test), y)


def test_gaps_resolve_angles_that_the_product_loses() -> None:
    angles = torch.tensor([1e-12, 1e-9, 0.3], dtype=torch.float64)
    x = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    z = torch.stack([torch.sin(angles), torch.cos(angles)], 1)
    expected = 2 * torch.sin(angles / 2) ** 2
    assert classifiers.gaps(x, z)[0].tolist() == pytest.approx(expected.tolist(), rel=1e-12, abs=0)


def test_closest_leaves_out_each_input_itself(sample) -> None:
    between = classifiers.gaps(sample[0], sample[0])
    pairs = [float(between[i, j]) for i in range(TRAIN) for j in range(i)]
    assert classifiers.closest(between) == min(pairs)
    assert float(between.diagonal().max()) == 0  # and is not written into what it is given


def test_kernel_machine_is_the_solution_of_the_linear_system(sample) -> None:
    x, z, y = (part.numpy() for part in sample)
    log_train, log_test = (
        torch.from_numpy(-4 * np.linalg.norm(x[:, None] - other[None], axis=2)) for other in (x, z)
    )
    expected = y @ np.linalg.solve(np.exp(log_train.numpy()), np.exp(log_test.numpy()))
    found = classifiers.kernel_machine(log_train, log_test, sample[2])
    clear = np.abs(expected) > 1e-3
    assert clear.mean() > 0.9 and np.array_equal(found.numpy()[clear], np.sign(expected)[clear])
    shifted = classifiers.kernel_machine(log_train, log_test - 1000.0, sample[2])
    assert torch.equal(found, shifted)


def test_rules_are_those_of_the_definitions(sample) -> None:
    x, z, y = sample
    apart = classifiers.gaps(x, z)
    neighbour = KNeighborsClassifier(1).fit(x, y).predict(z)
    assert np.array_equal(classifiers.nearest(apart, y).numpy(), neighbour)
    distance = np.linalg.norm(x.numpy()[:, None] - z.numpy()[None], axis=2)
    vote = y.numpy() @ distance ** -float(DIMENSION)
    assert np.array_equal(classifiers.hilbert(apart, y, DIMENSION).numpy(), np.sign(vote))
    assert classifiers.majority(y, 3).tolist() == [-1.0] * 3
    assert classifiers.majority(-y, 3).tolist() == [1.0] * 3
    assert classifiers.majority(torch.tensor([1.0, -1.0]), 1).tolist() == [-1.0]
    assert classifiers.sign(torch.tensor([-0.1, 0.0, 2.0])).tolist() == [-1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", ["hermite-2", "hermite-3", "flat"])
def test_without_a_linear_term_the_limit_is_the_nearest_neighbour(sample, name) -> None:
    nearest = KNeighborsClassifier(1).fit(sample[0], sample[2]).predict(sample[1])
    assert np.array_equal(deep(sample, name, 100).numpy(), nearest)
    assert np.mean(deep(sample, name, 2).numpy() == nearest) < 0.95


def test_with_a_mean_the_limit_is_the_majority_vote(sample) -> None:
    for name, depth, kind in (("mean", 200, "nngp"), ("relu", 3000, "ntk")):
        assert (deep(sample, name, depth, kind) == -1).double().mean() > 0.99
        assert (deep(sample, name, 2, kind) == -1).double().mean() < 0.95


def test_with_a_linear_term_the_limit_is_the_singular_kernels_vote(sample) -> None:
    x, z, y = sample
    apart = classifiers.gaps(x, z)
    psi = kernels.log_singular(named("optimal", DIMENSION), kernels.Correlation.of_gap(apart))
    vote = classifiers.nadaraya_watson(psi, y)
    assert (deep(sample, "optimal", 60) == vote).double().mean() > 0.99
    assert (deep(sample, "optimal", 10**12, "ntk") == vote).double().mean() > 0.99
    assert (deep(sample, "optimal", 2) == vote).double().mean() < 0.95
    assert (classifiers.hilbert(apart, y, DIMENSION) == vote).double().mean() > 0.95
