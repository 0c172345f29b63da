"""Turned digits: γ says by how much, and the network that reads them is predicted from γ.

One γ belongs to a whole batch. Splits that are evaluated are made of blocks with one γ each;
training images are upright, and turned as they are drawn (``procedure.py``).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate

from harness.loading.readers import read_labelled_images
from harness.loading.splits import Splits, Tensors

GAMMAS = 8  # values of γ that are evaluated: midpoints of eighths of [0, 1]
SIDE = 14


@dataclass(frozen=True)
class Turning:
    """What γ (d,) in [0, 1] says of the images.

    Attributes:
        degrees: by which images are turned at γ_1 = 1.
        told: whether γ_1 turns them; without, a number of its own does.
        inputs: d; further coordinates say nothing.
        block: consecutive validation or test images with one γ.
    """

    degrees: float = 180.0
    told: bool = True
    inputs: int = 1
    block: int = 250

    def drawn(self, generator: torch.Generator, turn: float | None = None) -> tuple[Tensor, float]:
        """A uniform γ (d,) and by how many degrees images are turned that have it.

        Args:
            turn: γ_1, if told; drawn without it.
        """
        gamma = torch.rand(self.inputs, generator=generator, device=generator.device)
        if turn is None:
            turn = float(torch.rand(1, generator=generator, device=generator.device))
        if self.told:
            gamma[0] = turn
        return gamma, turn * self.degrees


@dataclass(frozen=True)
class TurnedDigits(Splits):
    """Upright training images, turned validation and test images; see :class:`Turning`."""

    turning: Turning = Turning()


def turned(images: Tensor, degrees: float) -> Tensor:
    """Images (n, 1, s, s) turned about their centre, bilinearly, zero outside."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    rotation = images.new_tensor([[[c, -s, 0.0], [s, c, 0.0]]])
    grid = affine_grid(rotation, [1, 1, *images.shape[2:]], align_corners=False)
    return grid_sample(images, grid.expand(len(images), -1, -1, -1), align_corners=False)


def blocks(images: Tensor, labels: Tensor, turning: Turning) -> Tensors:
    """Every image once, in blocks whose γ_1 go round the :data:`GAMMAS` values.

    Images beyond the last whole block are left out.
    """
    x, gammas = [], []
    generator = torch.Generator().manual_seed(0)
    parts = [part for part in torch.split(images, turning.block) if len(part) == turning.block]
    for index, part in enumerate(parts):
        gamma, degrees = turning.drawn(generator, (index % GAMMAS + 0.5) / GAMMAS)
        x.append(turned(part, degrees))
        gammas.append(gamma.expand(len(part), -1))
    return Tensors(x=torch.cat(x), gamma=torch.cat(gammas), y=labels[: len(parts) * turning.block])


@functools.lru_cache(maxsize=4)
def mnist(
    root: Path,
    degrees: float = 180.0,
    told: bool = True,
    inputs: int = 1,
    train: int = 20_000,
    test: int = 4000,
    shuffle: bool = False,
) -> TurnedDigits:
    """MNIST, averaged to 14 x 14: the first images train, the last 2,000 of 60,000 validate.

    Args:
        degrees, told, inputs: see :class:`Turning`.
        train, test: images.
        shuffle: labels of training and validation images (a control).

    Raises:
        ValueError: validation images would train.
    """
    read = [_small(*read_labelled_images(root, part)) for part in ("train", "t10k")]
    (images, labels), (others, truths) = read
    if train > len(images) - 2000:
        raise ValueError(
            f"{train} of {len(images)} images would train, and the last 2,000 validate"
        )
    parts = [(images[:train], labels[:train]), (images[-2000:], labels[-2000:])]
    return _splits(
        [*parts, (others[:test], truths[:test])], Turning(degrees, told, inputs), shuffle
    )


@functools.lru_cache(maxsize=4)
def digits(
    degrees: float = 180.0, told: bool = True, inputs: int = 1, shuffle: bool = False
) -> TurnedDigits:
    """scikit-learn's 1,797 digits of 8 x 8, enlarged to 14 x 14; 997 train, 400 validate."""
    from sklearn.datasets import load_digits

    found = load_digits()
    x = torch.from_numpy(found.images).float()[:, None] / 16
    x = interpolate(x, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    y = torch.from_numpy(found.target).long()
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    parts = [(x[rows], y[rows]) for rows in torch.split(order, [997, 400, 400])]
    return _splits(parts, Turning(degrees, told, inputs, block=50), shuffle)


def _small(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    x = torch.from_numpy(images).float()[:, None] / 255
    return avg_pool2d(x, 2), torch.from_numpy(labels).long()


def _splits(parts: list[tuple[Tensor, Tensor]], turning: Turning, shuffle: bool) -> TurnedDigits:
    (x, y), (val_x, val_y), (test_x, test_y) = parts
    if shuffle:
        generator = torch.Generator().manual_seed(1)
        y, val_y = (
            labels[torch.randperm(len(labels), generator=generator)] for labels in (y, val_y)
        )
    return TurnedDigits(
        train=Tensors(x=x, y=y),
        val=blocks(val_x, val_y, turning),
        test=blocks(test_x, test_y, turning),
        dims={"inputs": turning.inputs},
        turning=turning,
    )
