"""A small real task for the claims on training: two digits of scikit-learn's set."""

from __future__ import annotations

import torch

from harness.loading.splits import Splits, Tensors
from harness.seeding import derive


def two_digits(seed: int, train: int = 8, test: int = 16) -> Splits:
    """Images of zeros and ones as inputs of ``|x|²/n_0 = 1``, targets -1 and 1.

    Args:
        seed: which images are drawn.
        train, test: numbers of images, half of each digit.

    Raises:
        ValueError: for odd numbers, or more images than there are.
    """
    from sklearn.datasets import load_digits

    if train % 2 or test % 2:
        raise ValueError(f"train {train} and test {test} need to be even")
    digits = load_digits()
    images = torch.as_tensor(digits.data, dtype=torch.float32)
    images = images / images.square().mean(1, keepdim=True).sqrt()
    labels = torch.as_tensor(digits.target)
    generator = torch.Generator().manual_seed(derive(seed, "two digits"))
    chosen: dict[str, list[torch.Tensor]] = {"train": [], "test": []}
    for digit in (0, 1):
        rows = torch.nonzero(labels == digit)[:, 0]
        if (train + test) // 2 > len(rows):
            raise ValueError(f"there are only {len(rows)} images of {digit}")
        rows = rows[torch.randperm(len(rows), generator=generator)]
        chosen["train"].append(rows[: train // 2])
        chosen["test"].append(rows[train // 2 : (train + test) // 2])
    columns = {name: torch.cat(rows) for name, rows in chosen.items()}
    splits = {n: Tensors(x=images[r], y=2.0 * labels[r] - 1) for n, r in columns.items()}
    return Splits(splits["train"], splits["test"], dims={"features": images.shape[1]})
