import math

import pytest
import torch

from baselines.pde import (
    corrector,
    diffusion,
    diffusion_matrix,
    gaussian_field,
    navier_stokes,
    two_phases,
)


def middles(d):
    x = (torch.arange(d, dtype=torch.float64) + 0.5) / d
    return x[:, None].expand(d, d), x[None].expand(d, d)


def rough(d, seed=0, periodic=False):
    generator = torch.Generator().manual_seed(seed)
    return two_phases(gaussian_field(1, d, 2.0, 3.0, generator, periodic), 2.0, 12.0)


# Fields.


def test_a_field_has_the_spectrum_of_its_covariance():
    generator = torch.Generator().manual_seed(0)
    fields = gaussian_field(4000, 16, 2.0, 3.0, generator)
    x, y = middles(16)
    for i, j in ((1, 0), (0, 2), (3, 1)):
        # The component along an orthonormal cosine, integrated by the midpoint rule.
        norm = 2 if i and j else math.sqrt(2)
        basis = norm * torch.cos(i * math.pi * x) * torch.cos(j * math.pi * y)
        found = float((fields * basis).mean((1, 2)).std())
        assert found == pytest.approx((math.pi**2 * (i**2 + j**2) + 9) ** -1.0, rel=0.05)
    assert float(fields.mean((1, 2)).abs().max()) < 1e-12


def test_a_periodic_field_has_the_variance_of_its_spectrum_and_does_not_know_where_it_begins():
    generator = torch.Generator().manual_seed(0)
    fields = gaussian_field(2000, 16, 2.0, 3.0, generator, periodic=True)
    k = 2 * math.pi * torch.fft.fftfreq(16, 1 / 16, dtype=torch.float64)
    weight = (k[:, None] ** 2 + k**2 + 9) ** -2.0
    weight[0, 0] = 0
    assert float(fields.var(0).mean()) == pytest.approx(float(weight.sum()), rel=0.05)
    jump = (fields[:, 0] - fields[:, -1]).pow(2).mean()
    assert float(jump) == pytest.approx(float((fields[:, 1] - fields[:, 0]).pow(2).mean()), rel=0.1)


def test_two_phases_follow_the_sign():
    assert two_phases(torch.tensor([-0.1, 0.0, 2.0]), 3.0, 12.0).tolist() == [3.0, 12.0, 12.0]


# Diffusion.


def test_constant_coefficients_give_the_series_of_the_unit_square():
    # -Δu = 1 with u = 0 on the border: double sine series of odd wave numbers.
    d = 64
    x, y = middles(d)
    series = torch.zeros(d, d, dtype=torch.float64)
    for m in range(1, 100, 2):
        for n in range(1, 100, 2):
            factor = 16 / (math.pi**4 * m * n * (m**2 + n**2))
            series += factor * torch.sin(m * math.pi * x) * torch.sin(n * math.pi * y)
    (u,) = diffusion(torch.full((1, d, d), 3.0), 1.0)
    assert float((3 * u - series).abs().max()) < 2e-3 * float(series.max())


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
def test_a_smooth_solution_is_approached_by_the_square_of_the_cell(boundary):
    def error(d):
        x, y = middles(d)
        s, c = torch.sin, torch.cos
        p = math.pi
        if boundary == "dirichlet":
            u = s(p * x) * s(2 * p * y)
            ux, uy = p * c(p * x) * s(2 * p * y), 2 * p * s(p * x) * c(2 * p * y)
            lap = -5 * p**2 * u
        elif boundary == "neumann":
            u = c(p * x) * c(2 * p * y)
            ux, uy = -p * s(p * x) * c(2 * p * y), -2 * p * c(p * x) * s(2 * p * y)
            lap = -5 * p**2 * u
        else:
            u = s(2 * p * x) * c(4 * p * y)
            ux, uy = 2 * p * c(2 * p * x) * c(4 * p * y), -4 * p * s(2 * p * x) * s(4 * p * y)
            lap = -20 * p**2 * u
        a = 2 + c(2 * p * x) * c(2 * p * y)
        ax, ay = -2 * p * s(2 * p * x) * c(2 * p * y), -2 * p * c(2 * p * x) * s(2 * p * y)
        f = -(a * lap + ax * ux + ay * uy)
        (found,) = diffusion(a[None], lambda _: f, boundary)
        return float((found - u).pow(2).mean().sqrt())

    assert math.log2(error(16) / error(32)) == pytest.approx(2, abs=0.15)


