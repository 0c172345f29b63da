"""LMUFormer and what it is compared with (arXiv 2402.04882; official code, src/lmu_rnn.py).

Every model maps frames ``x`` of shape (batch, frames, features) to logits (batch, classes).
Inside, convolutions see (batch, channels, frames).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from baselines.lmu import LMU

Readout = Literal["mean", "last"]


def truncated_normal(module: nn.Module) -> None:
    """Linear layers from N(0, 0.02²), truncated; zero biases. Convolutions keep their default."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


class ConvEmbedding(nn.Module):
    """4 x [convolution of 3 frames, ReLU, batch normalisation], then x + convolution of 3 frames.

    All are centred, so that frame t of the output depends on frames t-5 to t+5.
    """

    LOOK_AHEAD = 5

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (features, width, width, width):
            layers += [_conv3(inputs, width), nn.ReLU(), nn.BatchNorm1d(width)]
        self.layers = nn.Sequential(*layers)
        self.relative = _conv3(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, features, frames) -> (batch, width, frames)."""
        x = self.layers(x)
        relative: Tensor = self.relative(x)
        return x + relative


def _conv3(inputs: int, outputs: int) -> nn.Conv1d:
    return nn.Conv1d(inputs, outputs, 3, padding=1, bias=False)


class LMUMixing(nn.Module):
    """Mixes frames: the hidden states of an LMU, a 1x1 convolution and batch normalisation."""

    def __init__(self, width: int, order: int, frames: int, window: float) -> None:
        super().__init__()
        self.lmu = LMU(width, width, order, window, steps=frames)
        self.project = nn.Sequential(nn.Conv1d(width, width, 1), nn.BatchNorm1d(width))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, frames) -> the same shape."""
        mixed: Tensor = self.project(self.lmu(x.transpose(1, 2)).transpose(1, 2))
        return mixed

    def step(self, x: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
        """One frame (batch, width) and the memory before -> output, memory after."""
        h, m = self.lmu.step(x, m)
        return self.project(h[..., None]).squeeze(-1), m


def channel_mixer(width: int, expansion: int = 4) -> nn.Sequential:
    """Mixes the channels of a frame: 1x1 convolutions to ``expansion * width`` and back."""
    hidden = expansion * width
    return nn.Sequential(
        nn.Conv1d(width, hidden, 1),
        nn.BatchNorm1d(hidden),
        nn.GELU(),
        nn.Conv1d(hidden, width, 1),
        nn.BatchNorm1d(width),
        nn.ReLU(),
    )


class LMUFormer(nn.Module):
    """Convolutional embedding, x + LMU(x), x + mixer(x); a linear head on every frame, averaged.

    Args:
        features: numbers in a frame.
        frames: length of the sequences.
        width: channels C, and order of the LMU's memory.
        window: frames that the LMU remembers, ``None`` for all. With 1 it knows no more than the
            present frame and a trace of the one before, and has as many parameters.
    """

    def __init__(
        self,
        features: int,
        frames: int,
        classes: int,
        width: int = 256,
        window: float | None = None,
    ) -> None:
        super().__init__()
        self.embedding = ConvEmbedding(features, width)
        self.frames = LMUMixing(width, width, frames, window or frames)
        self.channels = channel_mixer(width)
        self.head = nn.Linear(width, classes)
        self.apply(truncated_normal)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x)).mean(dim=1)
        return logits

    def features(self, x: Tensor) -> Tensor:
        """What the head sees of every frame: (batch, frames, width)."""
        x = self.embedding(x.transpose(1, 2))
        x = x + self.frames(x)
        mixed: Tensor = x + self.channels(x)
        return mixed.transpose(1, 2)

    def step(self, embedded: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
        """What follows the embedding, for one frame.

        Args:
            embedded: (batch, width).
            m: the LMU's memory before, (batch, order).

        Returns:
            What the head sees of the frame, and the memory after.
        """
        mixed, m = self.frames.step(embedded, m)
        x = embedded + mixed
        return x + self.channels(x[..., None]).squeeze(-1), m


class PlainLMU(nn.Module):
    """An LMU on the frames as they are, or on the convolutional embedding; a linear head.

    Args:
        hidden: size of the hidden state; with an embedding also its width.
    """

    def __init__(
        self,
        features: int,
        frames: int,
        classes: int,
        hidden: int = 256,
        order: int = 256,
        embedding: bool = False,
    ) -> None:
        super().__init__()
        self.embedding = ConvEmbedding(features, hidden) if embedding else None
        inputs = hidden if embedding else features
        self.lmu = LMU(inputs, hidden, order, window=frames, steps=frames)
        self.head = nn.Linear(hidden, classes)
        self.apply(truncated_normal)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x).mean(dim=1))
        return logits

    def features(self, x: Tensor) -> Tensor:
        """Hidden states: (batch, frames, hidden)."""
        if self.embedding is not None:
            x = self.embedding(x.transpose(1, 2)).transpose(1, 2)
        states: Tensor = self.lmu(x)
        return states


class PixelLMU(nn.Module):
    """The notebook's model for permuted MNIST: pixels one by one, the mean of an LMU's states.

    Each pixel goes through a 1x1 convolution to 3 channels with batch normalisation.

    Args:
        window: pixels that the LMU remembers, ``None`` for all.
        readout: the head sees the mean of the hidden states, or the last one.
    """

    def __init__(
        self,
        features: int,
        frames: int,
        classes: int,
        hidden: int = 346,
        order: int = 468,
        dropout: float = 0.4,
        window: float | None = None,
        readout: Readout = "mean",
    ) -> None:
        super().__init__()
        self.embedding = nn.Sequential(nn.Conv1d(features, 3, 1), nn.BatchNorm1d(3))
        self.lmu = LMU(3, hidden, order, window or frames, steps=frames)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, classes))
        self.readout = readout

    def forward(self, x: Tensor) -> Tensor:
        embedded = self.embedding(x.transpose(1, 2)).transpose(1, 2)
        logits: Tensor = self.head(read_out(self.lmu(embedded), self.readout))
        return logits


class Recurrent(nn.Module):
    """A recurrent network on the frames; a linear head on the mean of its states."""

    def __init__(
        self, features: int, classes: int, hidden: int = 256, cell: Literal["gru", "rnn"] = "gru"
    ) -> None:
        super().__init__()
        kind = nn.GRU if cell == "gru" else nn.RNN
        self.cell = kind(features, hidden, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.cell(x)
        logits: Tensor = self.head(states.mean(dim=1))
        return logits


def read_out(states: Tensor, readout: Readout) -> Tensor:
    """(batch, frames, hidden) -> (batch, hidden): the mean over frames, or the last one."""
    return states[:, -1] if readout == "last" else states.mean(dim=1)


def running_mean(features: Tensor) -> Tensor:
    """Mean over frames 0 to n of every n: (batch, frames, width) -> the same shape."""
    counts = torch.arange(1, features.shape[1] + 1, device=features.device)
    return features.cumsum(dim=1) / counts[:, None]
