"""Two classes of unit vectors: the paper's Dirichlet mixtures, and real data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, gammaln

from harness.loading.readers import read_labelled_images
from harness.loading.splits import Splits, Tensors
from harness.seeding import derive

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Mixture:
    """x = s / |s| with s ~ Dirichlet(plus) for y = +1 and s ~ Dirichlet(minus) for y = -1."""

    plus: tuple[float, ...]
    minus: tuple[float, ...]
    prior: float = 0.4  # of +1

    def posterior(self, x: Array) -> Array:
        """P(y = +1 | x) of unit vectors (n, coordinates), in closed form: s = x / sum(x)."""
        simplex = x / x.sum(1, keepdims=True)
        plus, minus = np.array(self.plus), np.array(self.minus)
        odds = np.log(simplex) @ (plus - minus) + _log_norm(plus) - _log_norm(minus)
        found: Array = expit(odds + np.log(self.prior / (1 - self.prior)))
        return found


def _log_norm(alpha: Array) -> float:
    return float(gammaln(alpha.sum()) - gammaln(alpha).sum())


# By the dimension of the sphere; main.py of the released code.
MIXTURES = {
    1: Mixture((1, 2), (2, 1)),
    2: Mixture((0.5, 0.5, 2.5), (2.5, 0.1, 0.5)),
    4: Mixture((3, 1, 2, 1, 1), (1, 2, 2, 2, 3)),
    8: Mixture((1, 2, 1, 2, 1, 1, 1, 1, 1), (1, 1, 1, 2, 3, 4, 2, 2, 1)),
}


def dirichlet(
    seed: int,
    dimension: int,
    train: int = 3000,
    test: int = 3000,
    shuffle: bool = False,
    stratified: bool = False,
) -> Splits:
    """A sample of a mixture, in random order; a share of exactly ``prior`` has y = +1.

    Args:
        dimension: of the sphere; the inputs have one coordinate more.
        shuffle: permute the training labels (a control).
        stratified: training and test examples have that share each, not only together.

    Raises:
        ValueError: for a dimension without a mixture.
    """
    if dimension not in MIXTURES:
        raise ValueError(f"no mixture of dimension {dimension}; there are {sorted(MIXTURES)}")
    mixture, total = MIXTURES[dimension], train + test
    generator = np.random.default_rng(derive(seed, "mixture", dimension))
    plus = int(mixture.prior * total)
    simplex = np.concatenate(
        [generator.dirichlet(mixture.plus, plus), generator.dirichlet(mixture.minus, total - plus)]
    )
    x = simplex / np.linalg.norm(simplex, axis=1, keepdims=True)
    y = np.where(np.arange(total) < plus, 1.0, -1.0)
    order = generator.permutation(total)
    if stratified:
        rank = np.concatenate([np.arange(plus) / plus, np.arange(total - plus) / (total - plus)])
        early = rank < train / total
        order = np.concatenate([order[early[order]], order[~early[order]]])
    x, y = x[order], y[order]
    if shuffle:
        y[:train] = generator.permutation(y[:train])
    return _parts({"x": x, "y": y, "eta": mixture.posterior(x)}, train, dimension)


def _parts(columns: dict[str, Array], train: int, dimension: int) -> Splits:
    first, second = (
        Tensors(**{name: torch.from_numpy(column[part]) for name, column in columns.items()})
        for part in (slice(train), slice(train, None))
    )
    return Splits(first, second, dims={"dimension": dimension})


def mnist(root: Path, seed: int, train: int = 1000, test: int = 1000) -> Splits:
    """MNIST images as unit vectors; digits 0 to 2 are +1. Both parts are of the training file."""
    images, labels = read_labelled_images(root, "train")
    return _split(lambda: images.reshape(len(images), -1), labels < 3, seed, train, test)


def landsat(root: Path, seed: int, train: int = 1000, test: int = 1000) -> Splits:
    """Landsat neighbourhoods (36 intensities) as unit vectors; red soil (1) is +1.

    The file is blank-separated integers, the class (1 to 7) in the last column.
    """
    rows = np.loadtxt(root / "sat.trn")
    return _split(lambda: rows[:, :-1], rows[:, -1] == 1, seed, train, test)


def digits(seed: int, train: int = 800, test: int = 800) -> Splits:
    """scikit-learn's 8x8 digits as unit vectors; digits 0 to 2 are +1."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return _split(lambda: found.data, found.target < 3, seed, train, test)


def _split(
    read: Callable[[], NDArray[np.generic]],
    plus: NDArray[np.bool_],
    seed: int,
    train: int,
    test: int,
) -> Splits:
    """``train`` and ``test`` different examples; of inputs that coincide only the first is used."""
    x = read().astype(np.float64)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    _, found = np.unique(x, axis=0, return_index=True)
    generator = np.random.default_rng(derive(seed, "split"))
    rows = generator.permutation(np.sort(found))[: train + test]
    if len(rows) < train + test:
        raise ValueError(f"{len(found)} different examples do not give {train} + {test}")
    return _parts({"x": x[rows], "y": np.where(plus[rows], 1.0, -1.0)}, train, dimension=2)
