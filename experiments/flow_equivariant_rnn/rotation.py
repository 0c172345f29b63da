"""Banks that turn: the recurrence that is equivariant to rotation flows.

The hidden maps have eight orientations, 45° apart, and convolutions between them are group
convolutions: one kernel for all orientations, turned with them. A 3 x 3 kernel is turned by 45°
when the ring of its eight outer weights moves on by one; twice that is its exact rotation by 90°.
Angles are anticlockwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.flow_equivariant_rnn.model import FlowCell, Forecaster, activated

ORIENTATIONS = 8
RING = (0, 1, 2, 5, 8, 7, 6, 3)  # outer weights of a 3 x 3 kernel, clockwise from the upper left


def _turned(steps: int) -> list[int]:
    """Where each of nine weights comes from when the ring moves on by so many eighths."""
    source = list(range(9))
    for place, index in enumerate(RING):
        source[index] = RING[(place + steps) % ORIENTATIONS]
    return source


TURNS = torch.tensor([_turned(steps) for steps in range(ORIENTATIONS)])


def turned_kernels(kernels: Tensor) -> Tensor:
    """Kernels (…, 3, 3) turned by 0°, 45°, …, 315°: (8, …, 3, 3)."""
    found = kernels.flatten(-2)[..., TURNS.to(kernels.device)].movedim(-2, 0)
    return found.reshape(ORIENTATIONS, *kernels.shape)


class Lifting(nn.Module):
    """From a frame to maps of eight orientations: (batch, hidden · 8, height, width)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.weight = _kernels(hidden, channels, 3, 3)

    def forward(self, frame: Tensor) -> Tensor:
        kernels = turned_kernels(self.weight)  # (8, hidden, channels, 3, 3)
        return F.conv2d(frame, kernels.transpose(0, 1).flatten(0, 1), padding=1)


class GroupConvolution(nn.Module):
    """Maps of eight orientations to such maps: out(θ) = Σ_φ turned_θ(w(φ - θ)) * in(φ)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = _kernels(outputs, inputs, ORIENTATIONS, 3, 3)
        theta, phi = torch.meshgrid(*2 * [torch.arange(ORIENTATIONS)], indexing="ij")
        self.relative = ((phi - theta) % ORIENTATIONS).tolist()

    def forward(self, maps: Tensor) -> Tensor:
        turned = turned_kernels(self.weight)  # (θ, outputs, inputs, relative, 3, 3)
        rows = [turned[theta][:, :, order] for theta, order in enumerate(self.relative)]
        kernels = torch.stack(rows, dim=1)  # (outputs, θ, inputs, φ, 3, 3)
        return F.conv2d(maps, kernels.flatten(2, 3).flatten(0, 1), padding=1)


def _kernels(*shape: int) -> nn.Parameter:
    """Drawn as those of torch's convolutions are."""
    weight = torch.empty(shape)
    bound = 1 / math.sqrt(weight[0].numel())
    return nn.Parameter(weight.uniform_(-bound, bound))


class RotationCell(FlowCell):
    """Banks turn around the middle of a square, each by its own angle a step.

    By multiples of 90° a bank turns exactly: pixels move, and orientations move on. By other
    angles it is interpolated, and orientations move on by whole multiples of 45° only, as in the
    authors' code.

    Args:
        hidden: maps of each orientation.
        velocities: degrees a step.
    """

    def __init__(self, channels: int, hidden: int, side: int, velocities: Sequence[int]) -> None:
        shape = (hidden * ORIENTATIONS, side, side)
        convolutions = Lifting(channels, hidden), GroupConvolution(hidden, hidden)
        super().__init__(*convolutions, list(velocities), shape)

    def moved(self, maps: Tensor, velocity: Any) -> Tensor:
        return turned(maps, velocity)


def turned(maps: Tensor, degrees: int) -> Tensor:
    """Maps (batch, hidden · 8, side, side) turned in place and in orientation."""
    eighths = math.trunc(degrees * ORIENTATIONS / 360)
    if eighths:
        batch, channels, *size = maps.shape
        oriented = maps.reshape(batch, channels // ORIENTATIONS, ORIENTATIONS, *size)
        maps = oriented.roll(eighths, 2).flatten(1, 2)
    return torch.rot90(maps, degrees // 90, (-2, -1)) if degrees % 90 == 0 else spun(maps, degrees)


def spun(maps: Tensor, degrees: Tensor | float) -> Tensor:
    """Images (batch, channels, side, side) turned by an angle (or one each), interpolated."""
    angle = torch.deg2rad(torch.as_tensor(degrees, dtype=maps.dtype, device=maps.device))
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    rows = torch.stack([torch.stack([cos, -sin, zero], -1), torch.stack([sin, cos, zero], -1)], -2)
    grid = F.affine_grid(rows.expand(len(maps), 2, 3), list(maps.shape), align_corners=False)
    return F.grid_sample(maps, grid, align_corners=False)


class RotationForecaster(Forecaster):
    """The network for turning digits; the decoder is of ordinary convolutions.

    Args:
        side: of a frame, pixels.
        hidden: maps of each of the eight orientations.
        velocities: of the banks, degrees a step; (0,) makes a G-RNN.
        decoder_layers: convolutions with ReLU before the last one, which makes a frame.
    """

    def __init__(
        self,
        side: int,
        channels: int = 1,
        hidden: int = 32,
        velocities: Sequence[int] = (-40, -30, -20, -10, 0, 10, 20, 30, 40),
        decoder_layers: int = 4,
    ) -> None:
        maps = hidden * ORIENTATIONS
        layers = [nn.Conv2d(maps, maps, 3, padding=1, bias=False) for _ in range(decoder_layers)]
        last = nn.Conv2d(maps, channels, 3, padding=1, bias=False)
        cell = RotationCell(channels, hidden, side, velocities)
        super().__init__(cell, nn.Sequential(*activated(layers), last))
