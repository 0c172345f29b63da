"""Two streams of features per video, and what all data sets of this paper do with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from harness.loading.splits import Splits, Tensors
from harness.seeding import derive

STEPS = 25
"""Time steps sampled from every video."""

Streams = Literal["both", "spatial", "temporal"]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Videos:
    """Videos in memory: spatial (N, T, S), temporal (N, T, D) and labels (N,) from 0."""

    spatial: Floats
    temporal: Floats
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


def find_below(root: Path, name: str) -> Path:
    """The file of that name in a folder or its subfolders, the first by path.

    Raises:
        FileNotFoundError: when there is none.
    """
    found = next(iter(sorted(root.rglob(name))), None)
    if found is None:
        raise FileNotFoundError(f"no {name} in {root.name} or its subfolders")
    return found


def uniform_steps(frames: int, steps: int = STEPS) -> NDArray[np.int64]:
    """Indices of ``steps`` frames at equal distances from the first to the last of a video.

    A video with fewer frames than steps repeats some.
    """
    if frames < 1:
        raise ValueError("a video without frames cannot be sampled")
    return np.linspace(0, frames - 1, steps).round().astype(np.int64)


def time_orders(videos: int, steps: int, seed: int, split: str) -> NDArray[np.int64]:
    """An independent random order of the steps for every video: (videos, steps)."""
    generator = np.random.default_rng(derive(seed, "time order", split))
    return generator.permuted(np.tile(np.arange(steps), (videos, 1)), axis=1)


def standardise(train: Floats, *others: Floats) -> list[Floats]:
    """Zero mean and unit deviation per feature, over the videos and steps of ``train``.

    A feature that is constant in training is only centred.
    """
    mean = train.mean((0, 1), dtype=np.float64)
    deviation = train.std((0, 1), dtype=np.float64)
    deviation[deviation < 1e-6] = 1.0
    return [((x - mean) / deviation).astype(np.float32) for x in (train, *others)]


def two_stream_splits(
    train: Videos,
    test: Videos,
    classes: int,
    streams: Streams = "both",
    shuffle: bool = False,
    seed: int = 0,
) -> Splits:
    """Splits of ``x`` (T, features), standardised with training statistics, and ``y``.

    Args:
        streams: both side by side, or one of them.
        shuffle: put the steps of every video, in training and test, into a random order. The
            streams of a video stay together, and so does what a temporal feature says of the
            frames around its own step.
        seed: of those orders.
    """
    pairs = {
        "spatial": standardise(train.spatial, test.spatial),
        "temporal": standardise(train.temporal, test.temporal),
    }
    chosen = ["spatial", "temporal"] if streams == "both" else [streams]
    parts = []
    for i, (name, videos) in enumerate((("train", train), ("test", test))):
        x = np.concatenate([pairs[stream][i] for stream in chosen], axis=-1)
        if shuffle:
            orders = time_orders(len(videos), x.shape[1], seed, name)
            x = np.take_along_axis(x, orders[:, :, None], axis=1)
        parts.append(Tensors(x=torch.from_numpy(x), y=torch.from_numpy(videos.labels)))
    dims = {
        "features": parts[0].columns["x"].shape[2],
        "spatial": train.spatial.shape[2] if "spatial" in chosen else 0,
        "classes": classes,
        "steps": parts[0].columns["x"].shape[1],
    }
    return Splits(train=parts[0], test=parts[1], dims=dims)
