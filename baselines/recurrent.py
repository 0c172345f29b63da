"""Recurrent layers: Elman's network, LSTM and GRU, in one direction or in both.

The units are torch's. What is added is what comparisons need: initialisations that make a simple
recurrent network strong, a size that is given in parameters, padded sequences that a backward
layer does not see the padding of, and backpropagation through a window of time.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

Cell = Literal["tanh", "relu", "lstm", "gru"]
GATES = {"tanh": 1, "relu": 1, "lstm": 4, "gru": 3}  # affine maps a unit has


def units(cell: Cell, features: int, parameters: int, directions: int = 1) -> int:
    """Units a direction, so that the layer has at most ``parameters``: g n (features + n + 2) each.

    Raises:
        ValueError: when there are not enough for one unit.
    """
    share = parameters / (directions * GATES[cell])
    found = math.floor((math.sqrt((features + 2) ** 2 + 4 * share) - features - 2) / 2 + 1e-9)
    if found < 1:
        raise ValueError(f"{parameters} parameters are too few for one unit of {cell}")
    return found


class Recurrent(nn.Module):
    """One layer of recurrent units.

    - ``tanh`` (Elman): h_t = tanh(W x_t + U h_{t-1} + b), U orthogonal at first;
    - ``relu``: h_t = max(0, W x_t + U h_{t-1} + b), U the identity at first (Le et al., arXiv
      1504.00941);
    - ``lstm``: i, f, o = sigmoid(·), g = tanh(·), c_t = f c_{t-1} + i g, h_t = o tanh(c_t); (·) is
      an affine map of x_t and h_{t-1}, and the bias of f is 1 at first (Gers et al., 2000);
    - ``gru``: as torch has it.

    Args:
        features: of a step.
        hidden: units a direction.
        both_directions: a second layer reads every sequence from its end (Schuster and Paliwal,
            1997), and its states are put beside those of the first.
        window: steps after which gradients are cut (truncated backpropagation through time);
            states are passed on all the same.
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        cell: Cell = "lstm",
        both_directions: bool = False,
        window: int | None = None,
    ) -> None:
        super().__init__()
        self.window = window
        self.forth = layer(features, hidden, cell)
        self.back = layer(features, hidden, cell) if both_directions else None
        self.outputs = (1 + both_directions) * hidden

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """States after each step.

        Args:
            x: (batch, T, features).
            lengths: steps of each sequence (batch,), where sequences are padded at their ends;
                states at padded steps mean nothing.

        Returns:
            (batch, T, outputs).
        """
        states = self._run(self.forth, x)
        if self.back is None:
            return states
        if lengths is None:
            lengths = torch.full((len(x),), x.shape[1], device=x.device)
        backward = reversed_in_time(self._run(self.back, reversed_in_time(x, lengths)), lengths)
        return torch.cat([states, backward], dim=-1)

    def _run(self, units: nn.Module, x: Tensor) -> Tensor:
        state: Any = None
        found: list[Tensor] = []
        for part in torch.split(x, self.window or x.shape[1], dim=1):
            states, state = units(part, state)
            state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
            found.append(states)
        return torch.cat(found, dim=1)


def layer(features: int, hidden: int, cell: Cell) -> nn.RNNBase:
    """Units of one direction with their initial weights; all biases are 0 but that of ``f``."""
    made: nn.RNNBase
    if cell == "lstm":
        made = nn.LSTM(features, hidden, batch_first=True)
    elif cell == "gru":
        made = nn.GRU(features, hidden, batch_first=True)
    else:
        made = nn.RNN(features, hidden, nonlinearity=cell, batch_first=True)
    weights = dict(made.named_parameters())
    with torch.no_grad():
        for name, parameter in weights.items():
            if name.startswith("bias"):
                parameter.zero_()
        if cell == "tanh":
            nn.init.orthogonal_(weights["weight_hh_l0"])
        elif cell == "relu":
            nn.init.eye_(weights["weight_hh_l0"])
        elif cell == "lstm":  # torch keeps i, f, g, o in this order, and two biases that are added
            weights["bias_ih_l0"][hidden : 2 * hidden] = 1.0
    return made


def reversed_in_time(x: Tensor, lengths: Tensor) -> Tensor:
    """Each sequence (batch, T, …) from its last step to its first; padding stays where it is."""
    steps = torch.arange(x.shape[1], device=x.device)
    mirrored = lengths[:, None] - 1 - steps
    source = torch.where(mirrored >= 0, mirrored, steps)
    return x[torch.arange(len(x), device=x.device)[:, None], source]
