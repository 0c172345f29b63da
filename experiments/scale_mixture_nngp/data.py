"""Regression tables, the paper's two synthetic series, and images with their corruptions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from harness.loading.readers import read_labelled_images
from harness.loading.splits import Splits, Tensors
from harness.seeding import derive

Array = NDArray[np.float64]
Disturbance = Literal["none", "outliers", "shift"]
SPLITS = 20  # published with eight of the UCI sets
UNSEEN = (1, 4, 8)  # the classes that the released code leaves out


def uci(root: Path, seed: int, name: str, disturbance: Disturbance = "none") -> Splits:
    """A UCI regression set. Seed k uses the published 90/10 split k (modulo 20).

    Sets without published splits are split 90/10 at random by the seed.

    Args:
        name: the folder below ``root``.
        disturbance: see :func:`regression_splits`.
    """
    x, y, published = read_table(root / name, seed % SPLITS)
    return regression_splits(x, y, published, seed, disturbance)


def read_table(folder: Path, split: int) -> tuple[Array, Array, NDArray[np.bool_] | None]:
    """Inputs (N, D), targets (N,), and which rows the published split tests (if there is one)."""
    if (folder / "airfoil_self_noise.dat").exists():
        rows = np.loadtxt(folder / "airfoil_self_noise.dat", skiprows=1)
        return rows[:, :-1], rows[:, -1], None
    if (folder / "winequality-white.csv").exists():
        rows = np.loadtxt(folder / "winequality-white.csv", skiprows=1, delimiter=",")
        return rows[:, :-1], rows[:, -1], None
    rows = np.loadtxt(folder / "data.txt")
    inputs = np.loadtxt(folder / "index_features.txt").astype(int)
    target = int(np.loadtxt(folder / "index_target.txt"))
    tested = np.zeros(len(rows), dtype=bool)
    tested[np.loadtxt(folder / f"index_test_{split}.txt").astype(int)] = True
    return rows[:, inputs], rows[:, target], tested


def diabetes(seed: int, disturbance: Disturbance = "none") -> Splits:
    """scikit-learn's diabetes set (442 rows, 10 inputs), split 90/10 by the seed."""
    from sklearn.datasets import load_diabetes

    found = load_diabetes()
    return regression_splits(found.data, found.target.astype(float), None, seed, disturbance)


