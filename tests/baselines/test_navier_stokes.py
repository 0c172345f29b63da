import math

import pytest
import torch

from baselines.navier_stokes import forced_flow
from baselines.pde import gaussian_field, navier_stokes


def grid(d):
    x = 2 * math.pi * torch.arange(d, dtype=torch.float64) / d
    return x[:, None].expand(d, d), x[None].expand(d, d)


def random_fields(count, d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    fields = gaussian_field(count, d, 5.0, 20.0, generator, periodic=True)
    return fields / fields.std()


def test_a_single_mode_decays_by_its_viscosity():
    x, y = grid(16)
    w = torch.sin(x) * torch.sin(2 * y)
    found = forced_flow(torch.zeros(1, 16, 16).double(), 0.02, 3.0, 4, start=w[None])[0]
    assert torch.allclose(found, math.exp(-5 * 0.02 * 3) * w, atol=1e-14)


def test_a_single_forced_mode_grows_to_its_balance():
    # One mode moves nothing: w' = -5 ν w + f has a closed form.
    x, y = grid(16)
    mode = torch.cos(x + 2 * y)
    found = forced_flow(torch.stack((mode, 3 * mode)), 0.1, 2.0, 40)
    expected = (1 - math.exp(-5 * 0.1 * 2)) / (5 * 0.1) * mode
    assert torch.allclose(found, torch.stack((expected, 3 * expected)), atol=1e-7)


def test_a_manufactured_steady_flow_stays_and_is_come_back_to():
    x, y = grid(16)
    w = torch.sin(x) + torch.sin(2 * y)
    # ψ = sin x + sin 2y / 4: v = (cos 2y / 2, -cos x), by hand.
    advection = 0.5 * torch.cos(2 * y) * torch.cos(x) - 2 * torch.cos(x) * torch.cos(2 * y)
    diffused = -torch.sin(x) - 4 * torch.sin(2 * y)
    forcing = (advection - diffused).expand(2, 16, 16)
    starts = torch.stack((w, w + 0.3 * torch.cos(x + y)))
    found = forced_flow(forcing, 1.0, 20.0, 800, start=starts)
    assert torch.allclose(found, w.expand_as(found), atol=1e-6)


def test_time_steps_are_of_fourth_order():
    forcing = random_fields(2, 16)
    exact = forced_flow(forcing, 0.01, 2.0, 640)
    errors = [float((forced_flow(forcing, 0.01, 2.0, n) - exact).norm()) for n in (20, 40)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.4)


def test_it_agrees_with_the_solver_of_second_order_on_the_unit_torus():
    start, (force,) = random_fields(2, 32, 1), random_fields(1, 32, 2)
    low = [torch.fft.fft2(f) for f in (start, force)]
    k = torch.fft.fftfreq(32, 1 / 32).abs()
    kept = torch.maximum(k[:, None], k) < 32 / 3
    start, force = (torch.fft.ifft2(f * kept).real for f in low)
    found = forced_flow(force.expand(2, 32, 32), 1e-3, 1.0, 50, start=start, length=1.0)
    reference = navier_stokes(start, 1e-3, torch.tensor([1.0]), 0.005, force)[:, 0]
    assert float((found - start).norm() / start.norm()) > 0.3
    assert float((found - reference).norm() / reference.norm()) < 1e-4


def test_flows_of_a_batch_know_nothing_of_each_other_and_finer_grids_agree():
    forcing = random_fields(3, 64)
    whole = forced_flow(forcing, 0.1, 2.0, 80)
    alone = forced_flow(forcing[1:2], 0.1, 2.0, 80)[0]
    assert torch.allclose(whole[1], alone, atol=1e-12)
    coarse = forced_flow(forcing[:, ::2, ::2], 0.1, 2.0, 80)
    assert float((coarse - whole[:, ::2, ::2]).norm() / coarse.norm()) < 2e-3
    single = forced_flow(forcing.float(), 0.1, 2.0, 80)
    assert single.dtype == torch.float32
    assert float((single - whole).norm() / whole.norm()) < 1e-5
