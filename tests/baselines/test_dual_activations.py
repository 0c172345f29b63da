"""Dual activations against quadrature of φ, autograd, 60 digits, and the other kernels."""

import math

import mpmath
import numpy as np
import pytest
import torch

from baselines import nngp
from baselines.nngp import Correlation

DUALS: dict[str, nngp.Dual] = {
    "h1-h7": nngp.Hermite({1: 0.5, 7: 0.5}),
    "h1-h2-h3": nngp.Hermite({1: 0.25, 2: 0.5, 3: 0.25}),
    "h2": nngp.Hermite({2: 1.0}),
    "with-mean": nngp.Hermite({0: 0.25, 1: 0.25, 3: 0.5}),
    "sine": nngp.Sine(2.676),
    "steep-sine": nngp.Sine(13.8258),
    "erf": nngp.Erf(),
    "relu": nngp.Relu(),
}
EXACT = {
    "h1-h7": lambda x: (x + x**7) / 2,
    "h1-h2-h3": lambda x: x / 4 + x**2 / 2 + x**3 / 4,
    "h2": lambda x: x**2,
    "with-mean": lambda x: mpmath.mpf(1) / 4 + x / 4 + x**3 / 2,
    "sine": lambda x: mpmath.sinh(mpmath.mpf(2.676) * x) / mpmath.sinh(mpmath.mpf(2.676)),
    "steep-sine": lambda x: mpmath.sinh(mpmath.mpf(13.8258) * x) / mpmath.sinh(mpmath.mpf(13.8258)),
    "erf": lambda x: mpmath.asin(2 * x / 3) / mpmath.asin(mpmath.mpf(2) / 3),
    "relu": lambda x: (x * (mpmath.pi - mpmath.acos(x)) + mpmath.sqrt(1 - x * x)) / mpmath.pi,
}
NEAR_ONE = [1e-15, 1e-12, 1e-7, 1e-3, 0.2, 0.5, 0.9]
NEAR_ZERO = [1e-200, 1e-30, 1e-9, 1e-3, 0.3, 0.7, 0.999]


def double(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def by_quadrature(dual: nngp.Dual, xi: float, nodes: int = 120) -> float:
    """E[φ(u) φ(v)] by Gauss-Hermite quadrature over two independent normals."""
    z, w = np.polynomial.hermite_e.hermegauss(nodes)
    z, w = torch.from_numpy(z), torch.from_numpy(w / w.sum())
    v = xi * z[:, None] + math.sqrt(1 - xi**2) * z[None]
    return float(((dual.activation(z) * w)[:, None] * dual.activation(v) * w[None]).sum())


@pytest.mark.parametrize("name", DUALS)
@pytest.mark.parametrize("xi", [0.0, 0.3, 0.8, 1.0])
def test_the_dual_is_the_correlation_of_activations(name, xi) -> None:
    at = Correlation.of_gap(double([1 - xi]))
    tolerance = 2e-2 if name == "relu" else 1e-9  # a kink costs quadrature its precision
    expected = by_quadrature(DUALS[name], xi)
    assert float(torch.exp(DUALS[name](at).log)) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("name", DUALS)
def test_neighbours_are_resolved_to_full_relative_precision(name) -> None:
    with mpmath.workdps(60):
        expected = [float(1 - EXACT[name](1 - mpmath.mpf(gap))) for gap in NEAR_ONE]
    found = DUALS[name](Correlation.of_gap(double(NEAR_ONE)))
    assert found.gap.tolist() == pytest.approx(expected, rel=1e-12, abs=0)
    assert (-torch.expm1(found.log)).tolist() == pytest.approx(expected, rel=1e-9, abs=0)


@pytest.mark.parametrize("name", DUALS)
def test_what_is_nearly_orthogonal_is_resolved_in_logarithms(name) -> None:
    with mpmath.workdps(300):
        expected = [float(mpmath.log(EXACT[name](mpmath.mpf(xi)))) for xi in NEAR_ZERO]
    log = double([math.log(xi) for xi in NEAR_ZERO])
    found = DUALS[name](Correlation(log, -torch.expm1(log)))
    assert found.log.tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", DUALS)
def test_slopes_are_derivatives(name) -> None:
    dual = DUALS[name]
    log = double([math.log(xi) for xi in (1e-3, 0.3, 0.7, 0.99)]).requires_grad_()
    value = torch.exp(dual.log_value(Correlation(log, -torch.expm1(log))))
    (by_log,) = torch.autograd.grad(value.sum(), log)
    at = Correlation(log.detach(), -torch.expm1(log.detach()))
    expected = (by_log / torch.exp(log)).tolist()
    assert torch.exp(dual.log_slope(at)).tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", DUALS)
def test_slopes_at_both_ends(name) -> None:
    dual, ends = DUALS[name], Correlation(double([-math.inf, 0.0]), double([1.0, 0.0]))
    at_zero, at_one = torch.exp(dual.log_slope(ends)).tolist()
    assert (dual.slope_at_zero, dual.slope_at_one) == pytest.approx((at_zero, at_one), rel=1e-12)
    values = dual(ends)
    assert torch.exp(values.log).tolist() == pytest.approx([dual.at_zero, 1.0], rel=1e-12)
    assert values.gap.tolist() == pytest.approx([1 - dual.at_zero, 0.0], rel=1e-12)


def test_relu_and_erf_are_those_of_the_dense_kernels() -> None:
    """Of unit variances; there ReLU without its factor is half as much."""
    angles = double([0.1, 0.8, 1.5])
    x = torch.stack([torch.cos(angles), torch.sin(angles)], 1) * math.sqrt(2)
    cross = x[:1] @ x.T / 2
    at = Correlation.of_gap((1 - cross[0]).clamp_min(0))
    one = torch.ones_like(cross)
    relu = 2 * nngp.relu_moments(cross, one, one)[0][0]
    assert torch.exp(nngp.Relu()(at).log).tolist() == pytest.approx(relu.tolist(), rel=1e-6)
    erf = nngp.erf_moments(cross, one, one)[0][0] / nngp.erf_moments(one, one, one)[0][0]
    assert torch.exp(nngp.Erf()(at).log).tolist() == pytest.approx(erf.tolist(), rel=1e-12)


def test_squares_that_do_not_add_up_to_one_are_refused() -> None:
    with pytest.raises(ValueError, match="add up to 1"):
        nngp.Hermite({1: 0.5, 3: 0.4})
