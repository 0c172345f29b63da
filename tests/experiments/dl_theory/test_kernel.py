"""Averages, recursions and critical points against closed forms and independent quadrature."""

import math

import pytest
import torch
from scipy import integrate

from experiments.dl_theory.activations import (
    ACTIVATIONS,
    Activation,
    named,
    piecewise_linear,
)
from experiments.dl_theory.kernel import (
    Layer,
    averages,
    critical_layer,
    critical_points,
    flow,
    linear_correlator,
    relu_cosine,
    vertex_rate,
)
from experiments.dl_theory.training import limit_kernel

SMOOTH = ["tanh", "sin", "gelu", "swish", "sigmoid", "softplus"]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivatives_are_those_of_autograd(name: str) -> None:
    activation = named(name)
    z = torch.tensor([-2.3, -0.7, 0.4, 1.9], dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(activation.value(z).sum(), z)
    assert torch.allclose(activation.first(z), first)
    if name in SMOOTH:
        (second,) = torch.autograd.grad(activation.first(z).sum(), z)
        assert torch.allclose(activation.second(z), second)


def test_gelu_and_softplus_are_torchs() -> None:
    z = torch.linspace(-4, 4, 9)
    assert torch.allclose(named("gelu").value(z), torch.nn.functional.gelu(z), atol=1e-6)
    assert torch.allclose(named("swish").value(z), torch.nn.functional.silu(z), atol=1e-6)


@pytest.mark.parametrize("name", SMOOTH)
def test_averages_against_scipy_quadrature(name: str) -> None:
    activation, kernel = named(name), 1.7

    def gauss(power: int) -> float:
        def integrand(x: float) -> float:
            value = float(activation.value(torch.tensor(x, dtype=torch.float64)))
            return value**power * math.exp(-x * x / 2 / kernel) / math.sqrt(2 * math.pi * kernel)

        return integrate.quad(integrand, -14, 14, limit=200)[0]

    at = averages(activation, kernel)
    assert at.square == pytest.approx(gauss(2), rel=1e-7)
    assert at.fourth == pytest.approx(gauss(4), rel=1e-7)
    step = 1e-4
    above, below = (averages(activation, kernel + s).square for s in (step, -step))
    assert at.slope == pytest.approx((above - below) / (2 * step), rel=1e-6)


def test_sine_has_closed_forms() -> None:
    at = averages(named("sin"), 0.8)
    assert at.square == pytest.approx((1 - math.exp(-1.6)) / 2, rel=1e-12)
    assert at.gain == pytest.approx((1 + math.exp(-1.6)) / 2, rel=1e-12)
    assert at.slope == pytest.approx(math.exp(-1.6), rel=1e-12)


def test_scale_invariant_averages_are_those_of_the_quadrature() -> None:
    leaky = piecewise_linear(0.3, 1.2)
    at = averages(leaky, 2.0)
    x = torch.randn(400_000, generator=torch.Generator().manual_seed(0)).double() * 2**0.5
    assert at.square == pytest.approx(float(leaky.value(x).square().mean()), rel=0.01)
    assert at.fourth == pytest.approx(float(leaky.value(x).pow(4).mean()), rel=0.03)


def test_at_criticality_both_susceptibilities_are_one() -> None:
    for name in ("gelu", "swish"):
        (point,) = critical_points(named(name))
        at = averages(named(name), point.kernel)
        assert point.weight_variance * at.slope == pytest.approx(1, abs=1e-9)
        assert point.weight_variance * at.gain == pytest.approx(1, abs=1e-9)
        after = point.bias_variance + point.weight_variance * at.square
        assert after == pytest.approx(point.kernel, abs=1e-9)


def test_sigmoid_and_softplus_have_no_critical_layer() -> None:
    for name in ("sigmoid", "softplus"):
        assert critical_points(named(name)) == []
        with pytest.raises(ValueError, match="no critical"):
            critical_layer(named(name))


def test_a_critical_point_that_asks_for_a_negative_variance_is_none() -> None:
    """GELU and a tenth has susceptibilities of 1 at K = 18.96, with C_b = -0.22."""
    gelu = named("gelu")
    lifted = Activation(lambda z: gelu.value(z) + 0.1, gelu.first, gelu.second)
    at = averages(lifted, 18.958926)
    assert at.slope == pytest.approx(at.gain, abs=1e-6)
    assert at.square / at.gain > 18.958926 + 0.2
    assert critical_points(lifted) == []


def test_the_tangent_kernel_is_that_of_two_equal_inputs() -> None:
    """Away from scale-invariant activations the two susceptibilities differ."""
    x = torch.full((1, 7), 0.9**0.5, dtype=torch.float64)
    along = flow(critical_layer(named("tanh")), 0.9, 5).tangent
    expected = [float(limit_kernel(x, depth)) for depth in range(1, 6)]
    assert along == pytest.approx(expected, rel=1e-5)


def test_skips_need_criticality_without_biases() -> None:
    with pytest.raises(ValueError, match="C_b"):
        critical_layer(named("gelu"), skip=0.5)
    assert critical_layer(named("relu"), skip=0.6).weight_variance == pytest.approx(2 * 0.64)


def test_k0_class_decays_as_one_over_twice_the_depth() -> None:
    along = flow(critical_layer(named("tanh")), 1.0, 2000)
    assert 2 * 2000 * along.kernel[-1] == pytest.approx(1, abs=0.01)
    assert 2000 * flow(critical_layer(named("sin")), 1.0, 2000).kernel[-1] == pytest.approx(
        1, abs=0.01
    )


@pytest.mark.parametrize("skip", [0.0, 0.5, 0.8])
def test_vertex_recursion_grows_at_the_stated_rate(skip: float) -> None:
    for name in ("linear", "relu", "leaky"):
        along = flow(critical_layer(named(name), skip), 1.0, 6)
        rates = torch.tensor(along.vertex).diff()
        assert torch.allclose(rates, torch.full((5,), vertex_rate(named(name), skip)))
    along = flow(critical_layer(named("tanh"), skip), 1.0, 3000)
    ratio = [v / k**2 for v, k in zip(along.vertex, along.kernel, strict=True)]
    slope = (ratio[-1] - ratio[1999]) / 1000
    assert slope == pytest.approx(vertex_rate(named("tanh"), skip), rel=0.01)


def test_vertex_recursion_of_linear_networks_is_the_exact_one_to_first_order() -> None:
    layer = Layer(named("linear"), 0.0, 1.1)
    along, n, depth = flow(layer, 1.0, 8), 1e6, 8
    connected = (linear_correlator(2, int(n), depth) - 1) * along.kernel[-1] ** 2
    assert along.vertex[-1] / n == pytest.approx(connected, rel=1e-4)


def test_linear_correlators_hand_computed() -> None:
    assert linear_correlator(2, 4, 3) == pytest.approx(1.5**2)
    assert linear_correlator(3, 4, 2) == pytest.approx(1 + 6 / 4 + 8 / 16)


def test_relu_cosine_against_sampling() -> None:
    generator = torch.Generator().manual_seed(1)
    a, rest = torch.randn(2, 400_000, generator=generator).double()
    b = 0.3 * a + math.sqrt(1 - 0.09) * rest
    product = (torch.relu(a) * torch.relu(b)).mean() / torch.relu(a).square().mean()
    assert relu_cosine(0.3) == pytest.approx(float(product), abs=0.01)
    assert relu_cosine(1.0) == pytest.approx(1)


def test_unknown_activation_and_slopes_of_one_with_a_scale() -> None:
    with pytest.raises(ValueError, match="relu"):
        named("rellu")
    with pytest.raises(ValueError, match="scale-invariant"):
        named("tanh").moment(2)
