"""Solvers of partial differential equations on square grids, and random fields to put into them.

Functions are sampled at the middles of d x d equal cells of the unit square, (batch, d, d); the
first axis is x, the second y. Solvers compute in double precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.fft import idctn
from scipy.sparse import coo_array, csc_array
from scipy.sparse.linalg import splu
from torch import Tensor

Boundary = Literal["dirichlet", "neumann", "periodic"]
Ints = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]


def gaussian_field(
    count: int,
    side: int,
    alpha: float,
    tau: float,
    generator: torch.Generator,
    periodic: bool = False,
) -> Tensor:
    """Draws from N(0, (-Δ + tau²)^-alpha), with Neumann or periodic conditions.

    The mean over the square is zero. In d = 2 dimensions draws have about alpha - 1 derivatives.
    The scale is that of unit white noise; multiply by tau^(alpha - 1) to keep the variance of
    large tau of order one (Li et al., "Fourier neural operator", 2021, appendix A.3).

    Returns:
        (count, side, side), double precision.
    """
    noise = torch.randn(count, side, side, generator=generator, dtype=torch.float64)
    if periodic:
        k = 2 * math.pi * torch.fft.fftfreq(side, 1 / side, dtype=torch.float64)
        spectrum = torch.fft.fft2(noise, norm="ortho")
    else:
        k = math.pi * torch.arange(side, dtype=torch.float64)
        spectrum = noise
    weight = (k[:, None] ** 2 + k**2 + tau**2) ** (-alpha / 2)
    weight[0, 0] = 0.0
    if periodic:
        field: Tensor = torch.fft.ifft2(side * weight * spectrum, norm="ortho").real
        return field
    fields = idctn((side * weight * spectrum).numpy(), axes=(1, 2), norm="ortho")
    return torch.from_numpy(fields)


def two_phases(field: Tensor, low: float, high: float) -> Tensor:
    """``high`` where a field is not negative, ``low`` elsewhere."""
    return torch.where(field >= 0, high, low)


def diffusion_matrix(a: Tensor, boundary: Boundary = "dirichlet") -> csc_array:
    """-div(a grad ·) by finite volumes, fluxes through faces by the harmonic mean of both cells.

    Args:
        a: positive coefficient, (d, d).
        boundary: u = 0 on the border, no flux through it, or a torus.

    Returns:
        Symmetric (d², d²); singular but for Dirichlet conditions.
    """
    d = len(a)
    values = a.double().numpy().ravel()
    cells = np.arange(d * d).reshape(d, d)
    diagonal = np.zeros(d * d)
    rows, columns, entries = [], [], []
    for here, there in _faces(cells, boundary == "periodic"):
        flux = 2 / (1 / values[here] + 1 / values[there])
        diagonal[here] += flux
        diagonal[there] += flux
        rows += [here, there]
        columns += [there, here]
        entries += [-flux, -flux]
    if boundary == "dirichlet":  # the border is half a cell away
        for border in (cells[0], cells[-1], cells[:, 0], cells[:, -1]):
            diagonal[border] += 2 * values[border]
    where = (np.concatenate([*rows, cells.ravel()]), np.concatenate([*columns, cells.ravel()]))
    flat = d**2 * np.concatenate([*entries, diagonal])
    return coo_array((flat, where), shape=(d * d, d * d)).tocsc()


def _faces(cells: Ints, around: bool) -> Iterator[tuple[Ints, Ints]]:
    """The numbers of the cells on both sides of the inner faces, direction by direction."""
    for each in (cells, cells.T):
        yield each[:-1].ravel(), each[1:].ravel()
        if around:
            yield each[-1], each[0]


def diffusion(
    a: Tensor, source: Callable[[Tensor], Tensor] | float, boundary: Boundary = "dirichlet"
) -> Tensor:
    """u of -div(a grad u) = f.

    Without Dirichlet conditions u is determined up to a constant and has mean zero; the mean of f,
    for which there is then no solution, is taken away.

    Args:
        a: positive coefficients, (batch, d, d).
        source: f, one number or what gives (d, d) for a coefficient (d, d).

    Returns:
        (batch, d, d), double precision.
    """
    solutions = []
    for coefficient in a:
        f = source(coefficient) if callable(source) else torch.full_like(coefficient, source)
        matrix = diffusion_matrix(coefficient, boundary)
        right = f.double().numpy().ravel()
        if boundary == "dirichlet":
            u = _solved(matrix, right)
        else:  # the last cell is set to zero, which its equation then follows from the others
            right = right - right.mean()
            u = np.append(_solved(matrix[:-1, :-1], right[:-1]), 0.0)
            u = u - u.mean()
        solutions.append(torch.from_numpy(u.reshape(coefficient.shape)))
    return torch.stack(solutions)


def _solved(matrix: csc_array, right: Floats) -> Floats:
    factors = splu(
        matrix.tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        options={"SymmetricMode": True},
        diag_pivot_thresh=0.0,
    )
    solution: Floats = factors.solve(right)
    return solution


def corrector(a: Tensor) -> Tensor:
    """Periodic u with mean zero and -div(a (e_x + grad u)) = 0, the cell problem of homogenisation.

    A shift of a around the torus shifts u.
    """

    def source(coefficient: Tensor) -> Tensor:
        behind = coefficient.roll(1, 0)
        face = 2 / (1 / coefficient + 1 / behind)  # between a cell and the one before it
        return len(coefficient) * (face.roll(-1, 0) - face)

    return diffusion(a, source, "periodic")


def navier_stokes(
    vorticity: Tensor,
    viscosity: float,
    times: Tensor,
    step: float,
    forcing: Tensor | float = 0.0,
) -> Tensor:
    """Vorticity of a viscous incompressible fluid on the torus [0, 1)².

    ∂w/∂t + v · grad w = viscosity Δw + forcing, with v = (∂ψ/∂y, -∂ψ/∂x) and -Δψ = w.
    Pseudo-spectral, products without the upper third of the wave numbers; in time Crank-Nicolson
    for the diffusion and Heun for the rest, as in the generator of Li et al.

    Args:
        vorticity: at time 0, (batch, d, d).
        times: increasing multiples of ``step``, at which the vorticity is wanted.
        forcing: (d, d), constant in time.

    Returns:
        (batch, times, d, d), double precision.
    """
    d = vorticity.shape[-1]
    kx, ky = _wave_numbers(d)
    square = kx**2 + ky**2
    inverse = torch.where(square > 0, 1 / square.clamp(min=1.0), 0.0)
    kept = torch.maximum(kx.abs(), ky) < 2 * math.pi * d / 3
    decay = 0.5 * step * viscosity * square
    force = torch.fft.rfft2(torch.as_tensor(forcing, dtype=torch.float64).expand(d, d))

    def change(w: Tensor) -> Tensor:
        psi = w * inverse
        parts = torch.stack((1j * ky * psi, -1j * kx * psi, 1j * kx * w, 1j * ky * w))
        vx, vy, wx, wy = torch.fft.irfft2(parts, s=(d, d))
        changes: Tensor = force - torch.fft.rfft2(vx * wx + vy * wy) * kept
        return changes

    w = torch.fft.rfft2(vorticity.double())
    found, done = [], 0
    for wanted in (times / step).round().long().tolist():
        for _ in range(done, wanted):
            first = change(w)
            guess = (w * (1 - decay) + step * first) / (1 + decay)
            w = (w * (1 - decay) + 0.5 * step * (first + change(guess))) / (1 + decay)
        done = wanted
        found.append(torch.fft.irfft2(w, s=(d, d)))
    return torch.stack(found, 1)


def _wave_numbers(d: int) -> tuple[Tensor, Tensor]:
    """Along x (d, 1) and y (1, d // 2 + 1) of a real transform on [0, 1)²."""
    k = 2 * math.pi * torch.fft.fftfreq(d, 1 / d, dtype=torch.float64)
    return k[:, None], k[: d // 2 + 1].abs()[None]
