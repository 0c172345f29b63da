"""Sampled networks against explicit ones, autograd and exact formulas; error bars."""

import pytest
import torch

from experiments.dl_theory import networks
from experiments.dl_theory.activations import named
from experiments.dl_theory.kernel import Layer, critical_layer, flow, linear_correlator
from experiments.dl_theory.moments import (
    jackknife,
    measured,
    preactivation_moments,
    slope,
    vertex_ratio,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def explicit(layer: Layer, count: int, n: int, depth: int) -> list[torch.Tensor]:
    """The definition, with all weights and biases drawn, on an input of |x|²/n_0 = 1."""
    draw = generator(7)
    z = layer.bias_variance**0.5 * torch.randn(count, n, generator=draw)
    x = torch.ones(count, n)
    weights = (layer.weight_variance / n) ** 0.5 * torch.randn(count, n, n, generator=draw)
    found = [z + (weights @ x[..., None])[..., 0]]
    for _ in range(depth - 1):
        z = found[-1]
        weights = (layer.weight_variance / n) ** 0.5 * torch.randn(count, n, n, generator=draw)
        bias = layer.bias_variance**0.5 * torch.randn(count, n, generator=draw)
        active = layer.activation.value(z)[..., None]
        found.append(bias + (weights @ active)[..., 0] + layer.skip * z)
    return found


@pytest.mark.parametrize(
    "layer",
    [Layer(named("relu"), 0.1, 1.5), Layer(named("tanh"), 0.3, 1.8, skip=0.4)],
    ids=["relu", "tanh-skip"],
)
def test_shortcut_has_the_moments_of_explicit_weights(layer: Layer) -> None:
    first = layer.bias_variance + layer.weight_variance
    fast = networks.single_input(layer, first, 20_000, 8, 3, generator())
    for z, reference in zip(fast, explicit(layer, 20_000, 8, 3), strict=True):
        a, b = preactivation_moments(z), preactivation_moments(reference)
        assert torch.allclose(a[:3] / b[:3], torch.ones(3).double(), atol=0.06)


def test_moments_of_a_hand_computed_layer() -> None:
    found = preactivation_moments(torch.tensor([[1.0, 2.0], [0.0, 2.0]]))
    assert found.tolist() == pytest.approx([2.25, 2.0, (6.25 + 4) / 2, (15.625 + 8) / 2])


def test_linear_networks_have_the_exact_correlators() -> None:
    *_, last = networks.single_input(
        critical_layer(named("linear")), 1.0, 100_000, 12, 4, generator()
    )
    moments = preactivation_moments(last)
    assert float(moments[1]) == pytest.approx(linear_correlator(2, 12, 4), rel=0.04)
    first_step = linear_correlator(3, 12, 2)
    assert float(moments[3]) == pytest.approx(linear_correlator(3, 12, 4) * first_step, rel=0.15)


def test_two_inputs_keep_the_marginals_and_the_covariance() -> None:
    layer = critical_layer(named("relu"))
    *_, z = networks.two_inputs(layer, 1.0, 0.5, 40_000, 4, 1, generator())
    covariance = torch.cov(z.reshape(2, -1))
    expected = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    assert torch.allclose(covariance, expected, atol=0.02)
    *_, same = networks.two_inputs(layer, 1.0, 1.0, 5, 6, 4, generator())
    assert torch.allclose(same[0], same[1], atol=2e-3)


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_tangent_kernel_recursion_is_the_sum_over_parameters(name: str) -> None:
    """One network rebuilt from the same random numbers and differentiated by autograd."""
    layer, n, depth = critical_layer(named(name)), 6, 4
    *_, last = networks.derivatives(layer, 1.0, 1, n, depth, generator(3))
    draw = generator(3)
    z1 = torch.randn(1, n, 1, generator=draw)[0]
    torch.randn(1, n, 1, generator=draw)
    scale = (layer.weight_variance / n) ** 0.5
    weights = [scale * torch.randn(1, n, n, generator=draw)[0] for _ in range(depth - 1)]

    def output(first: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
        z = first
        for w in given:
            z = w @ layer.activation.value(z)
        return z[:, 0]

    jacobians = torch.autograd.functional.jacobian(output, (z1, *weights))
    start = 1.0 / layer.weight_variance
    expected = start * jacobians[0].flatten(1).square().sum(1)
    for jacobian in jacobians[1:]:
        expected = expected + jacobian.flatten(1).square().sum(1) / n
    assert torch.allclose(last.tangent[0], expected, rtol=1e-4)


def test_mean_tangent_kernel_and_gradient_of_relu_are_exact_at_any_width() -> None:
    layer = critical_layer(named("relu"))
    drawn = list(networks.derivatives(layer, 1.0, 6000, 8, 4, generator()))
    expected = flow(layer, 1.0, 4).tangent
    assert expected == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert float(drawn[-1].tangent.mean()) == pytest.approx(expected[-1], rel=0.08)
    assert float(drawn[-1].gradient.mean()) == pytest.approx(1, rel=0.1)


def test_second_layer_tangent_fluctuation_of_relu_is_three_over_width() -> None:
    layer, n = critical_layer(named("relu")), 16
    *_, second = networks.derivatives(layer, 1.0, 8000, n, 2, generator())
    assert n * float(second.tangent.var() / second.tangent.mean() ** 2) == pytest.approx(3, rel=0.1)


def test_jackknife_of_a_mean_and_of_a_ratio() -> None:
    blocks = torch.randn(40, 2, generator=generator()).double() + 3
    value, error = jackknife(blocks, lambda m: m[0])
    assert float(value) == pytest.approx(float(blocks[:, 0].mean()))
    assert float(error) == pytest.approx(float(blocks[:, 0].std() / 40**0.5))
    same = torch.stack([blocks[:, 0], 2 * blocks[:, 0]], dim=1)
    assert measured(same, lambda m: m[1] / m[0]).stderr == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="two blocks"):
        jackknife(blocks[:1], lambda m: m[0])
    with pytest.raises(ValueError, match="nan"):
        measured(blocks, lambda m: m[0] * float("nan"))


def test_error_bars_cover_the_truth() -> None:
    """Of 60 ensembles with a known vertex about 95 % lie within two standard errors."""
    layer, n, inside = critical_layer(named("relu")), 16, 0
    for seed in range(60):
        blocks = []
        draw = generator(seed)
        for _ in range(20):
            drawn = networks.single_input(layer, 1.0, 100, n, 2, draw)
            blocks.append(torch.stack([preactivation_moments(z) for z in drawn]))
        found = measured(torch.stack(blocks), lambda m: n * vertex_ratio(m)[1])
        inside += abs(found.value - 5) < 2 * (found.stderr or 0)
    assert inside >= 50


def test_slope_is_least_squares() -> None:
    y = torch.tensor([1.0, 3.0, 2.0]).double()
    assert float(slope([0, 1, 2], y)) == pytest.approx(0.5)
