"""Couplings Φ between the variables of convolutional layers.

The energy of a state x of one-hot variables is ``-(x'Φx/2 + b'x)``, and its mean-field points are
``q = softmax(Φ q + b)``. All maps take and give flat states (B, N), see `layers`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.monotone_dbm.layers import Layer, images, owners

Scaling = Literal["symmetric", "rows", "none"]


@dataclass(frozen=True)
class Phi:
    """Φ = left · K · right, with K symmetric and diagonal scales."""

    symmetric: Callable[[Tensor], Tensor]
    left: Tensor
    right: Tensor

    def __call__(self, q: Tensor) -> Tensor:
        return self.left * self.symmetric(self.right * q)

    def transposed(self, v: Tensor) -> Tensor:
        return self.right * self.symmetric(self.left * v)


class Link(nn.Module):
    """A convolution from a lower layer to a higher one, or to itself, without bias.

    Args:
        low, high: the layers; a higher layer without sites sees the whole lower one.
        kernel: odd width.
        wide: let the kernel run over the border as far as it reaches (the official padding), so
            that every site is seen at every offset and AᵀA is the same all over the layer; else
            the output has the higher layer's sites.
    """

    def __init__(self, low: Layer, high: Layer, kernel: int, wide: bool) -> None:
        super().__init__()
        dense = high.height == 1 and low.height > 1
        size = low.height if dense else kernel
        self.stride = 1 if dense else low.height // high.height
        self.padding = 0 if dense or low.height == 1 else kernel // 2
        if wide and self.padding:
            self.padding = -(-(self.stride * (kernel - 2) + kernel) // 2)
        made = nn.Conv2d(low.channels, high.channels, size, bias=False)
        self.weight = made.weight
        self.low = low
        covered = low.height + 2 * self.padding - size
        self.rows = covered // self.stride + 1
        self.extra = covered - (self.rows - 1) * self.stride

    def matrix(self) -> Tensor:
        """The convolution as a matrix (outputs, low.size)."""
        sites = self.low.height * self.low.width
        unit = torch.eye(sites, dtype=self.weight.dtype, device=self.weight.device)
        patches = F.unfold(
            unit.view(sites, 1, self.low.height, self.low.width),
            self.weight.shape[-1],
            padding=self.padding,
            stride=self.stride,
        )
        weight = self.weight.flatten(2)
        return torch.einsum("ocu,sup->opcs", weight, patches).flatten(2).flatten(0, 1)

    def up(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, stride=self.stride, padding=self.padding)

    def down(self, y: Tensor) -> Tensor:
        return self._transposed(y, self.weight)

    def _transposed(self, y: Tensor, weight: Tensor) -> Tensor:
        return F.conv_transpose2d(
            y, weight, stride=self.stride, padding=self.padding, output_padding=self.extra
        )

    def grams(self) -> Tensor:
        """This link's part of each variable's block of AᵀA: (groups, states, states, h, w)."""
        groups, states = self.low.groups, self.low.states
        weight = self.weight.view(-1, groups, states, *self.weight.shape[2:])
        gram = torch.einsum("ogauv,ogbuv->gabuv", weight, weight).flatten(0, 2)
        ones = gram.new_ones(1, 1, self.rows, self.rows)
        found = self._transposed(ones, gram[None])[0]
        return found.view(groups, states, states, *found.shape[1:])


class Couplings(nn.Module):
    """Biases of all layers, ``b_l = g_l β_l/|β_l|``, and links where ``kernels`` has a width.

    Args:
        layers: from the visible one to the label.
        kernels: kernels[i][j] couples layer i with the lower (or same) layer j; 0 is no link.
        wide: see :class:`Link`.

    Attributes:
        dense: whether Φ is multiplied out; on small layers that is faster than convolutions.
    """

    def __init__(
        self, layers: Sequence[Layer], kernels: Sequence[Sequence[int]], wide: bool
    ) -> None:
        super().__init__()
        self.layers = list(layers)
        self.dense = sum(layer.size for layer in layers) <= 1500
        self.biases = nn.ParameterList([nn.Parameter(torch.rand(n.size)) for n in layers])
        self.gains = nn.Parameter(torch.ones(len(layers)))
        pairs = [(i, j) for i, row in enumerate(kernels) for j, width in enumerate(row) if width]
        if any(j > i for i, j in pairs):
            raise ValueError("kernels above the diagonal: a link goes from a lower layer up")
        made = {f"{i}-{j}": Link(layers[j], layers[i], kernels[i][j], wide) for i, j in pairs}
        self.links = nn.ModuleDict(made)

    def linked(self) -> list[tuple[int, int, Link]]:
        """(higher, lower, link) of all links."""
        found = []
        for name, link in self.links.items():
            high, low = name.split("-")
            assert isinstance(link, Link)
            found.append((int(high), int(low), link))
        return found

    def bias(self) -> Tensor:
        """b, (N,)."""
        return torch.cat([g * b / b.norm() for g, b in zip(self.gains, self.biases, strict=True)])

    def stacked(self) -> Tensor:
        """The matrices of all links, a row of blocks for each layer that has one: (outputs, N)."""
        rows = []
        for high, layer in enumerate(self.layers):
            found = {low: link.matrix() for top, low, link in self.linked() if top == high}
            height = next((len(block) for block in found.values()), layer.size)
            empty = self.gains.new_zeros
            blocks = [
                found[low] if low in found else empty(height, each.size)
                for low, each in enumerate(self.layers)
            ]
            rows.append(torch.cat(blocks, dim=1))
        return torch.cat(rows)

    def phi(self) -> Phi:
        """Φ with the present weights."""
        raise NotImplementedError


class MonotoneCouplings(Couplings):
    """Φ = blkdiag(Â'Â) - Â'Â, so that I - Φ ≥ m: any couplings, also within a layer.

    ``Â_i = A_i min(√(1-m)/|A_i|, 1)`` for the columns of every variable i, and the blocks are
    those of single variables.

    Args:
        layers, kernels: see :class:`Couplings`.
        monotone: m.
        scaling: ``symmetric`` as above; ``rows`` scales Φ's rows by the square instead, as the
            released code does, which leaves Φ without symmetry; ``none``, a control, not at all.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        kernels: Sequence[Sequence[int]],
        monotone: float = 0.01,
        scaling: Scaling = "symmetric",
    ) -> None:
        super().__init__(layers, kernels, wide=True)
        self.monotone = monotone
        self.scaling = scaling

    def phi(self) -> Phi:
        blocks = self.blocks()
        scale = self._scales(blocks)
        symmetric = self._by_matrix() if self.dense else self._by_convolution(blocks)
        if self.scaling == "rows":
            return Phi(symmetric, scale.square(), torch.ones_like(scale))
        return Phi(symmetric, scale, scale)

    def _by_matrix(self) -> Callable[[Tensor], Tensor]:
        a = self.stacked()
        owner = owners(self.layers).to(a.device)
        k = (a.T @ a).masked_fill(owner[:, None] == owner, 0)
        return lambda q: -(q @ k)

    def _by_convolution(self, blocks: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
        links = self.linked()

        def symmetric(q: Tensor) -> Tensor:
            x = images(q, self.layers)
            up: dict[int, Tensor] = {}
            for high, low, link in links:
                up[high] = up[high] + link.up(x[low]) if high in up else link.up(x[low])
            down = [torch.zeros_like(each) for each in x]
            for high, low, link in links:
                down[low] = down[low] + link.down(up[high])
            own = [_within(block, each) for block, each in zip(blocks, x, strict=True)]
            return torch.cat([(o - d).flatten(1) for o, d in zip(own, down, strict=True)], dim=1)

        return symmetric

    def blocks(self) -> list[Tensor]:
        """Each variable's block of AᵀA, by layer (groups, states, states, height, width)."""
        like = self.gains
        found = [
            like.new_zeros(n.groups, n.states, n.states, n.height, n.width) for n in self.layers
        ]
        for _, low, link in self.linked():
            found[low] = found[low] + link.grams()
        return found

    def _scales(self, blocks: Sequence[Tensor]) -> Tensor:
        """min(√(1-m)/|A_i|, 1) of each variable, for all its states: (N,)."""
        if self.scaling == "none":
            return torch.cat([self.gains.new_ones(layer.size) for layer in self.layers])
        found = []
        for index, (layer, block) in enumerate(zip(self.layers, blocks, strict=True)):
            period = self._period(index)
            first = block[..., :period, :period]
            largest = torch.linalg.eigvalsh(first.movedim((1, 2), (-2, -1)))[..., -1]
            scale = ((1 - self.monotone) / largest.clamp_min(1e-12)).clamp_max(1.0).sqrt()
            repeats = (1, layer.height // period, layer.width // period)
            found.append(scale.repeat(*repeats)[:, None].expand(-1, layer.states, -1, -1).flatten())
        return torch.cat(found)

    def _period(self, index: int) -> int:
        """After how many sites the blocks of a layer come again: its largest stride."""
        height = self.layers[index].height
        up = [link for _, low, link in self.linked() if low == index]
        whole = any(link.padding == 0 for link in up)
        return height if whole else max((link.stride for link in up), default=1)


def _within(blocks: Tensor, x: Tensor) -> Tensor:
    """Each variable's block times its part of x, (B, channels, h, w)."""
    parts = x.view(len(x), *blocks.shape[:2], *x.shape[2:])
    return torch.einsum("gabhw,zgbhw->zgahw", blocks, parts).flatten(1, 2)


class RestrictedCouplings(Couplings):
    """A deep restricted Boltzmann machine: free couplings between layers, none within.

    Args:
        layers, kernels: see :class:`Couplings`; the diagonal of ``kernels`` is not used.
        bound: scale Φ to a spectral norm of at most this, so that I - Φ ≥ 1 - bound; ``None``
            leaves it free.
    """

    direction: Tensor

    def __init__(
        self,
        layers: Sequence[Layer],
        kernels: Sequence[Sequence[int]],
        bound: float | None = None,
    ) -> None:
        between = [[k if j < i else 0 for j, k in enumerate(row)] for i, row in enumerate(kernels)]
        super().__init__(layers, between, wide=False)
        self.bound = bound
        self.register_buffer("direction", torch.rand(1, sum(n.size for n in layers)) + 0.1)

    def phi(self) -> Phi:
        symmetric = self._by_matrix() if self.dense else self._by_convolution
        ones = torch.ones_like(self.direction[0])
        if self.bound is None or not self.links:
            return Phi(symmetric, ones, ones)
        scale = (self.bound / self._norm(symmetric)).clamp_max(1.0)
        return Phi(symmetric, ones * scale, ones)

    def _by_matrix(self) -> Callable[[Tensor], Tensor]:
        lower = self.stacked()
        k = lower + lower.T
        return lambda q: q @ k

    def _by_convolution(self, q: Tensor) -> Tensor:
        x = images(q, self.layers)
        out = [torch.zeros_like(each) for each in x]
        for high, low, link in self.linked():
            out[high] = out[high] + link.up(x[low])
            out[low] = out[low] + link.down(x[high])
        return torch.cat([each.flatten(1) for each in out], dim=1)

    def _norm(self, symmetric: Callable[[Tensor], Tensor]) -> Tensor:
        """The spectral norm, by power iteration from where it ended the last time."""
        with torch.no_grad():
            direction = self.direction
            for _ in range(10 if self.training else 0):
                direction = F.normalize(symmetric(symmetric(direction)))
            if self.training:
                self.direction.copy_(direction)
        norm: Tensor = symmetric(F.normalize(direction)).norm()
        return norm
