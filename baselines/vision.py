"""Classifiers of images: fully connected, VGG, ResNet with or without its shortcuts, ViT.

All take images (batch, channels, height, width) and give logits (batch, classes). With the
sizes of the papers they have the papers' parameters; small ones are the same code with smaller
numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from baselines.transformer import SpectrogramTransformer

Stem = Literal["large", "small"]
VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class MLP(nn.Sequential):
    """Linear layers over the flattened image, each hidden one with ReLU.

    Args:
        features: channels x height x width.
        hidden: widths of the hidden layers.
        batch_norm: between each hidden layer's linear map and its ReLU.
        dropout: probability, after each ReLU.
    """

    def __init__(
        self,
        features: int,
        hidden: Sequence[int],
        classes: int,
        batch_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(nn.Flatten())
        for width in hidden:
            self.append(nn.Linear(features, width))
            if batch_norm:
                self.append(nn.BatchNorm1d(width))
            self.append(nn.ReLU())
            if dropout:
                self.append(nn.Dropout(dropout))
            features = width
        self.append(nn.Linear(features, classes))


class VGG(nn.Sequential):
    """Simonyan and Zisserman, 2015: stages of 3 x 3 convolutions, each ended by max pooling.

    Args:
        stages: widths of the convolutions of each stage; those of VGG-16 are the default.
        hidden: widths of fully connected layers before the last one (4096, 4096 for ImageNet).
        side: of the map that these see; a larger one is averaged to it.
        batch_norm: after each convolution.
        dropout: probability, after each fully connected ReLU.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        stages: Sequence[Sequence[int]] = VGG16,
        hidden: Sequence[int] = (),
        side: int = 1,
        batch_norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        for widths in stages:
            for width in widths:
                self.append(nn.Conv2d(channels, width, 3, padding=1))
                if batch_norm:
                    self.append(nn.BatchNorm2d(width))
                self.append(nn.ReLU())
                channels = width
            self.append(nn.MaxPool2d(2))
        self.append(nn.AdaptiveAvgPool2d(side))
        self.append(MLP(channels * side**2, hidden, classes, dropout=dropout))


class Block(nn.Module):
    """Convolutions with batch normalisation, and a shortcut around them (He et al., 2016).

    Without the shortcut it is the block of a plain deep network: the same convolutions.

    Args:
        inputs: channels.
        width: of the convolutions; a bottleneck gives four times as many channels.
        stride: of the 3 x 3 convolution (of the first one, where there are two).
        bottleneck: 1 x 1, 3 x 3, 1 x 1 instead of 3 x 3, 3 x 3.
        residual: whether there is a shortcut; a 1 x 1 convolution where shapes differ.
    """

    def __init__(
        self, inputs: int, width: int, stride: int, bottleneck: bool, residual: bool
    ) -> None:
        super().__init__()
        self.outputs = 4 * width if bottleneck else width
        sizes = [(1, 1), (3, stride), (1, 1)] if bottleneck else [(3, stride), (3, 1)]
        channels = [inputs, *[width] * (len(sizes) - 1), self.outputs]
        self.convolutions = nn.ModuleList(
            convolution(before, after, *size)
            for before, after, size in zip(channels, channels[1:], sizes, strict=False)
        )
        self.residual = residual
        reshapes = residual and (stride > 1 or inputs != self.outputs)
        self.shortcut = convolution(inputs, self.outputs, 1, stride) if reshapes else None

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for layer in self.convolutions[:-1]:
            out = torch.relu(layer(out))
        out = self.convolutions[-1](out)
        if self.residual:
            out = out + (x if self.shortcut is None else self.shortcut(x))
        return torch.relu(out)


def convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    """Without bias, for batch normalisation follows."""
    padding = kernel // 2
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False), nn.BatchNorm2d(outputs)
    )


class ResNet(nn.Module):
    """He et al., 2016: a stem, stages of blocks that halve the side and double the width, a mean.

    ResNet-18 has blocks (2, 2, 2, 2), ResNet-50 (3, 4, 6, 3) and bottlenecks; ResNet-20 for
    CIFAR-10 has blocks (3, 3, 3), width 16 and the small stem.

    Args:
        width: of the first stage's convolutions.
        blocks: in each stage.
        stem: ``large``, 7 x 7 with stride 2 and max pooling with stride 2; ``small``, 3 x 3.
        residual: ``False`` for the plain network of the same convolutions.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        width: int = 64,
        blocks: Sequence[int] = (2, 2, 2, 2),
        bottleneck: bool = False,
        residual: bool = True,
        stem: Stem = "large",
    ) -> None:
        super().__init__()
        large = stem == "large"
        self.stem = nn.Sequential(
            *convolution(channels, width, 7 if large else 3, 2 if large else 1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1) if large else nn.Identity(),
        )
        inputs, made = width, []
        for stage, count in enumerate(blocks):
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                made.append(Block(inputs, width * 2**stage, stride, bottleneck, residual))
                inputs = made[-1].outputs
        self.blocks = nn.Sequential(*made)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(inputs, classes)
        self.apply(_he)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.pool(self.blocks(self.stem(x))).flatten(1))
        return logits


def _he(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class VisionTransformer(SpectrogramTransformer):
    """Dosovitskiy et al., 2021: patches of colours in place of a spectrogram's; a class token.

    Args:
        side: of the square image, a multiple of ``patch``.
        hidden: width of each layer's perceptron; default four times ``width``.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        side: int,
        patch: int = 4,
        width: int = 192,
        depth: int = 12,
        heads: int = 3,
        hidden: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        if side % patch:
            raise ValueError(f"patches of {patch} pixels do not tile {side}")
        super().__init__(
            side,
            side,
            classes,
            width,
            depth,
            heads,
            hidden or 4 * width,
            (patch, patch),
            (patch, patch),
            class_tokens=1,
            dropout=dropout,
        )
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.head = nn.Sequential(nn.Linear(width, classes))  # the encoder ends in a norm

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.tokens.expand(len(x), -1, -1), patches], dim=1)
        logits: Tensor = self.head(self.encoder(tokens + self.positions)[:, 0])
        return logits
