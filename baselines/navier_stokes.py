"""Vorticity of a forced two-dimensional flow, each flow of a batch with a forcing of its own.

``pde.navier_stokes`` has one forcing for all flows and takes its time steps by Heun; here they are
of fourth order and diffusion is exact, which at equal accuracy allows longer ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def forced_flow(
    forcing: Tensor,
    viscosity: float,
    time: float,
    steps: int,
    start: Tensor | None = None,
    length: float = 2 * math.pi,
) -> Tensor:
    """w(time) of ∂w/∂t + v · grad w = viscosity Δw + forcing on the torus [0, length)².

    v = (∂ψ/∂y, -∂ψ/∂x) with -Δψ = w. Pseudo-spectral; only the lower two thirds of the wave
    numbers take part in advection. In time: Runge and Kutta's method of fourth order for
    exp(-viscosity Δ t) w (an integrating factor), so that diffusion makes no error.

    Args:
        forcing: (batch, d, d) at the points length · i / d, constant in time; the first axis is x.
        steps: time steps, of equal length.
        start: vorticity at time 0, (batch, d, d); zero if not given.

    Returns:
        (batch, d, d), in the precision of ``forcing``.
    """
    d = forcing.shape[-1]
    gradient, inverse = _operators(d, length, forcing.dtype)
    step = time / steps
    square = (2 * math.pi / length * _numbers(d, forcing.dtype)) ** 2
    half = torch.exp(-0.5 * step * viscosity * (square[:, None] + square))
    force = torch.fft.fft2(forcing)

    def change(w: Tensor) -> Tensor:
        # A plane vector is one complex number, so that one transform does for both components.
        slope = torch.fft.ifft2(gradient * w)
        velocity = torch.fft.ifft2(-1j * gradient * inverse * w)
        advection = velocity.real * slope.real + velocity.imag * slope.imag
        changes: Tensor = force - torch.fft.fft2(advection) * (gradient != 0)
        return changes

    w = torch.zeros_like(force) if start is None else torch.fft.fft2(start.to(forcing.dtype))
    for _ in range(steps):
        first = change(w)
        second = change(half * (w + 0.5 * step * first))
        third = change(half * w + 0.5 * step * second)
        last = change(half * (half * w + step * third))
        w = half * (half * (w + step / 6 * first) + step / 3 * (second + third)) + step / 6 * last
    found: Tensor = torch.fft.ifft2(w).real
    return found


def _numbers(d: int, dtype: torch.dtype) -> Tensor:
    k: Tensor = torch.fft.fftfreq(d, 1 / d, dtype=dtype)
    return k


def _operators(d: int, length: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """∂/∂x + i ∂/∂y without the upper third of the wave numbers, and the inverse of -Δ."""
    k = _numbers(d, dtype)
    kept = (k.abs() < d / 3)[:, None] & (k.abs() < d / 3)
    scale = 2 * math.pi / length
    gradient = torch.complex(-scale * k.expand(d, d), scale * k[:, None].expand(d, d)) * kept
    square = scale**2 * (k[:, None] ** 2 + k**2)
    return gradient, torch.where(square > 0, 1 / square.clamp(min=scale**2), 0.0)
