"""Kernels against neural-tangents' values, finite networks, and what a covariance must satisfy."""

import numpy as np
import pytest
import torch

from baselines import nngp

W, B = 1.4**2, 0.3**2

# neural-tangents 0.6.5, float64: three hidden layers, W_std 1.4, b_std 0.3, readout of variance 1.
DENSE = {
    "relu": (
        [0.420255702466, 0.54273778947, 0.409906348762],
        [0.857886150212, 1.798623304504, 0.91876148354],
    ),
    "erf": (
        [0.142975335408, 0.43526587865, 0.202410413194],
        [0.472211265256, 2.11899353525, 0.728993205034],
    ),
}
CONVOLUTIONAL = [
    [0.217963196877, 0.190274754061],
    [0.274114713033, 0.217873898488],
    [0.185271959902, 0.274416768041],
]


def waves(shape: tuple[int, ...], phase: float = 0.0) -> torch.Tensor:
    return torch.sin(torch.arange(np.prod(shape), dtype=torch.float64) + phase).reshape(shape)


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_dense_kernels_are_those_of_neural_tangents(activation) -> None:
    z = torch.cos(torch.arange(15.0, dtype=torch.float64)).reshape(3, 5)
    limit = nngp.dense(waves((4, 5)), z, 3, W, B, activation)
    assert limit.nngp[0].tolist() == pytest.approx(DENSE[activation][0], abs=1e-11)
    tangent = (limit.nngp + limit.below)[0].tolist()
    assert tangent == pytest.approx(DENSE[activation][1], abs=1e-11)


def test_convolutional_kernel_is_that_of_neural_tangents() -> None:
    z = torch.cos(torch.arange(80.0, dtype=torch.float64)).reshape(2, 2, 5, 4)
    found = nngp.convolutional(waves((3, 2, 5, 4)), z, 3, W, B)
    assert found.numpy() == pytest.approx(np.array(CONVOLUTIONAL), abs=1e-11)


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_dense_kernel_is_the_covariance_of_wide_networks(activation) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4)
    phi = {"relu": torch.relu, "erf": torch.erf}[activation]
    grams, width = [], 512
    for _ in range(60):
        hidden = phi((W / 4) ** 0.5 * x @ torch.randn(4, width) + B**0.5 * torch.randn(width))
        affine = hidden @ torch.randn(width, width) * (W / width) ** 0.5
        hidden = phi(affine + B**0.5 * torch.randn(width))
        grams.append(hidden @ hidden.T / width)
    expected = nngp.dense(x.double(), x.double(), 2, W, B, activation).nngp
    assert torch.stack(grams).mean(0).numpy() == pytest.approx(expected.numpy(), rel=0.05, abs=0.01)


def test_convolutional_kernel_is_the_covariance_of_wide_networks() -> None:
    torch.manual_seed(0)
    x, width = torch.randn(2, 1, 4, 4), 64
    first = torch.nn.Conv2d(1, width, 3, padding=1)
    second = torch.nn.Conv2d(width, width, 3, padding=1)
    grams = []
    for _ in range(60):
        for layer, fan_in in ((first, 9), (second, 9 * width)):
            torch.nn.init.normal_(layer.weight, std=(W / fan_in) ** 0.5)
            torch.nn.init.normal_(layer.bias, std=B**0.5)
        with torch.no_grad():
            flat = torch.relu(second(torch.relu(first(x)))).flatten(1)
        grams.append(flat @ flat.T / flat.shape[1])
    expected = nngp.convolutional(x.double(), x.double(), 2, W, B).numpy()
    assert torch.stack(grams).mean(0).numpy() == pytest.approx(expected, rel=0.1)


def test_tangent_kernel_is_the_gram_matrix_of_gradients() -> None:
    """Readout variance 3: its own gradients do not grow with it, those of the layer below do."""
    torch.manual_seed(0)
    x, width = torch.randn(3, 4), 100_000
    weights = torch.randn(width, 4, requires_grad=True)
    readout = (3**0.5 * torch.randn(width)).requires_grad_()
    outputs = torch.relu(x @ weights.T / 2) @ readout / width**0.5
    rows = [torch.autograd.grad(f, (weights, readout), retain_graph=True) for f in outputs]
    gradients = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
    limit = nngp.dense(x.double(), x.double(), 1)
    expected = (limit.nngp + 3 * limit.below).numpy()
    assert (gradients @ gradients.T).numpy() == pytest.approx(expected, rel=0.03, abs=0.02)


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_diagonals(activation) -> None:
    x = waves((5, 3), 1.0)
    full = nngp.dense(x, x, 4, W, B, activation).nngp
    alone = nngp.dense_variance(x, 4, W, B, activation)
    assert full.diagonal().numpy() == pytest.approx(alone.numpy(), abs=1e-12)


def test_convolutional_diagonal() -> None:
    x = waves((4, 2, 5, 3), 1.0)
    full = nngp.convolutional(x, x, 3, W, B).diagonal().numpy()
    assert full == pytest.approx(nngp.convolutional_variance(x, 3, W, B).numpy(), abs=1e-12)


def test_relu_kernel_without_biases_scales_with_its_inputs() -> None:
    x, z = waves((3, 4)), waves((2, 4), 0.5)
    assert torch.allclose(
        nngp.dense(2 * x, 3 * z, 3).nngp, 6 * nngp.dense(x, z, 3).nngp, rtol=1e-12
    )


def test_gradients_are_finite_and_right_also_at_equal_inputs() -> None:
    x = waves((3, 4), 0.3)

    def total(weight_var: torch.Tensor, bias_var: torch.Tensor) -> torch.Tensor:
        return nngp.dense(x, x, 3, weight_var, bias_var).nngp.sum()

    variances = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (W, B)]
    assert torch.autograd.gradcheck(total, variances, rtol=1e-5)


def test_input_of_zeros_has_a_finite_kernel() -> None:
    x = torch.zeros(2, 3, dtype=torch.float64)
    assert torch.equal(nngp.dense(x, x, 2).nngp, torch.zeros(2, 2, dtype=torch.float64))


def test_a_network_needs_a_hidden_layer() -> None:
    with pytest.raises(ValueError, match="hidden layer"):
        nngp.dense(waves((2, 2)), waves((2, 2)), 0)


def test_cholesky_adds_jitter_only_where_it_must() -> None:
    regular = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    factor = nngp.cholesky(regular)
    torch.testing.assert_close(factor, torch.linalg.cholesky(regular), rtol=0, atol=1e-12)
    rounded = torch.ones(2, 2, dtype=torch.float64)
    rounded[1, 1] -= 1e-12  # negative definite by a rounding error
    factor = nngp.cholesky(rounded)
    assert (factor @ factor.mT).numpy() == pytest.approx(rounded.numpy(), abs=1e-8)
    with pytest.raises(nngp.NotPositiveDefinite, match="2x2"):
        nngp.cholesky(torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64))
