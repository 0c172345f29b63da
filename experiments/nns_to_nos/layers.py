"""Layers as integrals and derivatives of functions, and as they are where a pixel is the unit.

Functions on grids are (batch, channels, d, d) at the points i / d of the unit torus; functions on
scattered points are (batch, points, channels) with points (points, 2).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def hats(count: int, ratio: float) -> Tensor:
    """Piecewise linear functions of centres -m … m, m = (count - 1) / 2, at multiples of ``ratio``.

    Returns:
        (places, count): each hat at every place where one of them is not zero.
    """
    middle = (count - 1) // 2
    reach = math.ceil((middle + 1) / ratio) - 1
    places = ratio * torch.arange(-reach, reach + 1, dtype=torch.float64)
    centres = torch.arange(-middle, middle + 1, dtype=torch.float64)
    return (1 - (places[:, None] - centres).abs()).clamp(min=0)


def periodic_convolution(f: Tensor, kernel: Tensor) -> Tensor:
    """Σ_a kernel[a] f(y + a h) on the torus, f (batch, in, d, d) and kernel (out, in, k, k), k odd.

    By Fourier transforms: kernels of physical support have many pixels on fine grids.
    """
    d, size = f.shape[-1], kernel.shape[-1]
    place = torch.arange(-(size // 2), size // 2 + 1) % d  # a kernel may go around
    whole = kernel.new_zeros(*kernel.shape[:2], d, d)
    rows, columns = place[:, None].expand(size, size), place.expand(size, size)
    cells = (rows * d + columns).flatten()
    whole.view(-1, d * d).index_add_(1, cells, kernel.flatten(2).flatten(0, 1))
    product = torch.einsum("oixy,bixy->boxy", torch.fft.rfft2(whole).conj(), torch.fft.rfft2(f))
    image: Tensor = torch.fft.irfft2(product, s=(d, d))
    return image


class LocalIntegral(nn.Module):
    """g(y) = ∫ K(x - y) f(x) dx with a kernel of fixed support (the recipe for convolutions).

    K = Σ θ_ab hat((x_1 - aδ) / δ) hat((x_2 - bδ) / δ); the integral is a sum over grid points with
    quadrature weights h². On the grid of width δ this is the convolution with pixel weights δ² θ.

    Args:
        size: hats along a side, odd.
        base: points along a side of the grid of width δ.
        support: ``physical`` keeps the kernel a function of coordinates; ``pixels`` uses the
            weights of the base grid on every grid.
        weighted: weights h², or those of the base grid, δ², on every grid.
    """

    def __init__(
        self,
        inputs: int = 1,
        outputs: int = 1,
        size: int = 5,
        base: int = 32,
        support: Literal["physical", "pixels"] = "physical",
        weighted: bool = True,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size) * (base / size) ** 2)
        self.base, self.support, self.weighted = base, support, weighted

    def forward(self, f: Tensor) -> Tensor:
        d = f.shape[-1]
        kernel: Tensor = self.weight
        if self.support == "physical":
            at = hats(kernel.shape[-1], self.base / d).to(kernel)
            kernel = torch.einsum("xa,oiab,yb->oixy", at, kernel, at)
        return periodic_convolution(f, kernel / (d if self.weighted else self.base) ** 2)

    def symbol(self, k: Tensor) -> Tensor:
        """What the integral multiplies exp(2πi k·x) by, k (modes, 2): (out, in, modes), complex."""
        phase = _phases(self.weight, k / self.base)
        spread = (torch.sinc(k / self.base) ** 2).prod(-1) / self.base**2
        return torch.einsum("oiab,abk->oik", self.weight.to(phase), phase) * spread

    def pointwise(self, k: Tensor) -> Tensor:
        """The same of the map to which pixel weights shrink, Σ θ_ab δ² f(y)."""
        total = self.weight.sum((2, 3)) / self.base**2
        return total[..., None].expand(*total.shape, len(k)).to(torch.complex128)


class InterpolatedConvolution(LocalIntegral):
    """The released kernel interpolation, bilinear and by areas, as a layer on the torus."""

    def forward(self, f: Tensor) -> Tensor:
        kernel = stretched(self.weight, f.shape[-1] / self.base)
        return periodic_convolution(f, kernel / self.base**2)


def stretched(kernel: Tensor, scale: float) -> Tensor:
    """A kernel for a grid that is ``scale`` times as fine (``InterpConv2d`` of the release).

    k -> int(scale · k - scale + 1) pixels along a side, bilinear, divided by the ratio of areas.
    """
    if scale == 1:
        return kernel
    rows, columns = kernel.shape[-2:]
    size = (int(scale * rows - scale + 1), int(scale * columns - scale + 1))
    resized = F.interpolate(kernel, size=size, mode="bilinear")
    return resized * (rows * columns / (size[0] * size[1]))


class Difference(nn.Module):
    """Σ θ_ab f(y + (a, b) h) / h with Σ θ_ab = 0, which tends to a derivative along a direction.

    Args:
        centred: whether the kernel's mean is taken away.
        scaled: whether it is divided by h; else by the width of the base grid, on every grid.
    """

    def __init__(
        self,
        inputs: int = 1,
        outputs: int = 1,
        size: int = 3,
        base: int = 32,
        centred: bool = True,
        scaled: bool = True,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size) / size)
        self.base, self.centred, self.scaled = base, centred, scaled

    def _kernel(self) -> Tensor:
        weight: Tensor = self.weight
        return weight - weight.mean((2, 3), keepdim=True) if self.centred else weight

    def forward(self, f: Tensor) -> Tensor:
        return periodic_convolution(f, self._kernel() * (f.shape[-1] if self.scaled else self.base))

    def symbol(self, k: Tensor) -> Tensor:
        """Of Σ θ_ab (a ∂_1 + b ∂_2), as in :meth:`LocalIntegral.symbol`."""
        weight = self.weight - self.weight.mean((2, 3), keepdim=True)
        at = _offsets(weight)
        along = torch.einsum("oiab,a,k->oik", weight, at, k[:, 0])
        across = torch.einsum("oiab,b,k->oik", weight, at, k[:, 1])
        return 2j * math.pi * (along + across)


def _offsets(weight: Tensor) -> Tensor:
    middle = weight.shape[-1] // 2
    return torch.arange(-middle, middle + 1).to(weight)


def _phases(weight: Tensor, k: Tensor) -> Tensor:
    """exp(2πi (a k_1 + b k_2)): (size, size, modes)."""
    a = _offsets(weight)
    along, across = (torch.exp(2j * math.pi * a[:, None] * k[:, i]) for i in (0, 1))
    return along[:, None] * across


# On scattered points.


class Attention(nn.Module):
    """g(y) = ∫ exp(q(y)·k(x)) v(x) dx / ∫ exp(q(y)·k(x)) dx, one head.

    Queries are affine in the coordinates of y; keys and values in f(x) and the coordinates of x.
    """

    def __init__(self, channels: int = 1, width: int = 8) -> None:
        super().__init__()
        self.query = nn.Linear(4, width)
        self.key = nn.Linear(4 + channels, width)
        self.value = nn.Linear(4 + channels, width)

    def forward(self, f: Tensor, x: Tensor, weights: Tensor, y: Tensor) -> Tensor:
        """f (batch, n, channels) at x (n, 2) with quadrature weights (n,) -> g at y (m, 2)."""
        source = torch.cat((f, around(x).expand(len(f), -1, -1)), -1)
        scores = self.query(around(y)) @ self.key(source).mT / math.sqrt(self.query.out_features)
        # softmax of scores + log weights: the weights in numerator and denominator
        image: Tensor = torch.softmax(scores + weights.log(), -1) @ self.value(source)
        return image


class NeighbourhoodIntegral(nn.Module):
    """g(y) = ∫_{|x - y| < r} κ(x - y) f(x) dx: a graph layer whose neighbours are those in a ball.

    κ is a network of (x - y) / r times (1 - |x - y|² / r²)², so that it is smooth at the border.

    Args:
        radius: r, on the unit torus.
    """

    def __init__(self, channels: int = 1, width: int = 8, radius: float = 0.2) -> None:
        super().__init__()
        self.kernel = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, width * channels))
        self.channels, self.radius = channels, radius

    def forward(self, f: Tensor, x: Tensor, weights: Tensor, y: Tensor) -> Tensor:
        """As :meth:`Attention.forward`; weights are those of the integral over the torus."""
        apart = x - y[:, None]
        apart = (apart - apart.round()) / self.radius
        near = (1 - apart.square().sum(-1)).clamp(min=0) ** 2
        kernel = self.kernel(apart).unflatten(-1, (-1, self.channels)) * near[..., None, None]
        weighted = kernel * weights[:, None, None] / (math.pi * self.radius**2)
        return torch.einsum("yxoc,bxc->byo", weighted, f)


def around(x: Tensor) -> Tensor:
    """Coordinates of the torus as cosines and sines, (…, 2) -> (…, 4)."""
    angle = 2 * math.pi * x
    return torch.cat((angle.cos(), angle.sin()), -1)
