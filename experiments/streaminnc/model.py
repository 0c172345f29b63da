"""The three networks of the paper: f_PPG (heart rate), f_EEG and f_ACC (seizures).

Each has ``features``, a Sequential h that :mod:`experiments.streaminnc.streaming` can take
apart, and a ``head`` g on the whole embedding. ``window`` is L in samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn


class StreamableNet(nn.Module):
    """g(h(x)) for windows that may be extended by samples of the past.

    Of the embedding only the newest ``window`` samples' columns go to the head; signal padding
    is a longer input, and nothing else (section Training for Streaming Inference).
    """

    def __init__(
        self, features: nn.Sequential, head: nn.Sequential, window: int, stride: int
    ) -> None:
        super().__init__()
        self.features = features
        self.head = head
        self.window = window
        self.columns = window // stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, history + window) -> whatever the head makes of (B, E, columns)."""
        output: Tensor = self.head(self.features(x)[..., -self.columns :])
        return output


class HeartRateNet(StreamableNet):
    """f_PPG: three blocks of three causal convolutions, each ending in average pooling.

    Input (B, 1, history + window) at 32 Hz, output (B,) in beats/min.

    Args:
        kernel, dilation: of every convolution.
        channels, pools: of the three blocks.
        centre, spread: the output is ``centre + spread * z``. The paper has 0 and 1; other
            values only spare the optimiser the way to a typical heart rate.
    """

    def __init__(
        self,
        kernel: int = 5,
        dilation: int = 2,
        channels: Sequence[int] = (32, 48, 64),
        pools: Sequence[int] = (4, 2, 2),
        window: int = 256,
        dropout: float = 0.5,
        centre: float = 0.0,
        spread: float = 1.0,
    ) -> None:
        layers: list[nn.Module] = []
        width = 1
        for filters, pool in zip(channels, pools, strict=True):
            for _ in range(3):
                layers += [
                    nn.ZeroPad1d(((kernel - 1) * dilation, 0)),
                    nn.Conv1d(width, filters, kernel, dilation=dilation),
                    nn.ReLU(),
                ]
                width = filters
            layers += [nn.AvgPool1d(pool), nn.Dropout(dropout)]
        stride = math.prod(pools)
        head = nn.Sequential(
            SelfAttention(width, heads=4),
            nn.LayerNorm(width, eps=1e-3),
            nn.Flatten(),
            nn.Linear(width * (window // stride), 32),
            nn.ReLU(),
            nn.Linear(32, 1),
            Affine(centre, spread),
            nn.Flatten(0),
        )
        super().__init__(nn.Sequential(*layers), head, window, stride)
        for module in self.modules():  # Keras' defaults, as in the released code
            if isinstance(module, (nn.Conv1d, nn.Linear)):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.MultiheadAttention):
                for projection in module.in_proj_weight.chunk(3):  # query, key, value
                    nn.init.xavier_uniform_(projection)


class SelfAttention(nn.Module):
    """Self-attention over embedding columns: (B, E, T) -> (B, T, E), without a residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        output: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return output


class Affine(nn.Module):
    """``centre + spread * x``."""

    def __init__(self, centre: float, spread: float) -> None:
        super().__init__()
        self.centre, self.spread = centre, spread

    def forward(self, x: Tensor) -> Tensor:
        return self.centre + self.spread * x


class EEGNet(StreamableNet):
    """f_EEG: three convolutions (kernel 3), each with normalisation, ReLU and max-pooling by 4.

    Input (B, 18, 1024) at 256 Hz, output (B, 2).
    """

    def __init__(self, channels: int = 18, window: int = 1024) -> None:
        layers: list[nn.Module] = []
        width = channels
        for _ in range(3):
            layers += [
                nn.Conv1d(width, 128, 3, padding=1),
                nn.BatchNorm1d(128),
                nn.ReLU(),
                nn.MaxPool1d(4),
            ]
            width = 128
        head = nn.Sequential(nn.Conv1d(128, 100, window // 64), nn.Conv1d(100, 2, 1), nn.Flatten())
        super().__init__(nn.Sequential(*layers), head, window, 64)


class AccelerationNet(StreamableNet):
    """f_ACC: six convolutions (kernel 3) with normalisation and ReLU, no pooling.

    Input (B, 4, 960) at 32 Hz, output (B, 2).
    """

    def __init__(self, channels: int = 4, window: int = 960) -> None:
        layers: list[nn.Module] = []
        width = channels
        for filters in (8, 16, 32, 64, 128, 256):
            layers += [
                nn.Conv1d(width, filters, 3, padding=1),
                nn.BatchNorm1d(filters),
                nn.ReLU(),
            ]
            width = filters
        head = nn.Sequential(
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(256, 256),
            nn.Linear(256, 128),
            nn.BatchNorm1d(128),
            nn.ReLU(),
            nn.Linear(128, 64),
            nn.BatchNorm1d(64),
            nn.ReLU(),
            nn.Linear(64, 2),
        )
        super().__init__(nn.Sequential(*layers), head, window, 1)
