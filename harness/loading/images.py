"""Labelled images as tensors: Fashion-MNIST and its kin, CIFAR-10 from JPEG files.

What a paper takes of them is told by counts and a seed, and only those images are decoded.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.loading.readers import BadFormat, read_labelled_images
from harness.loading.splits import Splits, Tensors
from harness.seeding import derive

CIFAR10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def grey_images(
    root: Path,
    seed: int,
    train: int = 60000,
    test: int = 10000,
    val: int = 0,
    shuffle_labels: bool = False,
) -> Splits:
    """MNIST, Fashion-MNIST and others of their form: ``x`` (n, 1, rows, columns), ``y`` (n,).

    Training and validation images are official training images, those of the test official test
    images; of fewer than all, random ones. Pixels are standardised by the training images' mean
    and deviation.

    Args:
        root: folder with the idx files.
        seed: which images.
        shuffle_labels: permute the training labels.

    Raises:
        ValueError: more images are asked for than there are.
    """
    found = []
    for name, count in (("train", train + val), ("t10k", test)):
        images, labels = read_labelled_images(root, name)
        rows = _rows(len(images), count, derive(seed, "images", name))
        pixels = torch.as_tensor(images[rows.numpy()])[:, None]
        found.append((pixels, torch.as_tensor(labels[rows.numpy()]).long()))
    return _splits(
        found[0], found[1], train, 10, derive(seed, "labels") if shuffle_labels else None
    )


def cifar10_jpeg(
    root: Path,
    seed: int,
    train: int = 50000,
    test: int = 10000,
    val: int = 0,
    shuffle_labels: bool = False,
) -> Splits:
    """CIFAR-10 re-encoded as JPEG: ``x`` (n, 3, 32, 32), ``y`` (n,); a lossy copy.

    Args: as of :func:`grey_images`; ``root`` has ``train/<class>/*.jpg`` and ``test/…``.

    Raises:
        ValueError: more images are asked for than there are.
        BadFormat: a class has no folder, or a file is no image of 32 x 32 pixels.
    """
    found = []
    for name, count in (("train", train + val), ("test", test)):
        files = [
            (file, label)
            for label, kind in enumerate(CIFAR10)
            for file in _files(root / name / kind)
        ]
        chosen = [files[row] for row in _rows(len(files), count, derive(seed, "images", name))]
        pixels = torch.stack([read_jpeg(file) for file, _ in chosen])
        found.append((pixels, torch.tensor([label for _, label in chosen])))
    return _splits(
        found[0], found[1], train, 10, derive(seed, "labels") if shuffle_labels else None
    )


def read_jpeg(file: Path, side: int = 32) -> Tensor:
    """Colours uint8 (3, side, side).

    Raises:
        BadFormat: for what is no image, or one of another size.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise BadFormat(f"{file.name} is no whole image: {error}") from error
    if pixels.shape != (side, side, 3):
        raise BadFormat(f"{file.name} has {pixels.shape[:2]} pixels, not {side} x {side}")
    return torch.tensor(pixels).permute(2, 0, 1)


def _files(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.jpg"))
    if not found:
        raise BadFormat(f"no images of {folder.name} in {folder.parent.name}")
    return found


def _rows(there: int, wanted: int, seed: int) -> Tensor:
    if wanted > there:
        raise ValueError(f"{wanted} images are more than the {there} there are")
    return torch.randperm(there, generator=torch.Generator().manual_seed(seed))[:wanted]


def _splits(
    learned: tuple[Tensor, Tensor],
    tested: tuple[Tensor, Tensor],
    train: int,
    classes: int,
    shuffle: int | None,
) -> Splits:
    """The first ``train`` images for training, the others for validation."""
    (images, labels), (later, answers) = learned, tested
    seen = images[:train].float()
    mean, deviation = seen.mean(), seen.std()

    def part(pixels: Tensor, y: Tensor) -> Tensors:
        return Tensors(x=(pixels.float() - mean) / deviation, y=y)

    taught = labels[:train]
    if shuffle is not None:
        order = torch.randperm(train, generator=torch.Generator().manual_seed(shuffle))
        taught = taught[order]
    _, channels, height, width = images.shape
    return Splits(
        part(images[:train], taught),
        part(later, answers),
        part(images[train:], labels[train:]) if len(images) > train else None,
        dims={
            "channels": channels,
            "side": height,
            "features": channels * height * width,
            "classes": classes,
        },
    )
