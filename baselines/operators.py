"""Convolutional networks between functions on grids, and the errors that operators are judged by.

Functions are (batch, channels, d, d). For Fourier neural operators there is ``neuralop``.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric

Norm = Literal["l2", "h1"]


def relative_errors(output: Tensor, target: Tensor, norm: Norm = "l2", below: int = 20) -> Tensor:
    """‖output - target‖ / ‖target‖ of each function: (batch,).

    Args:
        output, target: (batch, …, d, d); all but the batch belongs to one function.
        norm: ``h1`` weights the Fourier coefficients of wave numbers k by sqrt(1 + kx² + ky²), as
            if functions were periodic on the unit square and 2π were 1.
        below: kx and ky count as 0 in that weight from this number on (MgNO's ``HsLoss``).
    """
    error, target = output - target, target.expand_as(output)
    if norm == "h1":
        d = target.shape[-1]
        k = torch.fft.fftfreq(d, 1 / d, device=target.device, dtype=target.dtype).abs()
        k = torch.where(k < below, k, 0.0)
        weight = (1 + k[:, None] ** 2 + k**2).sqrt()
        error, target = (weight * torch.fft.fft2(f, norm="ortho") for f in (error, target))
    size = torch.linalg.vector_norm(error.flatten(1), dim=1)
    errors: Tensor = size / torch.linalg.vector_norm(target.flatten(1), dim=1)
    return errors


class RelativeLoss(nn.Module):
    """The mean of :func:`relative_errors` over a batch."""

    def __init__(self, norm: Norm = "l2", below: int = 20) -> None:
        super().__init__()
        self.norm, self.below = norm, below

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return relative_errors(output, target, self.norm, self.below).mean()


class RelativeError(Metric):
    """The mean of :func:`relative_errors` over a split."""

    higher_is_better = False
    total: Tensor
    count: Tensor

    def __init__(self, norm: Norm = "l2", below: int = 20) -> None:
        super().__init__()
        self.norm, self.below = norm, below
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, output: Tensor, target: Tensor) -> None:
        self.total += relative_errors(output, target, self.norm, self.below).sum()
        self.count += len(target)

    def compute(self) -> Tensor:
        return self.total / self.count


def _block(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3 x 3 convolutions, each with batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for a, b in ((inputs, outputs), (outputs, outputs)):
        layers += [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """U-Net: maxima of 2 x 2 cells on the way down, transposed convolutions and skips back up.

    Reference: Ronneberger, Fischer, Brox, "U-Net: convolutional networks for biomedical image
    segmentation", MICCAI 2015; padded by zeros and with batch normalisation.

    Args:
        inputs, outputs: channels.
        width: channels on the finest level; twice as many on each coarser one.
        levels: of the hierarchy; d has to be divisible by 2^(levels - 1).
    """

    def __init__(self, inputs: int = 1, outputs: int = 1, width: int = 32, levels: int = 4) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(levels)]
        self.down = nn.ModuleList(
            _block(a, b) for a, b in zip([inputs, *widths], widths, strict=False)
        )
        self.rise = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in widths[:-1])
        self.up = nn.ModuleList(_block(2 * w, w) for w in widths[:-1])
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, d, d) -> (batch, outputs, d, d)."""
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for level in reversed(range(len(self.up))):
            x = self.up[level](torch.cat((skips[level], self.rise[level](x)), 1))
        output: Tensor = self.head(x)
        return output


class DilatedResNet(nn.Module):
    """Residual blocks of seven convolutions with dilations 1, 2, 4, 8, 4, 2, 1.

    Reference: Stachenfeld et al., "Learned coarse models for efficient turbulence simulation",
    ICLR 2022.
    """

    dilations = (1, 2, 4, 8, 4, 2, 1)

    def __init__(self, inputs: int = 1, outputs: int = 1, width: int = 48, blocks: int = 4) -> None:
        super().__init__()
        self.encode = nn.Conv2d(inputs, width, 3, padding=1)
        self.blocks = nn.ModuleList(self._processor(width) for _ in range(blocks))
        self.decode = nn.Conv2d(width, outputs, 3, padding=1)

    def _processor(self, width: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for dilation in self.dilations:
            layers += [nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, d, d) -> (batch, outputs, d, d)."""
        x = self.encode(x)
        for block in self.blocks:
            x = F.relu(x + block(x))
        output: Tensor = self.decode(x)
        return output
