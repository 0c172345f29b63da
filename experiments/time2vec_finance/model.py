"""The Time2Vec encoder for prices and what it is compared with (arXiv 2504.13801).

Every model maps windows ``x`` of shape (batch, days, features), of which the first feature is the
stock to be predicted, and the times of their days ``t`` (batch, days, times) to that stock's next
value, (batch,). One model serves all stocks.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from baselines.recurrent import GATES, Cell, Recurrent, units

Code = Literal["time2vec", "values", "positional", "none"]


class Time2Vec(nn.Module):
    """A vector for each scalar: t2v(u) = [w_0 u + b_0, sin(w_1 u + b_1), …, sin(w_k u + b_k)].

    Kazemi et al., arXiv 1907.05321, equation 1. Each of the inputs has weights of its own. At first
    w_0 is 1; w_1 … w_k are spread evenly from 0 to ``fastest`` cycles in a unit, each moved
    by up to half a step, and phases are uniform.

    Args:
        inputs: scalars.
        k: periodic entries of each.
        fastest: cycles in a unit of u that frequencies start below.
        frozen: keep the weights as they are at first: random Fourier features.
    """

    def __init__(self, inputs: int, k: int = 8, fastest: float = 8.0, frozen: bool = False) -> None:
        super().__init__()
        self.outputs = inputs * (k + 1)
        steps = (torch.arange(k) + torch.rand(inputs, k)) / k
        weight = torch.cat([torch.ones(inputs, 1), 2 * math.pi * fastest * steps], dim=1)
        bias = torch.cat([torch.zeros(inputs, 1), 2 * math.pi * torch.rand(inputs, k)], dim=1)
        self.weight = nn.Parameter(weight, requires_grad=not frozen)
        self.bias = nn.Parameter(bias, requires_grad=not frozen)

    def forward(self, u: Tensor) -> Tensor:
        """(…, inputs) -> (…, inputs (k + 1)): of each input first the linear entry."""
        phase = u[..., None] * self.weight + self.bias
        return torch.cat([phase[..., :1], phase[..., 1:].sin()], dim=-1).flatten(-2)


def sinusoids(days: int, width: int) -> Tensor:
    """Positional encoding (days, width) of Vaswani et al., 2017, section 3.5, for an even width.

    PE(p, 2i) = sin(p / 10000^(2i / width)), PE(p, 2i + 1) = cos of the same.
    """
    rates = 10_000 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(days, dtype=torch.float64)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).float()


class EncoderBlock(nn.Module):
    """Self-attention and feed-forward layers, each with a residual and layer normalisation.

    The block of Vaswani et al., 2017, without a mask: the whole window is in the past.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width)
        )
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.dropout = nn.Dropout(dropout)

    def forward(self, z: Tensor) -> Tensor:
        """(batch, days, width) -> the same shape."""
        z = self.norms[0](z + self.dropout(self.attention(z)))
        normed: Tensor = self.norms[1](z + self.dropout(self.feed_forward(z)))
        return normed

    def attention(self, z: Tensor) -> Tensor:
        """softmax(Q K^T / sqrt(d)) V for each head."""
        q, k, v = self.project(z).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        mixed: Tensor = self.mix((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        return mixed


class EncoderForecaster(nn.Module):
    """A code of time beside the features, Transformer encoder, mean over the days, an MLP head.

    - ``time2vec``: z = [x, t2v(t)], the times of a day through Time2Vec;
    - ``values``: z = [x, t2v(x)], the features themselves through Time2Vec;
    - ``positional``: sinusoids of the position in the window are added to the projected x;
    - ``none``: x alone. The encoder then does not see the order of the days.

    Args:
        features: numbers of a day.
        days: length of a window.
        times: numbers that tell a day's time.
        k: periodic entries of Time2Vec for each scalar.
        fastest: see :class:`Time2Vec`.
        frozen: Time2Vec keeps its first weights.
    """

    def __init__(
        self,
        features: int,
        days: int,
        times: int,
        code: Code = "time2vec",
        k: int = 8,
        fastest: float = 8.0,
        frozen: bool = False,
        width: int = 32,
        heads: int = 4,
        layers: int = 2,
        hidden: int = 64,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.code = code
        coded = {"time2vec": times, "values": features}.get(code, 0)
        self.time2vec = Time2Vec(coded, k, fastest, frozen) if coded else None
        self.embed = nn.Linear(features + (self.time2vec.outputs if self.time2vec else 0), width)
        self.positions: Tensor
        self.register_buffer("positions", sinusoids(days, width), persistent=False)
        self.blocks = nn.Sequential(
            *(EncoderBlock(width, heads, hidden, dropout) for _ in range(layers))
        )
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if self.time2vec is not None:
            x = torch.cat([x, self.time2vec(t if self.code == "time2vec" else x)], dim=-1)
        z = self.embed(x)
        if self.code == "positional":
            z = z + self.positions
        forecast: Tensor = self.head(self.blocks(z).mean(dim=1))
        return forecast.squeeze(-1)


class RecurrentForecaster(nn.Module):
    """One recurrent layer over the window, and a linear head on its last state.

    Args:
        cell: ``tanh`` (a simple recurrent network) or ``lstm``.
        parameters: of the whole model, which gets as many units as fit.
    """

    def __init__(self, features: int, cell: Cell, parameters: int) -> None:
        super().__init__()
        hidden = units(cell, features, parameters - 1)
        while GATES[cell] * hidden * (features + hidden + 2) + hidden + 1 > parameters:
            hidden -= 1
        self.layer = Recurrent(features, hidden, cell)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The times ``t`` are not used."""
        forecast: Tensor = self.head(self.layer(x)[:, -1])
        return forecast.squeeze(-1)
