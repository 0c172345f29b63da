"""The very deep fully-connected network of Section 4.1, with its initialisations."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

Init = Literal["simple", "he", "random-walk", "zero"]


class DeepNet(nn.Module):
    """``depth`` hidden ReLU layers of equal width and a linear read-out.

    h_0 = x,  h_l = relu(W_l h_{l-1} + b_l),  logits = W h_depth + b. Biases start at zero.

    Args:
        features: width of the input.
        classes: number of logits.
        depth: hidden layers (20 in the paper).
        width: units of each (50 in the paper).
        init: ``simple`` N(0, 0.1²), ``he`` N(0, 2 / fan_in), ``random-walk`` N(0, g² / fan_in)
            with the g of :func:`random_walk_gain`, or ``zero``; for all weight matrices.
        dropout: share of hidden units that are dropped while training.

    Attributes:
        draws: uniform random numbers that one training example needs.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        depth: int = 20,
        width: int = 50,
        init: Init = "simple",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is a share in [0, 1), got {dropout}")
        sizes = [features, *[width] * depth]
        self.hidden = nn.ModuleList(map(nn.Linear, sizes[:-1], sizes[1:]))
        self.readout = nn.Linear(sizes[-1], classes)
        self.dropout = dropout
        self.draws = depth * width if dropout else 0
        for layer in [*self.hidden, self.readout]:
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, std=weight_std(init, layer.in_features))
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, draws: Tensor | None = None) -> Tensor:
        """``x`` (batch, features), ``draws`` (batch, depth · width) or none → (batch, classes)."""
        masks = draws.chunk(len(self.hidden), -1) if draws is not None else None
        for index, layer in enumerate(self.hidden):
            x = torch.relu(layer(x))
            if masks is not None:
                x = x * (masks[index] >= self.dropout) / (1 - self.dropout)
        logits: Tensor = self.readout(x)
        return logits


def weight_std(init: Init, fan_in: int) -> float:
    """Standard deviation of a weight matrix under an initialisation."""
    if init == "simple":
        return 0.1
    if init == "he":
        return math.sqrt(2 / fan_in)
    if init == "random-walk":
        return random_walk_gain(fan_in) / math.sqrt(fan_in)
    return 0.0


def random_walk_gain(width: int) -> float:
    """Sussillo and Abbott's g for ReLU layers: the log of the back-propagated norm keeps its mean.

    g = √2 · exp(1.2 / (max(N, 6) − 2.4)).
    """
    return math.sqrt(2) * math.exp(1.2 / (max(width, 6) - 2.4))
