"""A small network on points in ten clusters."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from harness.loading.splits import Splits, Tensors


class Net(nn.Module):
    """``depth`` fully connected layers; 64 and two of them for the sweep."""

    def __init__(self, features: int, classes: int, width: int = 64, depth: int = 2) -> None:
        super().__init__()
        sizes = [features, *[width] * (depth - 1)]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], classes))

    def forward(self, x: Tensor) -> Tensor:
        """(B, features) to (B, classes)."""
        logits: Tensor = self.layers(x)
        return logits


def clusters(train: int = 6400, test: int = 512, features: int = 64, classes: int = 10) -> Splits:
    """Gaussian clusters that overlap a little; the same for every seed."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, features, generator=generator)
    y = torch.randint(classes, (train + test,), generator=generator)
    x = centres[y] + 2.0 * torch.randn(train + test, features, generator=generator)
    return Splits(
        train=Tensors(x=x[:train], y=y[:train]),
        test=Tensors(x=x[train:], y=y[train:]),
        dims={"features": features, "classes": classes},
    )
