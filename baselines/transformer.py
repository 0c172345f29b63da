"""Transformers on spectrograms: AST and the keyword transformer, one class for both.

References: Gong, Chung, Glass, "AST: Audio Spectrogram Transformer", Interspeech 2021; Berg,
O'Connor, Cruz, "Keyword Transformer", Interspeech 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SpectrogramTransformer(nn.Module):
    """Patches of a spectrogram as tokens, learned positions, a Transformer encoder, class tokens.

    With 16 x 16 patches every 10 frames and bins, two class tokens and width 768 it is AST; with
    patches of one frame and all bins, one class token and ``norm_first=False`` the keyword
    transformer.

    Args:
        features: bins of a frame.
        frames: frames of a spectrogram.
        patch: frames and bins of a patch.
        stride: frames and bins from a patch to the next.
        class_tokens: learned tokens, whose outputs are averaged for the classifier.
        norm_first: whether layers normalise before attention and MLP, or after.
    """

    def __init__(
        self,
        features: int,
        frames: int,
        classes: int,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        hidden: int = 3072,
        patch: tuple[int, int] = (16, 16),
        stride: tuple[int, int] = (10, 10),
        class_tokens: int = 2,
        norm_first: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.class_tokens = class_tokens
        self.patches = nn.Conv2d(1, width, patch, stride)
        sizes = zip((frames, features), patch, stride, strict=True)
        rows, columns = ((size - extent) // step + 1 for size, extent, step in sizes)
        self.tokens = nn.Parameter(0.02 * torch.randn(class_tokens, width))
        self.positions = nn.Parameter(0.02 * torch.randn(rows * columns + class_tokens, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, hidden, dropout, "gelu", batch_first=True, norm_first=norm_first
        )
        norm = nn.LayerNorm(width) if norm_first else None
        self.encoder = nn.TransformerEncoder(layer, depth, norm, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, features) -> logits (batch, classes)."""
        patches = self.patches(x[:, None]).flatten(2).transpose(1, 2)
        tokens = self.tokens.expand(len(x), -1, -1)
        encoded = self.encoder(torch.cat([tokens, patches], dim=1) + self.positions)
        logits: Tensor = self.head(encoded[:, : self.class_tokens].mean(dim=1))
        return logits
