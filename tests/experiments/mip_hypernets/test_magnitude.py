"""Proportionality before training: what the paper derives, and where its premises end."""

import numpy as np
import pytest
import torch

from experiments.mip_hypernets.magnitude import SIZES, AtStart, Profile, dependence, log_slope
from experiments.mip_hypernets.model import HyperNet
from harness.procedures.base import Trial


def measured(tmp_path, seed=0, **options):
    trial = Trial(
        seed=seed, data=None, model=torch.nn.Module, device=torch.device("cpu"), workdir=tmp_path
    )
    outcome = AtStart(draws=8, outputs=(20, 30), **options).run(trial)
    assert set(outcome.metrics) | set(outcome.series) == AtStart.produces({})
    return outcome.metrics


def test_slope_and_dependence_of_known_curves():
    x = torch.tensor(SIZES)
    assert log_slope(x, 3 * x**1.7) == pytest.approx(1.7, abs=1e-5)
    expected = np.polyfit(np.log(SIZES), np.log(1 + np.array(SIZES)), 1)[0]
    assert log_slope(x, 1 + x) == pytest.approx(expected, abs=1e-5)
    assert dependence(torch.ones(4, 3)) == 0
    assert dependence(torch.tensor([[1.0, -2.0], [-1.0, 2.0]])) == pytest.approx(1)
    assert dependence(torch.tensor([[2.0], [0.0]])) == pytest.approx(0.5**0.5)


@pytest.mark.parametrize("activation", ["relu", "leaky-relu"])
@pytest.mark.parametrize("inputs", [1, 3])
def test_default_is_proportional_in_every_layer(tmp_path, activation, inputs):
    found = measured(tmp_path, activation=activation, inputs=inputs)
    assert found["disproportion"] < 1e-12
    assert found["slope"] == pytest.approx(1) and found["variance_slope"] == pytest.approx(2)
    assert found["norm_ratio"] == pytest.approx(100)


@pytest.mark.parametrize("premise", [{"activation": "gelu"}, {"activation": "tanh"}])
def test_without_a_piecewise_linear_activation_it_is_not_proportional(tmp_path, premise):
    assert measured(tmp_path, **premise)["disproportion"] > 0.1


def test_with_the_biases_of_linear_layers_theta_hardly_grows_with_gamma(tmp_path):
    found = measured(tmp_path, uniform_biases=True)
    assert found["disproportion"] > 1 and abs(found["slope"]) < 0.1 and found["norm_ratio"] < 1.5


def test_encoded_inputs_have_one_norm_and_theta_does_not_grow(tmp_path):
    found = measured(tmp_path, encoding="cos-sin", inputs=2)
    assert found["encoding_error"] < 1e-12
    assert found["norm_ratio"] < 5 and abs(found["slope"]) < 0.4 and found["dependence"] > 0.1
    plain = measured(tmp_path, encoding="none", inputs=2)
    assert plain["encoding_error"] > 1


def test_layer_norm_loses_gamma_altogether(tmp_path):
    """Normalising what is proportional to γ > 0 leaves its direction, which is one and the same."""
    found = measured(tmp_path, layer_norm=True)
    assert found["dependence"] < 0.02 < 0.3 < measured(tmp_path)["dependence"]


def test_disproportion_looks_at_hidden_layers_too():
    torch.manual_seed(0)
    net = HyperNet({"a.weight": (3, 2)}, hidden=[4]).double()
    with torch.no_grad():
        net.layers[0][0].bias[0] = 1.0
        net.output.weight[:, 0] = 0.0  # θ does not see it
    sizes = torch.tensor([0.1, 1.0], dtype=torch.float64)
    assert Profile.of(net, sizes, torch.ones(1, dtype=torch.float64)).disproportion > 1


def test_the_residual_adds_theta_0_to_what_the_hypernetwork_gives():
    torch.manual_seed(1)
    net = HyperNet({"a.weight": (30, 20)}, residual=True).double()
    zero = net.flat(torch.zeros(1, dtype=torch.float64))
    torch.testing.assert_close(zero, net.output.bias)
    one, half = (net.flat(torch.tensor([g], dtype=torch.float64)) - zero for g in (1.0, 0.5))
    torch.testing.assert_close(half, one / 2)
