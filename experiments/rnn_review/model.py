"""The networks that are compared: one recurrent layer with a linear output, and a translator."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.recurrent import Cell, Recurrent, units


class SequenceModel(nn.Module):
    """A recurrent layer over a sequence; a linear output after each step, or after the last.

        y_t = V h_t + c

    Args:
        outputs: classes, or 1 for a number.
        cell: of the recurrent layer; ``none`` is a feedforward layer tanh(W x_t + b), which sees
            one step.
        symbols: kinds of symbols, if the sequence is of symbols; they are given as one-hot vectors.
        features: numbers of a step, if it is of numbers.
        embedding: learned vectors of this width in place of one-hot ones.
        suffixes: kinds of a second symbol of each step (a word's ending), embedded as well.
        parameters: of the layer: it has as many units as fit.
        hidden: units a direction, where they are given instead.
        both_directions: whether the layer reads from both ends.
        window: steps that errors flow back; all, unless given.
        every_step: an output after each step.
        dropout: on embeddings and states.
    """

    def __init__(
        self,
        outputs: int,
        cell: Cell | Literal["none"] = "lstm",
        symbols: int = 0,
        features: int = 0,
        embedding: int = 0,
        suffixes: int = 0,
        parameters: int = 0,
        hidden: int = 0,
        both_directions: bool = False,
        window: int | None = None,
        every_step: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.symbols, self.every_step = symbols, every_step
        self.embedding = nn.Embedding(symbols, embedding) if embedding else None
        self.suffix = nn.Embedding(suffixes, embedding // 4) if suffixes else None
        width = embedding + (embedding // 4 if suffixes else 0) or symbols or features
        self.layer: Recurrent | Feedforward
        if cell == "none":
            self.layer = Feedforward(width, hidden or parameters // (width + 1))
        else:
            hidden = hidden or units(cell, width, parameters, 1 + both_directions)
            self.layer = Recurrent(width, hidden, cell, both_directions, window)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.layer.outputs, outputs)

    def forward(
        self, x: Tensor, suffix: Tensor | None = None, lengths: Tensor | None = None
    ) -> Tensor:
        """Scores of each sequence, or of each step.

        Args:
            x: symbols (batch, T), or numbers (batch, T, features).
            suffix: second symbols (batch, T).
            lengths: steps of each sequence (batch,), where they are padded.

        Returns:
            (batch, outputs, T) with ``every_step``, else (batch, outputs), or (batch,) if outputs
            is 1.
        """
        states = self.dropout(self.layer(self.dropout(self._embedded(x, suffix)), lengths))
        if self.every_step:
            scores: Tensor = self.head(states).transpose(1, 2)
            return scores
        last: Tensor = self.head(states[:, -1])
        return last.squeeze(-1)

    def _embedded(self, x: Tensor, suffix: Tensor | None) -> Tensor:
        if not self.symbols:
            return x
        if self.embedding is None:
            return F.one_hot(x, self.symbols).float()
        embedded: Tensor = self.embedding(x)
        if self.suffix is None or suffix is None:
            return embedded
        return torch.cat([embedded, self.suffix(suffix)], dim=-1)


class Feedforward(nn.Module):
    """tanh(W x_t + b), the same at every step and without a state."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.map = nn.Linear(features, hidden)
        self.outputs = hidden

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        states: Tensor = self.map(x).tanh()
        return states


class Translator(nn.Module):
    """An LSTM reads the source, another one writes the target from its last state.

    Sutskever et al. (arXiv 1409.3215, section 2), with one layer each.

    Args:
        symbols: of source and target.
        hidden: units.
        reverse_source: whether the source is read from its end.
    """

    def __init__(self, symbols: int, hidden: int = 64, reverse_source: bool = False) -> None:
        super().__init__()
        self.symbols, self.reverse_source = symbols, reverse_source
        self.encoder = nn.LSTM(symbols, hidden, batch_first=True)
        self.decoder = nn.LSTM(symbols + 1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, symbols)

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        """Scores (batch, symbols, T) of each target symbol.

        Args:
            x: the source (batch, T).
            before: the target symbol before each, of which the first is ``symbols``: (batch, T).
        """
        source = F.one_hot(x, self.symbols).float()
        if self.reverse_source:
            source = source.flip(1)
        _, state = self.encoder(source)
        states, _ = self.decoder(F.one_hot(before, self.symbols + 1).float(), state)
        scores: Tensor = self.head(states).transpose(1, 2)
        return scores
