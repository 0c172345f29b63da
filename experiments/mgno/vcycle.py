"""W_Mg, the linear operator between two neurons: a V-cycle of multigrid, made of convolutions.

On each level A u = f is to be solved. S smooths u; Π and R take u and f to the next coarser level,
P takes the correction found there back. All are 3 x 3 convolutions (P a transposed one, 4 x 4, or
3 x 3 where the finer side is odd), and nothing in between is non-linear.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

Padding = Literal["zeros", "circular", "reflect"]
Smoothings = Sequence[Sequence[int]]


def level_sides(side: int, levels: int, margin: int = 1) -> list[int]:
    """Cells along a side of each level, finest first."""
    sides = [side]
    for _ in range(levels - 1):
        sides.append((sides[-1] + 2 * margin - 3) // 2 + 1)
    return sides


class Smoothing(nn.Module):
    """u <- u + S * (f - A * u), with an S and an A of its own; ``active``: GELU after S."""

    def __init__(
        self, channels: int, right: int, padding: Padding, bias: bool, active: bool = False
    ) -> None:
        super().__init__()
        self.smoother = nn.Conv2d(right, channels, 3, 1, 1, bias=bias, padding_mode=padding)
        self.operator = nn.Conv2d(channels, right, 3, 1, 1, bias=bias, padding_mode=padding)
        self.active = active

    def forward(self, u: Tensor, f: Tensor) -> Tensor:
        """u (batch, channels, side, side) and f (batch, right, side, side) -> u."""
        step: Tensor = self.smoother(f - self.operator(u))
        return u + (F.gelu(step) if self.active else step)


class Transfer(nn.Module):
    """Between a level and the next coarser one; pairs are (finer, coarser).

    Args:
        sides: cells along a side.
        channels: of the iterate u.
        right: channels of the right-hand side f.
        margin: padding of R, Π and P.
        wrapped: whether P is periodic. Transposed convolutions of torch pad by zeros whatever the
            others do; here the coarse level is continued around before.
        residual: restrict f - A * u instead of f.

    Raises:
        ValueError: a periodic level that has not twice as many cells as the coarser one.
    """

    def __init__(
        self,
        sides: tuple[int, int],
        channels: tuple[int, int],
        right: tuple[int, int],
        padding: Padding,
        margin: int = 1,
        wrapped: bool = False,
        residual: bool = False,
    ) -> None:
        super().__init__()
        fine, coarse = sides
        if wrapped and fine != 2 * coarse:
            raise ValueError(f"no periodic level of {coarse} cells fits one of {fine}")
        mode: Padding = padding if margin else "zeros"
        kernel = fine - 2 * (coarse - 1) + 2 * margin
        self.restrict = nn.Conv2d(*right, 3, 2, margin, bias=False, padding_mode=mode)
        self.project = nn.Conv2d(*channels, 3, 2, margin, bias=False, padding_mode=mode)
        self.prolong = nn.ConvTranspose2d(*channels[::-1], kernel, 2, margin, bias=False)
        self.operator: nn.Module | None = None
        if residual:
            self.operator = nn.Conv2d(
                channels[0], right[0], 3, 1, 1, bias=False, padding_mode=padding
            )
        self.fine, self.margin, self.wrapped = fine, margin, wrapped

    def down(self, u: Tensor, f: Tensor) -> tuple[Tensor, Tensor]:
        """u and f of the finer level -> those that the coarser one begins with."""
        right = f if self.operator is None else f - self.operator(u)
        return self.project(u), self.restrict(right)

    def up(self, u: Tensor) -> Tensor:
        """u of the coarser level -> the finer one's correction."""
        if not self.wrapped:
            correction: Tensor = self.prolong(u)
            return correction
        around = F.pad(u, (1, 1, 1, 1), mode="circular")
        whole = F.conv_transpose2d(around, self.prolong.weight, stride=2)
        inner = slice(2 + self.margin, 2 + self.margin + self.fine)
        return whole[..., inner, inner]


