"""The networks compared: U-Net and ViT of the released code, FNO with its settings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from neuralop import models
from torch import Tensor, nn

from baselines import fourier


class ReleasedFNO(fourier.FNO):
    """FNO with the lifting and projection of ``configs/fno.yaml``.

    Args:
        ratio: width of the lifting and projecting networks over ``width``.
    """

    def __init__(self, modes: int, width: int, layers: int = 4, ratio: float = 4.13) -> None:
        super().__init__(2, 2, 1)
        self.network = models.FNO(
            n_modes=(modes, modes),
            in_channels=1,
            out_channels=1,
            hidden_channels=width,
            n_layers=layers,
            lifting_channel_ratio=ratio,
            projection_channel_ratio=ratio,
        )


class Residual(nn.Module):
    """Two convolutions, each after normalisation over a whole function and GELU, and a shortcut."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(1, width) for width in (inputs, outputs))
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, outputs, kernel, padding=kernel // 2) for a in (inputs, outputs)
        )
        same = inputs == outputs
        self.shortcut: nn.Module = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            h = convolution(F.gelu(norm(h)))
        output: Tensor = h + self.shortcut(x)
        return output


class UNet(nn.Module):
    """U-Net of residual blocks, by strided and transposed convolutions (PDE-Arena's, as released).

    The coordinates i / d are channels beside the input; everything is padded by zeros.

    Args:
        width: channels of the finest level.
        multiples: by what each level has more channels than the finer one.
        kernel: pixels along a side of the convolutions in blocks, odd.
        blocks: on each level, one more on the way up.
    """

    def __init__(
        self,
        width: int = 19,
        multiples: Sequence[int] = (1, 2, 2, 3),
        kernel: int = 9,
        blocks: int = 2,
        inputs: int = 1,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs + 2, width, kernel, padding=kernel // 2)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        now, skips = width, [width]
        for level, multiple in enumerate(multiples):
            if level:
                self.down.append(nn.Conv2d(now, now, 3, 2, 1))
                skips.append(now)
            for out in [now * multiple] * blocks:
                self.down.append(Residual(now, out, kernel))
                now = out
                skips.append(now)
        self.middle = nn.Sequential(*[Residual(now, now, kernel) for _ in range(2)])
        for level, multiple in reversed(list(enumerate(multiples))):
            for out in [now] * blocks + [now // multiple]:
                self.up.append(Residual(now + skips.pop(), out, kernel))
                now = out
            if level:
                self.up.append(nn.ConvTranspose2d(now, now, 4, 2, 2))
        self.norm = nn.GroupNorm(1, now)
        self.last = nn.Conv2d(now, outputs, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, d, d) -> (batch, outputs, d, d); d is divisible by 2^(levels - 1)."""
        x = self.first(with_coordinates(x))
        skips = [x]
        for module in self.down:
            x = module(x)
            skips.append(x)
        x = self.middle(x)
        for module in self.up:
            x = module(torch.cat(_fitted(skips.pop(), x), 1) if isinstance(module, Residual) else x)
        output: Tensor = self.last(F.gelu(self.norm(x)))
        return output


def _fitted(skip: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """x with zeros around it, so that it is as wide as the skip."""
    missing = skip.shape[-1] - x.shape[-1]
    sides = [missing // 2, missing - missing // 2]
    return skip, F.pad(x, sides * 2)


def with_coordinates(x: Tensor) -> Tensor:
    """(batch, channels, d, d) with i / d along both axes as two more channels."""
    d = x.shape[-1]
    at = torch.arange(d, dtype=x.dtype, device=x.device) / d
    grid = torch.stack((at[:, None].expand(d, d), at.expand(d, d)))
    return torch.cat((x, grid.expand(len(x), 2, d, d)), 1)


class ViT(nn.Module):
    """Vision transformer with a patch of the output from each token (``models/vit.py``).

    On other grids than that of ``side`` points, position encodings are interpolated.

    Args:
        side: points along a side in training.
        patch: points along a side of a patch.
        width, layers, heads, hidden: of the transformer.
    """

    def __init__(
        self,
        side: int,
        patch: int = 16,
        width: int = 768,
        layers: int = 12,
        heads: int = 12,
        hidden: int = 1900,
    ) -> None:
        super().__init__()
        tokens = side // patch
        self.embed = nn.Conv2d(1, width, patch, patch)
        self.start = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.start_position = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, width, tokens, tokens))
        layer = nn.TransformerEncoderLayer(
            width, heads, hidden, 0.0, F.gelu, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(
            layer, layers, nn.LayerNorm(width), enable_nested_tensor=False
        )
        for module in self.encoder.modules():  # its layers begin as copies of one another
            if isinstance(module, nn.MultiheadAttention):
                module._reset_parameters()
            elif isinstance(module, nn.Linear):
                module.reset_parameters()
        self.decode = nn.Sequential(nn.Conv2d(width, patch**2, 1), nn.PixelShuffle(patch))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 1, d, d) -> (batch, 1, d, d); d is divisible by ``patch``."""
        patches = self.embed(x)
        position: Tensor = self.position
        if position.shape[-1] != patches.shape[-1]:
            position = F.interpolate(position, patches.shape[-2:], mode="bicubic")
        start = (self.start + self.start_position).expand(len(x), -1, -1)
        tokens = torch.cat((start, (patches + position).flatten(2).mT), 1)
        encoded = self.encoder(tokens)[:, 1:].mT.unflatten(2, patches.shape[-2:])
        output: Tensor = self.decode(encoded)
        return output
