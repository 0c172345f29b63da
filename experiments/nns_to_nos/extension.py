"""Ways to use a network that was trained on one grid on the functions of another."""

from __future__ import annotations

import copy
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.nns_to_nos.layers import stretched

Interpolation = Literal["bilinear", "aligned", "fourier"]
Extension = Literal["none", "kernels", "bilinear", "aligned", "fourier"]


def extended(network: nn.Module, base: int, side: int, by: Extension, periodic: bool) -> nn.Module:
    """What maps functions on ``side`` points along a side, from a network of ``base`` points.

    Args:
        by: the network as it is, with interpolated kernels, or between interpolations of its
            input and output.
        periodic: whether functions go on around the torus (for ``aligned``).
    """
    if by == "none" or side == base:
        return network
    if by == "kernels":
        return with_stretched_kernels(network, side / base)
    return Resampled(network, base, by, periodic)


class Resampled(nn.Module):
    """Input and output interpolation: the network sees functions on its own grid alone."""

    def __init__(self, network: nn.Module, base: int, by: Interpolation, periodic: bool) -> None:
        super().__init__()
        self.network, self.base, self.by, self.periodic = network, base, by, periodic

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, d, d) -> (batch, channels, d, d)."""
        inside = resized(x, self.base, self.by, self.periodic)
        return resized(self.network(inside), x.shape[-1], self.by, self.periodic)


def resized(x: Tensor, side: int, by: Interpolation, periodic: bool = True) -> Tensor:
    """Functions (…, d, d) on another grid: (…, side, side).

    Args:
        by: ``bilinear`` as the release has it, between the middles of pixels; ``aligned``, where
            points i / d of both grids are the same points of the domain; ``fourier``, which adds
            or cuts off wave numbers.
        periodic: whether the point after the last one is the first (``aligned``); else the last
            value goes on.

    Raises:
        ValueError: neither side is a multiple of the other (``aligned``).
    """
    if side == x.shape[-1]:
        return x
    if by == "bilinear":
        return F.interpolate(x, (side, side), mode="bilinear")
    return _aligned(x, side, periodic) if by == "aligned" else _spectral(x, side)


def _aligned(x: Tensor, side: int, periodic: bool) -> Tensor:
    d = x.shape[-1]
    if d % side == 0:
        return x[..., :: d // side, :: d // side]
    if side % d:
        raise ValueError(f"{d} and {side} points along a side have no common grid")
    place = torch.arange(side, device=x.device) * d / side
    first = place.long()
    second = (first + 1) % d if periodic else (first + 1).clamp(max=d - 1)
    share = (place - first).to(x.dtype)
    x = x[..., first, :] * (1 - share)[:, None] + x[..., second, :] * share[:, None]
    return x[..., first] * (1 - share) + x[..., second] * share


def _spectral(x: Tensor, side: int) -> Tensor:
    """Wave numbers below half of the smaller side are kept; that half itself is not."""
    d = x.shape[-1]
    inner = (min(d, side) - 1) // 2
    spectrum = torch.fft.rfft2(x, norm="forward")
    wanted = spectrum.new_zeros(*x.shape[:-2], side, side // 2 + 1)
    columns = slice(0, inner + 1)
    wanted[..., columns, columns] = spectrum[..., columns, columns]
    if inner:
        wanted[..., -inner:, columns] = spectrum[..., -inner:, columns]
    found: Tensor = torch.fft.irfft2(wanted, s=(side, side), norm="forward")
    return found


def with_stretched_kernels(network: nn.Module, scale: float) -> nn.Module:
    """A copy for a grid ``scale`` times as fine: the release's kernel interpolation.

    Kernels of convolutions are stretched and their padding multiplied; around transposed
    convolutions functions are interpolated to the grid of training and back.
    """
    found = copy.deepcopy(network)
    for module in list(found.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ConvTranspose2d):
                setattr(module, name, _Between(child, scale))
    for module in found.modules():
        if isinstance(module, nn.Conv2d):
            module.weight = nn.Parameter(stretched(module.weight.detach(), scale))
            margin = int(int(module.padding[0]) * scale)
            module.padding = (margin, margin)
    return found


class _Between(nn.Module):
    """A transposed convolution between bilinear interpolations, with what it cuts off as zeros."""

    def __init__(self, inner: nn.ConvTranspose2d, scale: float) -> None:
        super().__init__()
        self.inner, self.scale = inner, scale

    def forward(self, x: Tensor) -> Tensor:
        small = int(x.shape[-1] / self.scale)
        x = self.inner(F.interpolate(x, (small, small), mode="bilinear"))
        missing = small * 2 - x.shape[-1]
        x = F.pad(x, [missing // 2, missing - missing // 2] * 2)
        side = int(x.shape[-1] * self.scale)
        return F.interpolate(x, (side, side), mode="bilinear")