def test_across_layers_the_flux_is_continuous():
    # a depends on x alone: with no flux through y the problem is one-dimensional, and the sum
    # of the resistances gives the difference of u between two cells.
    d = 8
    a = torch.tensor([1.0, 10.0] * 4, dtype=torch.float64)[:, None].expand(d, d)
    source = torch.zeros(d, d)
    source[0], source[-1] = d, -d  # unit flux, in at the first and out at the last cells
    (u,) = diffusion(a[None], lambda _: source, "neumann")
    resistance = (1 / a[:-1, 0] + 1 / a[1:, 0]) / 2 / d
    assert torch.allclose(u[:-1, 3] - u[1:, 3], resistance, atol=1e-12)


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
def test_the_matrix_is_symmetric_positive_and_has_constants_in_its_kernel(boundary):
    matrix = torch.from_numpy(diffusion_matrix(rough(6)[0], boundary).toarray())
    torch.testing.assert_close(matrix, matrix.T, rtol=1e-12, atol=0)
    least = float(torch.linalg.eigvalsh(matrix)[0])
    rows = matrix.sum(1).abs().max()
    assert (least > 1 and rows > 1) if boundary == "dirichlet" else (abs(least) + rows < 1e-9)


def test_the_corrector_of_layers_is_the_closed_form_and_moves_with_the_coefficient():
    # In layers a (1 + u') is constant, and equal to the harmonic mean of a.
    d = 16
    a = torch.where(torch.arange(d) < 5, 1.0, 4.0).double()[:, None].expand(d, d)
    (u,) = corrector(a[None])
    face = 2 / (1 / a + 1 / a.roll(-1, 0))
    flux = face * (1 + d * (u.roll(-1, 0) - u))
    assert torch.allclose(flux, (1 / (1 / a).mean()).expand(d, d), atol=1e-9)
    coefficient = rough(d, periodic=True)
    (whole,), (moved,) = corrector(coefficient), corrector(coefficient.roll((3, 5), (1, 2)))
    assert torch.allclose(whole.roll((3, 5), (0, 1)), moved, atol=1e-10)
    assert float(whole.mean().abs()) < 1e-12 < float(whole.abs().max())


# Navier-Stokes.


def test_a_single_mode_decays_by_its_viscosity():
    x, y = (z - 0.5 / 16 for z in middles(16))
    w = torch.sin(2 * math.pi * x) * torch.sin(4 * math.pi * y)
    times = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    (found,) = navier_stokes(w[None], 1e-2, times, 0.005)
    for time, state in zip(times.tolist(), found, strict=True):
        assert torch.allclose(state, math.exp(-20 * math.pi**2 * 1e-2 * time) * w, atol=1e-5)


def test_a_steady_flow_under_its_forcing_stays_and_is_come_back_to():
    p, viscosity = math.pi, 0.1
    x, y = middles(16)
    w = torch.sin(2 * p * x) + torch.sin(4 * p * y)
    advection = -1.5 * torch.cos(2 * p * x) * torch.cos(4 * p * y)  # by hand
    diffused = -4 * p**2 * torch.sin(2 * p * x) - 16 * p**2 * torch.sin(4 * p * y)
    forcing = advection - viscosity * diffused
    starts = torch.stack((w, w + 0.3 * torch.cos(2 * p * (x + y))))
    found = navier_stokes(starts, viscosity, torch.tensor([2.0]), 0.01, forcing)[:, 0]
    assert torch.allclose(found, w.expand_as(found), atol=1e-4)


def test_without_viscosity_energy_and_enstrophy_are_kept():
    generator = torch.Generator().manual_seed(1)
    w = gaussian_field(2, 32, 4.0, 7.0, generator, periodic=True)
    w = w / w.std((1, 2), keepdim=True)
    k = 2 * math.pi * torch.fft.fftfreq(32, 1 / 32, dtype=torch.float64)
    square = (k[:, None] ** 2 + k**2).clamp(min=1)

    def energy(w):
        return (torch.fft.fft2(w).abs() ** 2 / square).sum((1, 2))

    low = torch.maximum(k[:, None].abs(), k.abs()) < 2 * math.pi * 32 / 3
    w = torch.fft.ifft2(torch.fft.fft2(w) * low).real
    after = navier_stokes(w, 0.0, torch.tensor([1.0]), 0.01)[:, 0]
    assert float((after - w).abs().max()) > 0.1
    assert torch.allclose(energy(after), energy(w), rtol=1e-4)
    assert torch.allclose(after.pow(2).mean((1, 2)), w.pow(2).mean((1, 2)), rtol=1e-4)
