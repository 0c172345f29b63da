"""The 20-layer network: its equations, its initialisations, and why zeros never learn."""

import math

import pytest
import torch

from experiments.gradient_noise.model import DeepNet, random_walk_gain, weight_std


def test_forward_is_relu_layers_and_a_linear_readout():
    torch.manual_seed(0)
    net = DeepNet(features=4, classes=3, depth=2, width=5, init="he")
    x = torch.randn(7, 4)
    first, second = net.hidden
    h = (x @ first.weight.T + first.bias).clamp(min=0)
    h = (h @ second.weight.T + second.bias).clamp(min=0)
    expected = h @ net.readout.weight.T + net.readout.bias
    torch.testing.assert_close(net(x), expected)


@pytest.mark.parametrize(
    ("init", "fan_in", "std"),
    [("simple", 784, 0.1), ("he", 50, 0.2), ("he", 784, math.sqrt(2 / 784)), ("zero", 50, 0.0)],
)
def test_weights_have_the_initialisations_standard_deviation(init, fan_in, std):
    torch.manual_seed(0)
    net = DeepNet(features=fan_in, classes=10, depth=1, width=400, init=init)
    assert weight_std(init, fan_in) == pytest.approx(std)
    assert float(net.hidden[0].weight.detach().std()) == pytest.approx(std, rel=0.02)
    assert not net.hidden[0].bias.any()


def test_random_walk_gain_keeps_the_log_norm_of_back_propagated_gradients():
    """Sussillo and Abbott choose g so that the norm's logarithm is a walk without drift.

    Simulated with independent gates, as in their derivation; He's g = √2 drifts downwards.
    """

    def drift(gain: float, width: int = 50, walks: int = 2000, layers: int = 20) -> float:
        generator = torch.Generator().manual_seed(0)
        d = torch.randn(walks, width, generator=generator)
        before = d.norm(dim=1).log().mean()
        for _ in range(layers):
            # The product of a Gaussian matrix with d is Gaussian with variance |d|² g² / N.
            scale = gain * d.norm(dim=1, keepdim=True) / math.sqrt(width)
            gate = torch.rand(walks, width, generator=generator) < 0.5
            d = torch.randn(walks, width, generator=generator) * scale * gate
        return float(d.norm(dim=1).log().mean() - before) / layers

    assert abs(drift(random_walk_gain(50))) < 0.003
    assert drift(math.sqrt(2)) < -0.015


def test_zero_weights_get_no_gradient_except_the_last_bias():
    net = DeepNet(features=6, classes=3, depth=4, width=5, init="zero")
    loss = torch.nn.functional.cross_entropy(net(torch.rand(8, 6)), torch.arange(8) % 3)
    loss.backward()
    moved = [name for name, p in net.named_parameters() if p.grad.abs().max() > 0]
    assert moved == ["readout.bias"]


def test_dropout_masks_and_rescales_hidden_units():
    torch.manual_seed(0)
    net = DeepNet(features=4, classes=3, depth=2, width=5, init="he", dropout=0.5)
    assert net.draws == 10
    x = torch.randn(6, 4)
    draws = torch.rand(6, 10)
    first, second = net.hidden
    h = torch.relu(first(x)) * (draws[:, :5] >= 0.5) * 2
    h = torch.relu(second(h)) * (draws[:, 5:] >= 0.5) * 2
    torch.testing.assert_close(net(x, draws), net.readout(h))
    torch.testing.assert_close(net(x), net.readout(torch.relu(second(torch.relu(first(x))))))


def test_dropout_of_everything_is_refused():
    with pytest.raises(ValueError, match="dropout"):
        DeepNet(features=4, classes=3, dropout=1.0)
