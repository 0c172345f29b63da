"""Random changes of training images that keep what they show.

Each function takes a batch (n, channels, height, width) and a generator on its device, and
changes every image by a draw of its own, all of them at once.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def flipped(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image as it is or, with probability 1/2, mirrored left to right."""
    draws = torch.rand(len(images), generator=generator, device=images.device)
    return torch.where((draws < 0.5)[:, None, None, None], images.flip(-1), images)


def shifted(images: Tensor, generator: torch.Generator, pixels: int = 4) -> Tensor:
    """Each image cropped at random from itself with a black border of ``pixels``."""
    count, _, height, width = images.shape
    limits = {"generator": generator, "device": images.device}
    down, right = (torch.randint(2 * pixels + 1, (count,), **limits) for _ in range(2))  # type: ignore[call-overload]
    rows = down[:, None] + torch.arange(height, device=images.device)
    columns = right[:, None] + torch.arange(width, device=images.device)
    bordered = F.pad(images, [pixels] * 4)
    each = torch.arange(count, device=images.device)[:, None, None]
    cropped = bordered[each, :, rows[:, :, None], columns[:, None, :]]  # channels come last
    return cropped.permute(0, 3, 1, 2).contiguous()


def shuffled_pixels(images: Tensor, generator: torch.Generator) -> Tensor:
    """All images under one random permutation of their pixels, the same for every channel."""
    side = images.shape[-2] * images.shape[-1]
    order = torch.randperm(side, generator=generator, device=images.device)
    return images.flatten(2)[:, :, order].view_as(images)
