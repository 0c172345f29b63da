"""Real patterns: a handwritten digit is the pattern, and images of it are the examples."""

from __future__ import annotations

from pathlib import Path

import torch

from harness.loading.semeion import read_semeion
from harness.loading.splits import Splits, Tensors
from harness.seeding import derive


def semeion(root: Path, seed: int, train: int = 1000, shuffle_labels: bool = False) -> Splits:
    """Images as vectors of ±1 (1 is ink), ``x`` (n, 256) and digits ``y`` (n,).

    Args:
        root: folder with ``semeion.data``.
        seed: which images are for learning.
        train: how many of the 1,593; the others say what should have been learned.
        shuffle_labels: permute the digits of the training images.

    Raises:
        ValueError: for a ``train`` that leaves no image for either.
    """
    pixels, digits = read_semeion(root)
    images = torch.as_tensor(pixels).flatten(1).float() * 2 - 1
    labels = torch.as_tensor(digits).long()
    if not 0 < train < len(images):
        raise ValueError(f"train={train} of {len(images)} images")
    generator = torch.Generator().manual_seed(derive(seed, "split"))
    order = torch.randperm(len(images), generator=generator)
    seen, held_out = order[:train], order[train:]
    taught = labels[seen]
    if shuffle_labels:
        taught = taught[torch.randperm(train, generator=generator)]
    dims = {"pixels": images.shape[1], "classes": 10}
    test = Tensors(x=images[held_out], y=labels[held_out])
    return Splits(Tensors(x=images[seen], y=taught), test, dims=dims)
