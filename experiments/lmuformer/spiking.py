"""Spiking LMUFormer, and the same network with spiking self-attention instead of the LMU.

The order is that of the official ``slmu_rnn_ms_conv1d``: batch normalisation, spikes, then a
convolution ("membrane shortcut"), so that residual connections carry currents and every weight
meets spikes. A frame is a time step of the neurons, which therefore have memory of their own.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from baselines.lmu import LegendreMemory
from baselines.spiking import LIF
from experiments.lmuformer.model import truncated_normal


class Spikes(nn.Module):
    """Batch normalisation and firing neurons: (batch, channels, frames) -> 0 or 1."""

    def __init__(self, channels: int, threshold: float = 1.0) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)
        self.neurons = LIF(threshold=threshold)

    def forward(self, x: Tensor) -> Tensor:
        currents = self.norm(x).permute(2, 0, 1).contiguous()
        spikes: Tensor = self.neurons(currents).permute(1, 2, 0)
        return spikes


class SpikingEmbedding(nn.Module):
    """3 x [convolution, spikes], a convolution to currents x, then x + convolution(spikes(x))."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (features, width, width):
            layers += [_conv3(inputs, width), Spikes(width)]
        self.layers = nn.Sequential(*layers, _conv3(width, width))
        self.relative = nn.Sequential(Spikes(width), _conv3(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, features, frames) -> currents (batch, width, frames)."""
        x = self.layers(x)
        relative: Tensor = self.relative(x)
        return x + relative


def _conv3(inputs: int, outputs: int) -> nn.Conv1d:
    return nn.Conv1d(inputs, outputs, 3, padding=1, bias=False)


class SpikingLMUMixing(nn.Module):
    """Mixes frames by an LMU whose input u, memory m and hidden state h are spikes.

    The memory itself, between u and m, is the linear one. Its order is twice the width.
    """

    def __init__(self, width: int, frames: int, window: float) -> None:
        super().__init__()
        order = 2 * width
        self.inputs = Spikes(width, threshold=0.5)
        self.write = nn.Linear(width, 1)
        self.written = Spikes(1)
        self.memory = LegendreMemory(order, window, steps=frames)
        self.remembered = Spikes(order)
        self.read = nn.Linear(order + width, width)
        self.hidden = Spikes(width)
        self.project = nn.Sequential(nn.Conv1d(width, width, 1), nn.BatchNorm1d(width))

    def forward(self, x: Tensor) -> Tensor:
        """Currents (batch, width, frames) -> currents of the same shape."""
        x = self.inputs(x).transpose(1, 2)
        u = self.written(self.write(x).transpose(1, 2)).squeeze(1)
        m = self.remembered(self.memory(u).transpose(1, 2)).transpose(1, 2)
        h = self.hidden(self.read(torch.cat([m, x], dim=-1)).transpose(1, 2))
        mixed: Tensor = self.project(h)
        return mixed


class SpikingAttention(nn.Module):
    """Mixes frames by products of spikes, scale * Q K^T V, without softmax.

    Every frame sees all others, so that it cannot run along with its input.
    """

    def __init__(self, width: int, heads: int, scale: float = 0.25) -> None:
        super().__init__()
        self.heads = heads
        self.scale = scale
        self.inputs = Spikes(width)
        self.query, self.key, self.value = (
            nn.Sequential(nn.Conv1d(width, width, 1, bias=False), Spikes(width)) for _ in range(3)
        )
        self.attended = LIF(threshold=0.5)
        self.project = nn.Sequential(nn.Conv1d(width, width, 1), nn.BatchNorm1d(width))

    def forward(self, x: Tensor) -> Tensor:
        """Currents (batch, width, frames) -> currents of the same shape."""
        x = self.inputs(x)
        q, k, v = (
            part(x).unflatten(1, (self.heads, -1)) for part in (self.query, self.key, self.value)
        )
        weights = q.transpose(-1, -2) @ k  # (batch, heads, frames, frames)
        seen = self.scale * (v @ weights.transpose(-1, -2)).flatten(1, 2)
        spikes = self.attended(seen.permute(2, 0, 1).contiguous()).permute(1, 2, 0)
        mixed: Tensor = self.project(spikes)
        return mixed


class SpikingLMUFormer(nn.Module):
    """Embedding, x + mixing(x), x + mixer(x), and a linear head on spikes, averaged over frames.

    Args:
        mixing: how frames are mixed; ``attention`` makes it a spiking Transformer.
        heads: of the attention.
        window: frames that the LMU remembers, ``None`` for all; 1 leaves the neurons' own memory.
    """

    def __init__(
        self,
        features: int,
        frames: int,
        classes: int,
        width: int = 256,
        mixing: Literal["lmu", "attention"] = "lmu",
        heads: int = 16,
        window: float | None = None,
        expansion: int = 4,
    ) -> None:
        super().__init__()
        hidden = expansion * width
        self.embedding = SpikingEmbedding(features, width)
        self.frames: nn.Module
        if mixing == "attention":
            self.frames = SpikingAttention(width, heads)
        else:
            self.frames = SpikingLMUMixing(width, frames, window or frames)
        self.channels = nn.Sequential(
            Spikes(width),
            nn.Conv1d(width, hidden, 1),
            Spikes(hidden),
            nn.Conv1d(hidden, width, 1),
        )
        self.spikes = Spikes(width)
        self.head = nn.Linear(width, classes)
        self.apply(truncated_normal)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, features) -> logits (batch, classes)."""
        logits: Tensor = self.head(self.features(x)).mean(dim=1)
        return logits

    def features(self, x: Tensor) -> Tensor:
        """The spikes that the head sees of every frame: (batch, frames, width)."""
        x = self.embedding(x.transpose(1, 2))
        x = x + self.frames(x)
        spikes: Tensor = self.spikes(x + self.channels(x))
        return spikes.transpose(1, 2)