class Level(nn.Module):
    """Smoothings before and after the coarser levels, the way there (none on the coarsest), and
    what normalises u after their correction."""

    def __init__(
        self,
        before: list[Smoothing],
        after: list[Smoothing],
        transfer: Transfer | None,
        norm: nn.Module,
    ) -> None:
        super().__init__()
        self.before, self.after = nn.ModuleList(before), nn.ModuleList(after)
        self.transfer = transfer
        self.norm = norm

    def smoothed(self, smoothings: nn.ModuleList, u: Tensor, f: Tensor) -> Tensor:
        for smooth in smoothings:
            u = smooth(u, f)
        return u


class VCycle(nn.Module):
    """W_Mg: f (batch, inputs, side, side) -> u (batch, channels, side, side).

    Linear; affine with ``bias``, and linear no longer with ``norms`` or ``active``.

    Args:
        side: cells along a side of the finest level.
        inputs: channels of f on the finest level.
        channels: of u there.
        smoothings: of each level, finest first, how many before and after the coarser ones; the
            first of all, from u = 0, is S * f. With none after, a Backslash-cycle.
        padding: of S, A, R and Π: zeros for Dirichlet conditions, circular for periodic ones.
        bias: whether S and A have biases.
        residual: restrict the residual, as the paper has it; the released code restricts f.
        wrapped: whether P is periodic; default where ``padding`` is circular.
        margin: padding of R, Π and P; with 0 the coarser levels of 2^k - 1 inner nodes nest.
        growth: channels in proportion to the level's number.
        norms: layer normalisation of u after each correction.
        active: GELU after each S (a control: MgNet).

    Raises:
        ValueError: when there is no smoothing to begin with.
    """

    def __init__(
        self,
        side: int,
        inputs: int,
        channels: int,
        smoothings: Smoothings,
        padding: Padding = "zeros",
        bias: bool = False,
        residual: bool = False,
        wrapped: bool | None = None,
        margin: int = 1,
        growth: bool = False,
        norms: bool = False,
        active: bool = False,
    ) -> None:
        super().__init__()
        if not smoothings or smoothings[0][0] < 1:
            raise ValueError("the finest level needs a smoothing before the coarser ones")
        levels = len(smoothings)
        sides = level_sides(side, levels, margin)
        factors = range(1, levels + 1) if growth else [1] * levels
        u, f = ([width * factor for factor in factors] for width in (channels, inputs))
        periodic = padding == "circular" if wrapped is None else wrapped

        transfers = [
            Transfer(size, width, right, padding, margin, periodic, residual)
            for size, width, right in zip(pairwise(sides), pairwise(u), pairwise(f), strict=True)
        ]

        self.first = nn.Conv2d(inputs, channels, 3, 1, 1, bias=bias, padding_mode=padding)
        self.levels = nn.ModuleList()
        for j, (before, after) in enumerate(smoothings):
            first, last = (
                [Smoothing(u[j], f[j], padding, bias, active) for _ in range(count)]
                for count in (before - (j == 0), after)
            )
            transfer = transfers[j] if j + 1 < levels else None
            norm = nn.LayerNorm([u[j], sides[j], sides[j]]) if norms and transfer else nn.Identity()
            self.levels.append(Level(first, last, transfer, norm))
        self.side, self.active = side, active

    def forward(self, f: Tensor) -> Tensor:
        u: Tensor = self.first(f)
        u = F.gelu(u) if self.active else u
        finer: list[tuple[Level, Tensor, Tensor]] = []
        for level in self.levels:
            assert isinstance(level, Level)
            u = level.smoothed(level.before, u, f)
            if level.transfer is None:
                u = level.smoothed(level.after, u, f)
            else:
                finer.append((level, u, f))
                u, f = level.transfer.down(u, f)
        for level, u_fine, f_fine in reversed(finer):
            assert level.transfer is not None
            u = level.norm(u_fine + level.transfer.up(u))
            u = level.smoothed(level.after, u, f_fine)
        return u
