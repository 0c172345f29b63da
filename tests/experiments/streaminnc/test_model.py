"""The three networks: shapes, sizes, and what a longer input changes."""

from itertools import pairwise

import pytest
import torch

from experiments.streaminnc.model import AccelerationNet, EEGNet, HeartRateNet
from experiments.streaminnc.streaming import needed_history, stages


@pytest.mark.parametrize(
    ("net", "channels", "output"),
    [(HeartRateNet(), 1, (3,)), (EEGNet(), 18, (3, 2)), (AccelerationNet(), 4, (3, 2))],
)
def test_shapes_with_and_without_history(net, channels, output):
    for history in (0, 64):
        assert net.eval()(torch.zeros(3, channels, net.window + history)).shape == output


def test_sizes_are_those_of_the_described_layers():
    def convolutions(net, kernel, widths):
        counted = sum(p.numel() for p in net.features.parameters() if p.dim() == 3)
        return counted == sum(a * b * kernel for a, b in pairwise(widths))

    assert convolutions(HeartRateNet(), 5, [1, 32, 32, 32, 48, 48, 48, 64, 64, 64])
    assert convolutions(EEGNet(), 3, [18, 128, 128, 128])
    assert convolutions(AccelerationNet(), 3, [4, 8, 16, 32, 64, 128, 256])
    head = HeartRateNet().head
    # attention: 3 projections in, one out; normalisation; 16 columns of 64 to 32 to 1
    expected = 4 * (64 * 64 + 64) + 2 * 64 + (1024 * 32 + 32) + 33
    assert sum(p.numel() for p in head.parameters()) == expected


def test_attention_and_normalisation_are_those_of_keras():
    """Limits of Glorot's uniform law for matrices of 64 x 64, and ε of the layer."""
    torch.manual_seed(0)
    attention, normalisation = HeartRateNet().head[0].attention, HeartRateNet().head[1]
    limit = (6 / (64 + 64)) ** 0.5
    for projection in (*attention.in_proj_weight.chunk(3), attention.out_proj.weight):
        assert 0.99 * limit < float(projection.detach().abs().max()) <= limit
    assert not attention.in_proj_bias.any() and not attention.out_proj.bias.any()
    small = torch.tensor([-1e-2, 1e-2]).repeat(32)  # variance 1e-4, a tenth of ε
    expected = small / (1e-4 + 1e-3) ** 0.5
    torch.testing.assert_close(normalisation(small), expected)


def test_the_heart_rate_network_is_causal_and_looks_back_312_samples():
    net = HeartRateNet().eval()
    assert needed_history(stages(net.features)) == 312
    x = torch.randn(1, 1, 640, requires_grad=True)
    net.features(x)[0, :, 24].sum().backward()  # samples 384 to 399
    seen = x.grad[0, 0].nonzero().flatten()
    assert int(seen.min()) >= 384 - 312 and int(seen.max()) <= 399


def test_history_reaches_the_output_up_to_312_samples():
    net = HeartRateNet().eval()
    x = torch.randn(1, 1, 352 + 256)
    changed = x.clone()
    changed[..., : 352 - 312] += 1
    with torch.no_grad():
        torch.testing.assert_close(net(x), net(changed))
        assert (net(x) - net(x[..., 320:])).abs() > 1e-6


def test_centre_and_spread_scale_the_output():
    torch.manual_seed(0)
    plain = HeartRateNet().eval()
    torch.manual_seed(0)
    scaled = HeartRateNet(centre=100, spread=25).eval()
    x = torch.randn(2, 1, 256)
    torch.testing.assert_close(scaled(x), 100 + 25 * plain(x))
