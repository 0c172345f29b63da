"""Targets and guides: networks of the released code that are not in ``baselines/``.

The fully connected and plain convolutional targets of the image experiments are those of
:mod:`baselines.vision`, with sizes by :class:`DeepFCN`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from baselines.vision import MLP

PAD = 2  # the token that fills bit strings up


class DeepFCN(MLP):
    """The narrow network: a wider first layer, then ``depth`` - 2 equal ones, then the logits.

    ``depth`` counts linear layers; the paper's has 49, of widths 2048 and 1024.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        depth: int = 49,
        first: int = 2048,
        width: int = 1024,
        dropout: float = 0.1,
    ) -> None:
        hidden = [first, *[width] * (depth - 2)]
        super().__init__(features, hidden, classes, batch_norm=True, dropout=dropout)


class CopyRNN(nn.Module):
    """Elman layers over tokens; tokens' scores at every step.

    As released, a layer starts from the last state of the layer before it, so that only the
    first layer is causal.
    """

    def __init__(self, vocabulary: int, embedding: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.layers = nn.ModuleList(
            nn.RNN(embedding if index == 0 else hidden, hidden, batch_first=True)
            for index in range(layers)
        )
        self.scores = nn.Linear(hidden, vocabulary)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, T) -> (batch, vocabulary, T)."""
        states, last = self.embedding(x), None
        for layer in self.layers:
            states, last = layer(states, last)
        scores: Tensor = self.scores(states)
        return scores.mT


class CopyTransformer(nn.Module):
    """A decoder layer of torch, applied ``layers`` times: the layers share their weights.

    Self-attention is causal; the layer's memory is its own input, without a mask.
    """

    def __init__(
        self,
        vocabulary: int,
        width: int,
        heads: int,
        layers: int,
        hidden: int = 2048,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.count = layers
        self.embedding = nn.Embedding(vocabulary, width)
        self.dropout = nn.Dropout(dropout)
        self.layer = nn.TransformerDecoderLayer(width, heads, hidden, dropout, batch_first=True)
        self.scores = nn.Linear(width, vocabulary)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, T) -> (batch, vocabulary, T)."""
        steps, width = x.shape[1], self.embedding.embedding_dim
        states = self.embedding(x) * math.sqrt(width) + positions(steps, width, x.device)
        states = self.dropout(states)
        mask = nn.Transformer.generate_square_subsequent_mask(steps, x.device)
        for _ in range(self.count):
            states = self.layer(states, states, tgt_mask=mask)
        scores: Tensor = self.scores(states)
        return scores.mT


class ParityRNN(nn.Module):
    """Elman's network over a bit string, and a classifier of its last state."""

    def __init__(self, embedding: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(3, embedding)
        self.rnn = nn.RNN(embedding, hidden, layers, batch_first=True)
        self.scores = nn.Linear(hidden, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, T), filled up by ``PAD`` -> (batch, 2)."""
        lengths = (x != PAD).sum(1)
        packed = pack_padded_sequence(
            self.embedding(x), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        states = pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]
        last = states[torch.arange(len(x), device=x.device), lengths - 1]
        scores: Tensor = self.scores(last.relu())
        return scores


class ParityTransformer(nn.Module):
    """An encoder layer of torch, applied ``layers`` times, and the mean over the string."""

    def __init__(
        self, width: int, heads: int, layers: int, hidden: int = 2048, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.count = layers
        self.embedding = nn.Embedding(3, width)
        self.dropout = nn.Dropout(dropout)
        self.layer = nn.TransformerEncoderLayer(width, heads, hidden, dropout, batch_first=True)
        self.scores = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, T), filled up by ``PAD`` -> (batch, 2)."""
        padded = x == PAD
        width = self.embedding.embedding_dim
        states = self.dropout(self.embedding(x) + positions(x.shape[1], width, x.device))
        for _ in range(self.count):
            states = self.layer(states, src_key_padding_mask=padded)
        kept = (~padded).unsqueeze(-1)
        mean = (states * kept).sum(1) / kept.sum(1)
        scores: Tensor = self.scores(mean)
        return scores


def positions(steps: int, width: int, device: torch.device) -> Tensor:
    """Sines and cosines (steps, width) of Vaswani et al., 2017, Section 3.5."""
    time = torch.arange(steps, device=device)[:, None]
    rates = torch.exp(-math.log(10000.0) / width * torch.arange(0, width, 2, device=device))
    return torch.stack([torch.sin(time * rates), torch.cos(time * rates)], -1).flatten(1)
