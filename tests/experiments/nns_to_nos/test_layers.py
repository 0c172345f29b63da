import numpy as np
import pytest
import torch
import torch.nn.functional as F
from neuralop.layers.differential_conv import FiniteDifferenceConvolution
from scipy.interpolate import RegularGridInterpolator

from experiments.nns_to_nos.layers import (
    Attention,
    Difference,
    InterpolatedConvolution,
    LocalIntegral,
    NeighbourhoodIntegral,
    periodic_convolution,
    stretched,
)


def functions(d, channels=2, count=3):
    return torch.randn(count, channels, d, d, dtype=torch.float64)


def around(f, margin):
    return F.pad(f, [margin] * 4, mode="circular")


def test_periodic_convolution_is_that_of_torch_and_goes_around_the_torus():
    torch.manual_seed(0)
    f, kernel = functions(8), torch.randn(4, 2, 5, 5, dtype=torch.float64)
    assert torch.allclose(periodic_convolution(f, kernel), F.conv2d(around(f, 2), kernel))
    small = functions(4)  # the kernel is wider than the torus
    twice = torch.tile(small, (1, 1, 3, 3))
    expected = F.conv2d(twice, kernel)[..., 2:6, 2:6]
    assert torch.allclose(periodic_convolution(small, kernel), expected)


def test_on_the_base_grid_the_integral_is_a_convolution_of_pixels():
    torch.manual_seed(0)
    f = functions(16)
    for settings in ({}, {"support": "pixels", "weighted": False}, {"weighted": False}):
        layer = LocalIntegral(2, 3, size=5, base=16, **settings).double()
        expected = F.conv2d(around(f, 2), layer.weight / 16**2)
        assert torch.allclose(layer(f), expected)


def test_the_kernel_is_a_function_of_coordinates_summed_with_weights():
    torch.manual_seed(0)
    layer = LocalIntegral(1, 1, size=3, base=8).double()
    d, place = 20, (3, 17)
    theta = np.pad(layer.weight.detach()[0, 0].numpy(), 1)
    at = np.arange(-2, 3) / 8
    kernel = RegularGridInterpolator((at, at), theta, bounds_error=False, fill_value=0.0)
    f = functions(d, 1, 1)
    x = (np.arange(d)[:, None] - place) / d
    x = x - np.round(x)
    apart = np.stack(np.meshgrid(x[:, 0], x[:, 1], indexing="ij"), -1)
    expected = float((kernel(apart) * f[0, 0].numpy()).sum() / d**2)
    assert layer(f)[0, 0, *place].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", [LocalIntegral, Difference])
def test_the_closed_form_is_approached(kind):
    torch.manual_seed(0)
    layer = kind(1, 1, size=3, base=8).double()
    k = torch.tensor([[2.0, -1.0]], dtype=torch.float64)
    x = torch.arange(256, dtype=torch.float64) / 256
    wave = 2 * torch.pi * (2 * x[:, None] - x)
    found = layer(torch.stack((wave.cos(), wave.sin()))[:, None])[:, 0]
    expected = layer.symbol(k)[0, 0, 0] * torch.exp(1j * wave)
    error = (torch.complex(*found) - expected).abs().max() / expected.abs().max()
    assert float(error) < (1e-3 if kind is LocalIntegral else 5e-2)


def test_differences_are_those_of_neuralop_up_to_its_middle():
    torch.manual_seed(0)
    ours = Difference(2, 3, size=3).double()
    theirs = FiniteDifferenceConvolution(2, 3, n_dim=2).double()
    f = functions(16)
    # neuralop takes the sum from the middle weight, where here the mean is taken from each.
    with torch.no_grad():
        theirs.conv.weight.copy_(ours.weight - ours.weight.mean((2, 3), keepdim=True))
    assert torch.allclose(ours(f), theirs(f, 1 / 16))
    assert float(ours(torch.ones(1, 2, 8, 8, dtype=torch.float64)).abs().max()) < 1e-12


@pytest.mark.parametrize(("scale", "size"), [(2.0, 9), (4.0, 17), (0.5, 3)])
def test_stretched_kernels_keep_their_response_to_a_constant(scale, size):
    kernel = torch.full((1, 1, 5, 5), 0.3)
    found = stretched(kernel, scale)
    assert found.shape[-2:] == (size, size)
    assert float(found.sum()) == pytest.approx(25 * 0.3, rel=1e-5)


def test_stretched_kernels_are_linear_between_pixel_middles():
    torch.manual_seed(0)
    kernel = torch.randn(1, 1, 1, 5, dtype=torch.float64)
    found = stretched(kernel, 2.0)[0, 0, 0]
    middles = (np.arange(9) + 0.5) * 5 / 9 - 0.5
    expected = np.interp(middles, np.arange(5), kernel[0, 0, 0].numpy()) * 5 / 9
    assert np.allclose(found.numpy(), expected)
    assert stretched(kernel, 1.0) is kernel
    layer = InterpolatedConvolution(1, 1, size=5, base=8).double()
    f = functions(16, 1)
    expected = F.conv2d(around(f, 4), stretched(layer.weight, 2.0) / 64)
    assert torch.allclose(layer(f), expected)


@pytest.mark.parametrize("kind", [Attention, NeighbourhoodIntegral])
def test_a_point_may_be_two_points_of_half_the_weight(kind):
    torch.manual_seed(0)
    layer = kind(channels=2).double()
    f, x = torch.randn(3, 40, 2).double(), torch.rand(40, 2).double()
    weights, y = torch.rand(40).double(), torch.rand(7, 2).double()
    whole = layer(f, x, weights, y)
    halves = torch.cat((weights[:1] / 2, weights[1:], weights[:1] / 2))
    split = layer(torch.cat((f, f[:, :1]), 1), torch.cat((x, x[:1])), halves, y)
    assert torch.allclose(whole, split) and whole.shape == (3, 7, 8)
    counted = torch.cat((weights, weights[:1]))  # what a layer without weights would do
    twice = layer(torch.cat((f, f[:, :1]), 1), torch.cat((x, x[:1])), counted, y)
    assert not torch.allclose(whole, twice)


def test_attention_is_a_mean_and_neighbours_are_those_in_the_ball():
    torch.manual_seed(0)
    attention, near = Attention().double(), NeighbourhoodIntegral(radius=0.2).double()
    f, x = torch.randn(1, 30, 1).double(), torch.rand(30, 2).double()
    weights, y = torch.rand(30).double(), torch.tensor([[0.05, 0.5]], dtype=torch.float64)
    assert torch.allclose(attention(f, x, weights, y), attention(f, x, 5 * weights, y))
    assert torch.allclose(near(f, x, 5 * weights, y), 5 * near(f, x, weights, y))
    x[0], x[1] = torch.tensor([0.95, 0.5]), torch.tensor([0.3, 0.5])
    base = near(f, x, weights, y)
    for changed, matters in ((0, True), (1, False)):  # around the border; beyond the radius
        other = f.clone()
        other[0, changed] += 1
        assert torch.allclose(near(other, x, weights, y), base) is not matters
    moved = near(f, (x + 0.4) % 1, weights, (y + 0.4) % 1)
    assert torch.allclose(moved, base)
