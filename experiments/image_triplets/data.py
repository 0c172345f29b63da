"""Objects that people judged, and photographs from which networks learn."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from experiments.image_triplets import factors as made
from experiments.image_triplets.search import Floats
from experiments.image_triplets.similarity import Bytes, image_similarities
from harness.loading.images import cifar10_jpeg
from harness.loading.readers import BadFormat
from harness.loading.splits import Splits, Tensors
from harness.seeding import derive

MODELS = {"EVA": "eva", "V1": "v1", "HMAX": "hmax", "Silhouette": "silhouette", "RADON": "radon"}


@dataclass(frozen=True)
class Objects:
    """Images that people judged.

    Attributes:
        images: uint8 (n, h, w, 3).
        judgements: dissimilarities (people, n, n).
        brain: similarities (n, n) of the patterns in inferior temporal cortex, ``it``, and in
            early visual areas, ``early``.
        lows: similarities (n, n) of low-level models.
    """

    images: Bytes
    judgements: Floats
    brain: dict[str, Floats]
    lows: dict[str, Floats]
    dims: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen(Splits):
    """Photographs with labels, and objects that people judged, as a network takes them.

    Attributes:
        objects: whose ``images`` are ``shown``.
        shown: (n, 3, 32, 32), in the units of the photographs.
    """

    objects: Objects | None = None
    shown: Tensor = field(default_factory=lambda: torch.empty(0))


@dataclass(frozen=True)
class FactorSplits(Splits):
    """Factor images; ``factors`` are those of the test images."""

    factors: made.Factors | None = None


def objects92(root: Path) -> Objects:
    """92 objects with the judgements of 16 people (Mur et al., 2013; Kriegeskorte et al., 2008).

    Raises:
        BadFormat: for matrices of other shapes, or a model that is missing.
    """
    stimuli = _read(root / "Kriegeskorte_Neuron2008_supplementalData.mat")["stimuli_92objs"]
    images = np.stack([np.asarray(one.image, np.uint8) for one in stimuli])
    judged = np.stack([one.RDM for one in _read(root / "92_behavRDMs.mat")["rdms_behav_92"]])
    scans = _read(root / "92_brainRDMs.mat")["RDMs"]
    it = np.mean([one.RDM for one in scans.flat], axis=0)
    models = {one.name: one.RDM for one in _read(root / "92_modelRDMs.mat")["Models"]}
    if missing := sorted(MODELS.keys() - models.keys()):
        raise BadFormat(f"92_modelRDMs.mat lacks {', '.join(missing)}")
    count = len(images)
    for name, matrix in {"judgements": judged, "IT": it, **models}.items():
        if matrix.shape[-2:] != (count, count):
            raise BadFormat(f"{name}: {matrix.shape[-2:]}, but there are {count} images")
    lows = {key: 1 - np.asarray(models[name], np.float64) for name, key in MODELS.items()}
    lows |= image_similarities(images)
    return Objects(images, judged.astype(np.float64), {"it": 1 - it, "early": lows["eva"]}, lows)


def _read(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        found: dict[str, Any] = loadmat(path, squeeze_me=True, struct_as_record=False)
    except (ValueError, IndexError, NotImplementedError, MatReadError) as error:
        raise BadFormat(f"{path.name} is not a MATLAB file: {error}") from error
    return found


def factor_objects(
    seed: int, count: int = 92, rho: float = 0.7, low_weight: float = 0.4
) -> Objects:
    """Factor images with virtual people and brains: the embedded stand-in for the 92 objects.

    Args:
        rho: how far the texture follows the outline.
        low_weight: what the texture counts in judgements, where the outline counts 1.
    """
    generator = np.random.default_rng(derive(seed, "objects"))
    factors = made.draw(count, rho, generator)
    images = made.render(factors, generator)
    judged = made.virtual_people(factors, generator, low_weight=low_weight)
    shape = (count, count)
    brain = {
        name: level / level.std() + made.symmetric_noise(shape, generator)
        for name, level in (("it", factors.high()), ("early", factors.low()))
    }
    return Objects(images, judged, brain, image_similarities(images))


def photographs(
    objects: Path,
    images: Path,
    seed: int,
    train: int = 5000,
    val: int = 1000,
    test: int = 4000,
    shuffle_labels: bool = False,
) -> Seen:
    """CIFAR-10 (JPEG) to learn from and to search, and the 92 objects at 32 x 32."""
    splits = cifar10_jpeg(images, seed, train, test, val, shuffle_labels)
    return _with(splits, objects92(objects))


def factor_photographs(
    seed: int, train: int = 2000, val: int = 400, test: int = 1300, low_weight: float = 0.4
) -> Seen:
    """Factor images to learn from and to search, and others with virtual people."""
    splits = factor_images(seed, train, val, test)
    return _with(splits, factor_objects(seed, low_weight=low_weight))


def factor_images(
    seed: int,
    train: int = 2000,
    val: int = 400,
    test: int = 1300,
    rho: float = 0.7,
    shuffle_labels: bool = False,
) -> FactorSplits:
    """Factor images ``x`` (n, 3, 32, 32) and their outlines ``y`` (n,)."""
    generator = np.random.default_rng(derive(seed, "factor images"))
    factors = made.draw(train + val + test, rho, generator)
    pixels = _channels_first(made.render(factors, generator)).float()
    seen = pixels[:train]
    x = (pixels - seen.mean()) / seen.std()
    y = torch.as_tensor(factors.category)
    if shuffle_labels:
        y[:train] = y[torch.as_tensor(generator.permutation(train))]
    parts = [slice(0, train), slice(train, train + val), slice(train + val, None)]
    learned, checked, tested = (Tensors(x=x[part], y=y[part]) for part in parts)
    later = made.Factors(factors.category[parts[2]], factors.texture[parts[2]])
    return FactorSplits(
        learned,
        tested,
        checked,
        {"channels": 3, "side": 32, "classes": made.CATEGORIES},
        factors=later,
    )


def _with(splits: Splits, objects: Objects) -> Seen:
    """The objects' images, made as small as the photographs and standardised as these are."""
    side = splits.dims["side"]
    pixels = _channels_first(objects.images).float()
    small = F.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
    shown = (small - small.mean()) / small.std()
    return Seen(splits.train, splits.test, splits.val, splits.dims, objects=objects, shown=shown)


def _channels_first(images: Bytes) -> Tensor:
    return torch.as_tensor(images).permute(0, 3, 1, 2)
