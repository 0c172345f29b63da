"""The LSTM of the authors' Torch7 package: its gates see the cell, and have one bias each."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class PeepholeLSTM(nn.Module):
    """One layer of units with peepholes (Graves, arXiv 1303.5778, eq. 7 to 11)::

        i_t = σ(W_i x_t + U_i h_{t-1} + p_i ∘ c_{t-1} + b_i)
        f_t = σ(W_f x_t + U_f h_{t-1} + p_f ∘ c_{t-1} + b_f)
        c_t = f_t ∘ c_{t-1} + i_t ∘ tanh(W_g x_t + U_g h_{t-1} + b_g)
        o_t = σ(W_o x_t + U_o h_{t-1} + p_o ∘ c_t + b_o)
        h_t = o_t ∘ tanh(c_t)

    from h_0 = c_0 = 0. ``inputs`` holds W and b, ``states`` U, in the order i, f, g, o, and
    ``peepholes`` (3, hidden) holds p of i, f and o; all are uniform within ±1 / √hidden at first,
    as torch's are.

    Args:
        features: of a step.
        hidden: units.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.inputs = nn.Linear(features, 4 * hidden)
        self.states = nn.Linear(hidden, 4 * hidden, bias=False)
        self.peepholes = nn.Parameter(torch.empty(3, hidden))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(hidden), 1 / math.sqrt(hidden))

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(batch, T, features) -> states (batch, T, hidden), and the last (h, c)."""
        entering = self.inputs(x)
        h = c = x.new_zeros(x.shape[0], self.peepholes.shape[1])
        see_i, see_f, see_o = self.peepholes.unbind()
        found = []
        for step in entering.unbind(1):
            i, f, g, o = (step + self.states(h)).chunk(4, dim=-1)
            c = torch.sigmoid(f + see_f * c) * c + torch.sigmoid(i + see_i * c) * torch.tanh(g)
            h = torch.sigmoid(o + see_o * c) * torch.tanh(c)
            found.append(h)
        return torch.stack(found, dim=1), (h, c)
