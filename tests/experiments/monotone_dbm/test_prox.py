import pytest
import torch
from scipy.optimize import brentq
from scipy.special import lambertw

from experiments.monotone_dbm.prox import along, prox_and_slope, prox_softmax


def by_root_finding(z, alpha):
    """p = α/(1-α) W(exp((z + ν)/α) (1-α)/α), with ν by bisection."""

    def entries(nu):
        ratio = (1 - alpha) / alpha
        return [float(lambertw(torch.exp((v + nu) / alpha) * ratio).real) / ratio for v in z]

    nu = brentq(
        lambda nu: sum(entries(nu)) - 1, -5 - float(z.max()), 2 - float(z.max()), xtol=1e-13
    )
    return torch.tensor(entries(nu), dtype=z.dtype)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_the_operator_is_what_lambert_w_and_bisection_give(alpha):
    z = torch.randn(6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(prox_softmax(z, alpha), by_root_finding(z, alpha), rtol=0, atol=1e-9)


@pytest.mark.parametrize("alpha", [0.01, 0.3, 0.95])
def test_the_operator_minimises_what_it_should(alpha):
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(50, 5, generator=generator, dtype=torch.float64)

    def objective(p):
        return ((p - z).square() / 2 + alpha * (p * p.log() - p.square() / 2)).sum(1)

    p = prox_softmax(z, alpha).clamp_min(1e-300)
    for _ in range(20):
        other = torch.randn(50, 5, generator=generator, dtype=torch.float64).softmax(1)
        for near in (other, p + 1e-3 * (other - p)):
            assert (objective(p) <= objective(near) + 1e-12).all()


def test_one_is_softmax_and_zero_is_the_projection_onto_the_simplex():
    z = torch.randn(20, 4, dtype=torch.float64)
    torch.testing.assert_close(prox_softmax(z, 1.0), z.softmax(1))
    inside = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
    torch.testing.assert_close(prox_softmax(inside, 1e-6), inside, rtol=0, atol=1e-4)


def test_probabilities_at_any_scale_and_precision():
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-11)):
        for scale in (0.01, 1, 100, 10_000):
            for alpha in (0.01, 0.125, 1.0):
                p = prox_softmax(scale * torch.randn(100, 20, dtype=dtype), alpha)
                assert p.isfinite().all() and (p >= 0).all()
                assert float((p.sum(1) - 1).abs().max()) < tolerance


def test_gradients_are_those_of_finite_differences():
    z = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)
    for alpha in (0.2, 0.8, 1.0):
        assert torch.autograd.gradcheck(lambda z, a=alpha: prox_softmax(z, a, 1), z)


def test_the_slope_gives_the_same_jacobian():
    z = torch.randn(4, dtype=torch.float64)
    w = prox_and_slope(z, 0.3)[1]
    jacobian = torch.autograd.functional.jacobian(lambda z: prox_softmax(z, 0.3), z)
    found = torch.stack([along(w, v, 0) for v in torch.eye(4, dtype=torch.float64)])
    torch.testing.assert_close(found, jacobian)


def test_only_damping_up_to_one_is_accepted():
    for alpha in (0.0, 1.1, -0.1):
        with pytest.raises(ValueError, match="alpha"):
            prox_softmax(torch.zeros(2), alpha)
