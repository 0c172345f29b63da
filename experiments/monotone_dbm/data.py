"""Images of digits in grey levels, and which of their pixels are seen.

Every split has ``x`` (n, side, side), grey levels from 0, and ``y`` (n,). Test and validation
images also have ``seen`` (n, side, side), drawn once per seed; training draws it for every batch.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.loading.readers import read_labelled_images
from harness.loading.semeion import read_semeion
from harness.loading.splits import Splits, Tensors
from harness.seeding import derive

OBSERVED = 0.4


def mnist(
    root: Path,
    seed: int,
    train: int = 60000,
    test: int = 10000,
    val: int = 0,
    levels: int = 20,
    side: int = 28,
    shuffle_labels: bool = False,
) -> Splits:
    """MNIST, the test images being official ones; of fewer than all, random ones.

    Args:
        root: folder with the idx files.
        seed: which images, and which of their pixels are seen.
        train, test, val: numbers of images; those for validation are of the training images.
        levels: grey levels, of equal width.
        side: 28; or 8 or 16, by averaging the image with a border of two pixels.
        shuffle_labels: permute the labels of the training images.
    """
    learned, tested = (_read(root, split) for split in ("train", "t10k"))
    generator = torch.Generator().manual_seed(derive(seed, "images"))
    rows = torch.randperm(len(learned[0]), generator=generator)[: train + val]
    later = torch.randperm(len(tested[0]), generator=generator)[:test]
    if len(rows) < train + val or len(later) < test:
        raise ValueError(f"{train} + {val} and {test} images are more than there are")
    images = torch.cat([learned[0][rows], tested[0][later]])
    labels = torch.cat([learned[1][rows], tested[1][later]])
    grey = quantised(shrunk(images, side), levels)
    return _splits(grey, labels, levels, (train, val), seed, shuffle_labels)


def semeion(
    root: Path, seed: int, train: int = 1000, val: int = 0, test: int | None = None,
    side: int = 8, levels: int = 4, shuffle_labels: bool = False,
) -> Splits:  # fmt: skip
    """Semeion's 1,593 binary images; with side 8, four pixels become one of up to five levels.

    Args: as of :func:`mnist`; without ``test`` all other images are for the test.
    """
    pixels, digits = read_semeion(root)
    images = torch.as_tensor(pixels).float()
    return _shuffled(
        images, torch.as_tensor(digits), (train, val, test), side, levels, seed, shuffle_labels
    )


def digits(
    seed: int, train: int = 1000, val: int = 0, test: int | None = None,
    side: int = 8, levels: int = 4, shuffle_labels: bool = False,
) -> Splits:  # fmt: skip
    """Scikit-learn's 1,797 digits of 8 × 8 pixels.

    Args: as of :func:`semeion`.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.as_tensor(found.images / 16, dtype=torch.float32)
    return _shuffled(
        images,
        torch.as_tensor(found.target),
        (train, val, test),
        side,
        levels,
        seed,
        shuffle_labels,
    )


def shrunk(images: Tensor, side: int) -> Tensor:
    """(n, s, s) to (n, side, side) by averages over blocks, MNIST's 28 pixels bordered to 32.

    Raises:
        ValueError: for a side that does not divide the image's.
    """
    if images.shape[1] == side:
        return images
    if images.shape[1] == 28:
        images = F.pad(images, (2, 2, 2, 2))
    if images.shape[1] % side:
        raise ValueError(f"{images.shape[1]} pixels do not divide into {side}")
    return F.avg_pool2d(images[:, None], images.shape[1] // side)[:, 0]


def quantised(images: Tensor, levels: int) -> Tensor:
    """Values in [0, 1] as one of ``levels`` equal intervals, 1 in the last."""
    return (images * levels).floor().long().clamp_max(levels - 1)


def _read(root: Path, split: str) -> tuple[Tensor, Tensor]:
    images, labels = read_labelled_images(root, split)
    return torch.as_tensor(images).float() / 255, torch.as_tensor(labels)


def _shuffled(
    images: Tensor,
    labels: Tensor,
    sizes: tuple[int, int, int | None],
    side: int,
    levels: int,
    seed: int,
    shuffle_labels: bool,
) -> Splits:
    train, val, test = sizes
    left = len(images) - train - val
    test = left if test is None else test
    if train < 1 or not 0 < test <= left:
        raise ValueError(f"{train} + {val} of {len(images)} images leave {left} for the test")
    generator = torch.Generator().manual_seed(derive(seed, "images"))
    order = torch.randperm(len(images), generator=generator)[: train + val + test]
    grey = quantised(shrunk(images[order], side), levels)
    return _splits(grey, labels[order], levels, (train, val), seed, shuffle_labels)


def _splits(
    grey: Tensor, labels: Tensor, levels: int, sizes: tuple[int, int], seed: int, shuffle: bool
) -> Splits:
    """The first images for training, the next for validation, all others for the test."""
    generator = torch.Generator().manual_seed(derive(seed, "seen"))
    seen = torch.rand(grey.shape, generator=generator) < OBSERVED
    y = labels.long()
    train, val = sizes
    taught = y[:train]
    if shuffle:
        taught = taught[torch.randperm(train, generator=generator)]
    held, tested = slice(train, train + val), slice(train + val, None)
    return Splits(
        Tensors(x=grey[:train], y=taught),
        Tensors(x=grey[tested], y=y[tested], seen=seen[tested]),
        Tensors(x=grey[held], y=y[held], seen=seen[held]) if val else None,
        dims={"side": grey.shape[1], "levels": levels, "classes": 10},
    )
