"""MgNO: layers of neurons that are functions, joined by linear operators W_Mg (``vcycle.py``)."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from experiments.mgno.vcycle import Padding, Smoothings, VCycle


class MgNO(nn.Module):
    """u^l = GELU(W_Mg^l u^(l-1) + L^l u^(l-1)) for l = 1 … layers, and a 1 x 1 convolution of u.

    The defaults are those of the rough Darcy problem (``darcy.py``).

    Args:
        side, smoothings, padding, bias, residual, wrapped, norms, active: see :class:`VCycle`.
        inputs: channels of the input function u^0.
        channels: neurons of a layer.
        pointwise: whether there is an L^l, a 1 x 1 convolution with bias.
        step: what the network says is added to the input (one step in time).
        lifting: width of a lifting and of a projecting network; the paper has none.
    """

    def __init__(
        self,
        side: int,
        channels: int = 24,
        layers: int = 4,
        smoothings: Smoothings = ((1, 0), (1, 0), (1, 0), (1, 0), (1, 0), (2, 0)),
        inputs: int = 1,
        padding: Padding = "zeros",
        bias: bool = False,
        residual: bool = False,
        wrapped: bool | None = None,
        norms: bool = False,
        pointwise: bool = True,
        step: bool = False,
        lifting: int = 0,
        active: bool = False,
    ) -> None:
        super().__init__()
        widths = [channels if lifting else inputs, *[channels] * layers]
        pairs = list(pairwise(widths))
        self.cycles = nn.ModuleList(
            VCycle(
                side, a, b, smoothings, padding, bias, residual, wrapped, norms=norms, active=active
            )
            for a, b in pairs
        )
        self.pointwise = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairs if pointwise)
        self.lift: nn.Module = perceptron(inputs, lifting, channels) if lifting else nn.Identity()
        self.output: nn.Module = (
            perceptron(channels, lifting, 1) if lifting else nn.Conv2d(channels, 1, 1, bias=False)
        )
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        """Input function (batch, inputs, side, side) -> output function (batch, 1, side, side)."""
        u = self.lift(x)
        for index, cycle in enumerate(self.cycles):
            linear = cycle(u)
            if len(self.pointwise):
                linear = linear + self.pointwise[index](u)
            u = F.gelu(linear)
        output: Tensor = self.output(u)
        return x + output if self.step else output


class HelmholtzMgNO(nn.Module):
    """The Helmholtz model of ``helm.py``: channels grow with the level, coarser levels keep inner
    cells only, each layer is normalised, and the last W_Mg takes the place of a 1 x 1 convolution.

    The released class also makes, in each W_Mg, an A that its forward pass never uses (11,241
    parameters in all); it is left out.
    """

    def __init__(
        self,
        side: int = 101,
        channels: int = 20,
        layers: int = 4,
        smoothings: Smoothings = ((1, 0), (1, 0), (1, 0), (1, 0), (2, 0)),
        padding: Literal["zeros", "reflect"] = "reflect",
    ) -> None:
        super().__init__()
        widths = [1, *[channels] * layers, 1]
        self.cycles = nn.ModuleList(
            VCycle(side, a, b, smoothings, padding, bias=True, margin=0, growth=True)
            for a, b in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.LayerNorm([channels, side, side]) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 1, side, side) -> (batch, 1, side, side)."""
        for cycle, norm in zip(self.cycles, self.norms, strict=False):
            x = F.gelu(norm(cycle(x)))
        output: Tensor = self.cycles[-1](x)
        return output


def perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """At every point alike: two 1 x 1 convolutions with a GELU between them."""
    return nn.Sequential(nn.Conv2d(inputs, hidden, 1), nn.GELU(), nn.Conv2d(hidden, outputs, 1))
