import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from experiments.nns_to_nos.extension import extended, resized, with_stretched_kernels
from experiments.nns_to_nos.layers import stretched
from experiments.nns_to_nos.model import UNet


def wave(d, k=2):
    x = 2 * torch.pi * torch.arange(d, dtype=torch.float64) / d
    return torch.sin(k * x[:, None] + x)[None, None]


@pytest.mark.parametrize(("d", "side"), [(16, 64), (64, 16), (16, 8)])
def test_smooth_periodic_functions_are_interpolated_exactly_by_wave_numbers(d, side):
    assert torch.allclose(resized(wave(d), side, "fourier"), wave(side), atol=1e-12)


def test_wave_numbers_of_half_the_smaller_side_and_above_are_lost():
    for k in (8, 9, 13):
        assert float(resized(wave(32, k), 16, "fourier").abs().max()) < 1e-12
        assert float(resized(wave(32, k), 16, "aligned").abs().max()) > 0.5  # aliases


def test_aligned_interpolation_keeps_common_points_and_is_linear_between():
    torch.manual_seed(0)
    x = torch.randn(1, 1, 8, 8)
    up = resized(x, 32, "aligned")
    assert torch.equal(up[..., ::4, ::4], x) and torch.equal(resized(up, 8, "aligned"), x)
    places = np.arange(32) / 4
    expected = np.interp(places, np.arange(9), [*x[0, 0, :, 3].numpy(), float(x[0, 0, 0, 3])])
    assert np.allclose(up[0, 0, :, 12].numpy(), expected, atol=1e-6)
    goes_on = resized(x, 32, "aligned", periodic=False)
    assert torch.equal(goes_on[..., 31, :], goes_on[..., 28, :])
    with pytest.raises(ValueError, match="no common grid"):
        resized(x, 12, "aligned")


def test_bilinear_interpolation_of_pixels_moves_points_by_half_a_cell():
    x = torch.arange(8.0).expand(1, 1, 8, 8)
    assert resized(x, 4, "bilinear")[0, 0, 0].tolist() == [0.5, 2.5, 4.5, 6.5]
    assert resized(x, 4, "aligned")[0, 0, 0].tolist() == [0, 2, 4, 6]


class Seen(nn.Module):
    def forward(self, x):
        self.side = x.shape[-1]
        return 2 * x


@pytest.mark.parametrize("by", ["bilinear", "aligned", "fourier"])
def test_between_interpolations_a_network_sees_its_own_grid_alone(by):
    seen = Seen()
    assert extended(seen, 16, 16, by, True) is seen
    whole = extended(seen, 16, 64, by, True)
    found = whole(wave(64))
    assert seen.side == 16 and found.shape[-1] == 64
    low = 0.9 if by == "fourier" else 0.5
    assert float((found - 2 * wave(64)).norm() / (2 * wave(64)).norm()) < 1 - low
    assert extended(seen, 16, 64, "none", True) is seen


def test_kernels_are_stretched_on_a_copy():
    torch.manual_seed(0)
    network = UNet(4, (1, 2), 5)
    before = {name: p.clone() for name, p in network.named_parameters()}
    fine = with_stretched_kernels(network, 2.0)
    assert all(torch.equal(before[name], p) for name, p in network.named_parameters())
    assert torch.equal(fine.first.weight, stretched(network.first.weight, 2.0))
    assert fine.first.padding == (4, 4) and fine.last.weight.shape[-1] == 9
    x = torch.randn(1, 3, 32, 32)
    expected = F.conv2d(x, fine.first.weight, fine.first.bias, padding=4)
    assert torch.allclose(fine.first(x), expected)
    assert fine(x[:, :1]).shape == (1, 1, 32, 32)
    assert with_stretched_kernels(network, 0.5)(x[:, :1, :8, :8]).shape == (1, 1, 8, 8)
    whole = with_stretched_kernels(network, 1.0)
    assert torch.allclose(whole(x[:, :1]), network(x[:, :1]), atol=1e-6)


def test_stretched_networks_are_nearer_to_themselves_on_smooth_functions():
    torch.manual_seed(0)
    network = UNet(6, (1, 2), 5).double()
    coarse = network(wave(32))
    plain, kernels = (
        extended(network, 32, 64, by, True)(wave(64))[..., ::2, ::2] for by in ("none", "kernels")
    )
    inner = (..., slice(8, 24), slice(8, 24))
    assert (kernels - coarse)[inner].norm() < 0.5 * (plain - coarse)[inner].norm()
