import math

import pytest
import torch
import torch.nn.functional as F

from baselines.operators import (
    DilatedResNet,
    RelativeError,
    RelativeLoss,
    UNet,
    relative_errors,
)


def count(model):
    return sum(p.numel() for p in model.parameters())


def wave(kx, ky, d=64):
    x = torch.arange(d, dtype=torch.float64) / d
    return torch.cos(2 * math.pi * (kx * x[:, None] + ky * x))[None, None]


def test_relative_errors_are_those_of_each_function():
    target = torch.tensor([[[[3.0, 4.0]]], [[[0.0, 2.0]]]])
    output = torch.tensor([[[[3.0, 5.0]]], [[[0.0, 0.0]]]])
    assert relative_errors(output, target).tolist() == pytest.approx([0.2, 1.0])
    assert float(RelativeLoss()(output, target)) == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("k", "counted"), [((3, 4), 26), ((19, 0), 362), ((20, 1), 2), ((25, 30), 1)]
)
def test_h1_weights_a_wave_by_its_number_up_to_the_truncation(k, counted):
    target, error = wave(1, 0), 0.1 * wave(*k)
    found = float(relative_errors(target + error, target, "h1"))
    assert found == pytest.approx(0.1 * math.sqrt(counted / 2), rel=1e-9)
    assert float(relative_errors(target + error, target)) == pytest.approx(0.1, rel=1e-9)


def test_without_truncation_h1_is_the_norm_of_function_and_derivatives():
    # On band-limited functions: sums of squares of u and of its derivatives over 2π.
    generator = torch.Generator().manual_seed(0)
    target, output = torch.randn(2, 1, 1, 16, 16, generator=generator, dtype=torch.float64)
    k = torch.fft.fftfreq(16, 1 / 16, dtype=torch.float64)

    def norm(u):
        spectrum = torch.fft.fft2(u)
        derivatives = [torch.fft.ifft2(1j * kk * spectrum) for kk in (k[:, None], k)]
        return math.sqrt(sum(float(v.abs().pow(2).sum()) for v in (u, *derivatives)))

    found = float(relative_errors(output, target, "h1", below=99))
    assert found == pytest.approx(norm(output - target) / norm(target), rel=1e-9)


def test_the_error_of_a_split_is_the_mean_over_functions_whatever_the_batches():
    generator = torch.Generator().manual_seed(0)
    output, target = torch.randn(2, 7, 1, 8, 8, generator=generator)
    metric = RelativeError("h1")
    for part in (slice(0, 5), slice(5, 7)):
        metric.update(output[part], target[part])
    assert float(metric.compute()) == pytest.approx(
        float(relative_errors(output, target, "h1").mean())
    )
    assert metric.higher_is_better is False


def test_a_u_net_has_the_parameters_of_its_blocks_and_sees_the_whole_grid():
    w = 4
    blocks = [(1, w), (w, 2 * w), (2 * w, 4 * w), (4 * w, 2 * w), (2 * w, w)]
    convolutions = sum(9 * a * b + 9 * b * b + 4 * b for a, b in blocks)
    rises = sum(4 * 2 * v * v + v for v in (2 * w, w))
    model = UNet(width=w, levels=3).eval()
    assert count(model) == convolutions + rises + w + 1
    x = torch.randn(1, 1, 16, 16, requires_grad=True)
    output = model(x)
    assert output.shape == (1, 1, 16, 16)
    (gradient,) = torch.autograd.grad(output[0, 0, 8, 8], x)
    assert int((gradient != 0).sum()) > 150


def test_a_u_net_uses_its_skips():
    torch.manual_seed(0)
    model = UNet(width=4, levels=2).eval()
    x = torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        for parameter in model.rise.parameters():
            parameter.zero_()
        assert float((model(x) - model(x.roll(1, -1))).abs().max()) > 1e-4


def test_dilations_reach_as_far_as_their_sum():
    model = DilatedResNet(width=3, blocks=1).double()
    assert count(DilatedResNet()) == 2 * 9 * 48 + 49 + 28 * (9 * 48**2 + 48)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(0.1 if name.endswith("weight") else 0.0)
    x = torch.zeros(1, 1, 65, 65, dtype=torch.float64)
    x[0, 0, 32, 32] = 1
    reached = (model(x)[0, 0, 32] != 0).nonzero().flatten()
    assert (int(reached[0]), int(reached[-1])) == (32 - 24, 32 + 24)  # 1 + (1+2+4+8+4+2+1) + 1


def test_a_dilated_block_is_added_to_what_it_is_given():
    model = DilatedResNet(width=3, blocks=2)
    with torch.no_grad():
        for parameter in model.blocks.parameters():
            parameter.zero_()
    x = torch.randn(1, 1, 8, 8)
    torch.testing.assert_close(model(x), model.decode(F.relu(model.encode(x))))