def regression_splits(
    x: Array,
    y: Array,
    tested: NDArray[np.bool_] | None,
    seed: int,
    disturbance: Disturbance = "none",
) -> Splits:
    """Training and test rows, undisturbed or in one of two disturbed versions.

    Args:
        tested: the rows to test; drawn from the seed if there are none.
        disturbance: ``outliers`` moves 5 % of the training targets by five standard deviations,
            up or down; ``shift`` tests the tenth of all rows that lies furthest in a direction of
            the standardised inputs, which is drawn from the seed.
    """
    generator = np.random.default_rng(derive(seed, "split"))
    if disturbance == "shift":
        spread = np.where(x.std(0) > 0, x.std(0), 1.0)
        along = (x - x.mean(0)) / spread @ generator.standard_normal(x.shape[1])
        tested = along > np.sort(along)[-max(len(y) // 10, 1) - 1]
    elif tested is None:
        tested = np.zeros(len(y), dtype=bool)
        tested[generator.permutation(len(y))[: len(y) // 10]] = True
    target = y.copy()
    if disturbance == "outliers":
        rows = np.flatnonzero(~tested)
        moved = generator.choice(rows, size=round(0.05 * len(rows)), replace=False)
        target[moved] += 5 * y[rows].std() * generator.choice([-1.0, 1.0], size=len(moved))
    train, test = (
        Tensors(x=torch.from_numpy(x[part]), y=torch.from_numpy(target[part]))
        for part in (~tested, tested)
    )
    return Splits(train, test, dims={"features": x.shape[1]})


def series(seed: int, noise: Literal["normal", "t"]) -> Splits:
    """The released code's synthetic series: a Gaussian process of unit length scale plus noise.

    ``normal``: 100 inputs in [-50, 50], noise 0.2 N(0, 1). ``t``: 300 inputs in [-150, 150],
    noise 0.8 times a Student t with one degree of freedom. A tenth is tested, as for the tables.
    """
    points, half = (100, 50.0) if noise == "normal" else (300, 150.0)
    generator = np.random.default_rng(derive(seed, "series", noise))
    x = np.linspace(-half, half, points)
    covariance = np.exp(-((x[:, None] - x) ** 2) / 2)
    values, vectors = np.linalg.eigh(covariance)
    y = vectors @ (np.sqrt(np.maximum(values, 0)) * generator.standard_normal(points))
    if noise == "normal":
        y = y + 0.2 * generator.standard_normal(points)
    else:
        y = y + 0.8 * generator.standard_t(1, points)
    return regression_splits(x[:, None], y, None, seed)


@dataclass(frozen=True)
class Images:
    """Grey images (N, 1, H, W) in [-1, 1] with classes (N,), and test sets by name.

    ``unseen`` holds images of no training class; its labels mean nothing.
    """

    train: Tensors
    tests: dict[str, Tensors]
    dims: dict[str, int] = field(default_factory=dict)


def digits(seed: int, leave_out: bool = False) -> Images:
    """scikit-learn's 8x8 digits: 1,437 to train on, every fifth one to test."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images, labels = found.images / 16.0, found.target
    tested = np.arange(len(labels)) % 5 == 0
    train, test = (images[~tested], labels[~tested]), (images[tested], labels[tested])
    return image_splits(train, test, seed, leave_out)


def mnist(
    root: Path, seed: int, train: int = 2000, test: int = 1000, size: int = 14,
    leave_out: bool = False,
) -> Images:  # fmt: skip
    """``train`` and ``test`` MNIST images drawn by the seed, in 28x28 or averaged to 14x14."""
    generator = np.random.default_rng(derive(seed, "mnist"))
    parts = []
    for name, count in (("train", train), ("t10k", test)):
        images, labels = read_labelled_images(root, name)
        drawn = generator.permutation(len(labels))[:count]
        block = 28 // size
        grey = images[drawn].reshape(len(drawn), size, block, size, block).mean((2, 4)) / 255
        parts.append((grey, labels[drawn].astype(int)))
    return image_splits(parts[0], parts[1], seed, leave_out)


def image_splits(
    train: tuple[Array, NDArray[np.int_]],
    test: tuple[Array, NDArray[np.int_]],
    seed: int,
    leave_out: bool,
) -> Images:
    """Training images and the test sets ``clean``, ``impulse``, ``shot`` and ``unseen``.

    With ``leave_out`` three classes are not trained on; their test images are ``unseen`` and the
    other test sets lack them. Without it, ``unseen`` are test images whose pixels are shuffled.
    """
    generator = np.random.default_rng(derive(seed, "corruption"))
    (x, labels), (test_x, test_labels) = train, test
    if leave_out:
        kept, kept_test = ~np.isin(labels, UNSEEN), ~np.isin(test_labels, UNSEEN)
        classes = np.setdiff1d(np.arange(10), UNSEEN)
        unseen, unseen_labels = test_x[~kept_test], np.zeros((~kept_test).sum(), dtype=int)
        x, labels = x[kept], np.searchsorted(classes, labels[kept])
        test_x, test_labels = test_x[kept_test], np.searchsorted(classes, test_labels[kept_test])
    else:
        flat = test_x.reshape(len(test_x), -1)
        unseen, unseen_labels = generator.permuted(flat, axis=1).reshape(test_x.shape), test_labels
    tests = {
        "clean": _grey(test_x, test_labels),
        "impulse": _grey(impulse_noise(test_x, 0.2, generator), test_labels),
        "shot": _grey(shot_noise(test_x, 4.0, generator), test_labels),
        "unseen": _grey(unseen, unseen_labels),
    }
    count = 7 if leave_out else 10
    return Images(_grey(x, labels), tests, {"classes": count, "features": x[0].size})


def impulse_noise(images: Array, share: float, generator: np.random.Generator) -> Array:
    """A ``share`` of the pixels is set to 0 or 1, with equal odds."""
    hit = generator.random(images.shape) < share
    return np.where(hit, generator.integers(0, 2, images.shape), images)


def shot_noise(images: Array, photons: float, generator: np.random.Generator) -> Array:
    """Poisson noise: a white pixel counts ``photons`` on average; clipped to [0, 1]."""
    return np.minimum(generator.poisson(images * photons) / photons, 1.0)


def _grey(images: Array, labels: NDArray[np.int_]) -> Tensors:
    x = torch.from_numpy((images - 0.5) / 0.5)[:, None]
    return Tensors(x=x, y=torch.from_numpy(labels.astype(np.int64)))
