import math

import pytest
import torch

from experiments.rnn_review.theory import (
    Carousel,
    GradientFlow,
    activated,
    jacobian_norms,
    recurrent_matrix,
    spectral_norm,
    spectral_radius,
)
from harness.procedures.base import Trial
from harness.seeding import seed_all


def run(procedure, tmp_path, seed=0):
    seed_all(seed)
    return procedure.run(Trial(seed, None, None, torch.device("cpu"), tmp_path))


@pytest.mark.parametrize("activation", ["tanh", "logistic", "linear"])
def test_the_jacobian_is_that_of_automatic_differentiation(activation):
    torch.manual_seed(0)
    weights = recurrent_matrix("singular", 5, 1.3)
    x = torch.randn(6, 5, dtype=torch.float64)

    def last(h):
        for now in x:
            h, _ = activated(weights @ h + now, activation)
        return h

    start = torch.zeros(5, dtype=torch.float64)
    expected = spectral_norm(torch.autograd.functional.jacobian(last, start))
    assert jacobian_norms(weights, x, activation)[-1] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("activation", ["tanh", "logistic"])
@pytest.mark.parametrize("gain", [0.9, 3.0])
def test_the_bound_holds_at_every_lag(activation, gain, tmp_path):
    found = run(GradientFlow(gain, activation), tmp_path)
    assert found.metrics["bound_excess"] <= 0
    if gain < 1:  # 100 lags of a factor of at most 0.9
        assert found.metrics["log10_norm"] <= 100 * math.log10(0.9)


def test_a_linear_orthogonal_network_meets_the_bound_exactly(tmp_path):
    found = run(GradientFlow(1.0, "linear", matrix="orthogonal"), tmp_path)
    assert found.metrics["bound_excess"] == pytest.approx(0, abs=1e-12)
    assert found.series["norm_over_lag"].y == pytest.approx([1.0] * 7)


def test_the_spectral_radius_bounds_nothing(tmp_path):
    settings = {"activation": "linear", "matrix": "jordan"}
    by_radius = run(GradientFlow(0.9, bound="radius", **settings), tmp_path)
    assert by_radius.metrics["bound_excess"] > 1
    by_norm = run(GradientFlow(0.9, bound="singular", **settings), tmp_path)
    assert by_norm.metrics["bound_excess"] <= 1e-9
    weights = recurrent_matrix("jordan", 3, 0.9)
    assert spectral_radius(weights) == pytest.approx(0.9, abs=1e-3)
    assert spectral_norm(weights) > 1.5


def test_the_carousel_keeps_an_error_as_it_is(tmp_path):
    found = run(Carousel(lag=300), tmp_path).metrics
    assert found["error_flow"].value == 1.0 and found["path_error"] == 0.0


def test_with_a_forget_gate_the_error_is_the_product_of_gates(tmp_path):
    flow, product = Carousel(lag=20, forget="gate").flows(torch.Generator().manual_seed(3))
    torch.testing.assert_close(flow, product, atol=0, rtol=1e-12)
    assert 0 < product.max() < 0.1
    assert run(Carousel(lag=1000, forget="gate"), tmp_path).metrics["error_flow"].value < 1e-50


def test_what_leaves_the_cell_and_comes_back_is_not_in_the_product():
    flow, product = Carousel(lag=20, cut=False).flows(torch.Generator().manual_seed(3))
    assert (flow - product).abs().max() > 1e-3
