"""Streams: labelled images, others without labels to initialise keys with, and an encoder.

Nothing is read or generated before a trial asks for the images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.dkvb.encoders import Encoder, Given, Network, Patches
from harness.loading.images import cifar10_jpeg, grey_images
from harness.loading.readers import BadFormat
from harness.loading.splits import Splits, Tensors
from harness.seeding import derive

# Features of the released backbones, by layer.
WIDTHS = {
    "resnet50_imagenet_v2": {3: 1024, 4: 2048},
    "dino_resnet50": {3: 1024, 4: 2048},
    "swav_resnet50w2": {3: 2048, 4: 4096},
    "clip_vit_b32": {3: 512, 4: 512},
    "convmixer": {4: 256},
}
MEANS = (
    ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)),
    (*((0.75, 0.5), (0.5, 0.75), (0.25, 0.5), (0.5, 0.25)),),
)


@dataclass(frozen=True)
class Stream:
    """What is learned class by class.

    Attributes:
        images: gives ``train_x``, ``train_y``, ``val_…``, ``test_…``; ``keys_own`` (the training
            inputs), ``keys_other``, ``keys_far``, without labels, those that there are, the one
            that encoders are fitted to first; and ``elsewhere_x``, ``elsewhere_y`` where the
            encoder is trained on labels of other images.
        encoder: inputs to features.
        dims: ``features`` and ``classes``.
        splits: classes in the order of the stream, where it is not drawn.
    """

    images: Callable[[], dict[str, Tensor]]
    encoder: Encoder
    dims: dict[str, int]
    splits: Sequence[Sequence[int]] = field(default=())


def stream(
    images: Callable[[], dict[str, Tensor]],
    encoder: Encoder,
    classes: int,
    shuffled: int | None = None,
    splits: Sequence[Sequence[int]] = (),
) -> Stream:
    """A stream, or with a seed ``shuffled`` one whose training labels are permuted (a canary)."""

    def found() -> dict[str, Tensor]:
        columns = images()
        if shuffled is not None:
            generator = torch.Generator().manual_seed(shuffled)
            order = torch.randperm(len(columns["train_y"]), generator=generator)
            columns["train_y"] = columns["train_y"][order]
        return columns

    return Stream(found, encoder, {"features": encoder.features, "classes": classes}, splits)


def shuffling(seed: int, shuffle_labels: bool) -> int | None:
    return derive(seed, "shuffled labels") if shuffle_labels else None


# Figure 2.


def toy(seed: int, train: int = 100, test: int = 500, unlabelled: int = 100000) -> Stream:
    """Eight Gaussians in the unit square, four tasks of two; keys from uniform points.

    Args:
        train, test: points of each task, of either class with probability one half.
        unlabelled: points for the keys.
    """

    def points(count: int, name: str) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(derive(seed, "toy", name))
        means = torch.tensor(MEANS)
        which = torch.randint(2, (4, count), generator=generator)
        task = torch.arange(4)[:, None].expand(4, count)
        noise = 0.035 * torch.randn(4, count, 2, generator=generator)
        x = means[which, task] + noise
        return x.flatten(0, 1), (task + 4 * which).flatten()

    def images() -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(derive(seed, "toy", "keys"))
        keys = torch.rand(unlabelled, 2, generator=generator)
        return {"keys_other": keys} | columns(
            {name: points(n, name) for name, n in (("train", train), ("val", test), ("test", test))}
        )

    return stream(images, Given(2, centred=False), 8, splits=((0, 4), (1, 5), (2, 6), (3, 7)))


# Generated.


def mixture(
    seed: int,
    train: int = 2000,
    val: int = 500,
    test: int = 1000,
    features: int = 64,
    classes: int = 10,
    modes: int = 5,
    spread: float = 0.6,
    shuffle_labels: bool = False,
) -> Stream:
    """A class is several Gaussians: neither one direction nor one mean tells it from the others.

    ``keys_other`` are of the same mixture, ``keys_far`` of another one.

    Args:
        spread: deviation of the modes' means; that of an example around its own is one.
    """

    def drawn(count: int, name: str, world: str = "stream") -> tuple[Tensor, Tensor]:
        means = torch.Generator().manual_seed(derive(seed, "mixture", world))
        generator = torch.Generator().manual_seed(derive(seed, "mixture", world, name))
        centres = spread * torch.randn(classes, modes, features, generator=means)
        y = torch.randint(classes, (count,), generator=generator)
        mode = torch.randint(modes, (count,), generator=generator)
        return centres[y, mode] + torch.randn(count, features, generator=generator), y

    def images() -> dict[str, Tensor]:
        labelled = {n: drawn(c, n) for n, c in (("train", train), ("val", val), ("test", test))}
        return {
            "keys_other": drawn(train, "unlabelled")[0],
            "keys_own": labelled["train"][0],
            "keys_far": drawn(train, "unlabelled", "elsewhere")[0],
        } | columns(labelled)

    return stream(images, Given(features), classes, shuffling(seed, shuffle_labels))


# Images.


def digits(
    seed: int, val: int = 250, test: int = 500, other: int = 250, shuffle_labels: bool = False
) -> Stream:
    """The 1,797 digits of scikit-learn, 8 x 8; pixels are the features.

    ``keys_other`` are images that are in no split.
    """

    def images() -> dict[str, Tensor]:
        from sklearn.datasets import load_digits

        found = load_digits()
        generator = torch.Generator().manual_seed(derive(seed, "digits"))
        rows = torch.randperm(len(found.data), generator=generator)
        x, y = torch.as_tensor(found.data).float() / 16, torch.as_tensor(found.target).long()
        sizes = [other, test, val, len(rows) - other - test - val]
        unlabelled, *drawn = torch.split(rows, sizes)
        labelled = {n: (x[r], y[r]) for n, r in zip(("test", "val", "train"), drawn, strict=True)}
        return {"keys_other": x[unlabelled], "keys_own": labelled["train"][0]} | columns(labelled)

    return stream(images, Given(64), 10, shuffling(seed, shuffle_labels))


def usps(
    root: Path,
    mnist: Path,
    fashion: Path,
    seed: int,
    train: int = 2000,
    val: int = 500,
    test: int = 2007,
    other: int = 2000,
    elsewhere: int = 5000,
    epochs: int = 3,
    shuffle_labels: bool = False,
) -> Stream:
    """USPS digits, 16 x 16; features of a network that classifies Fashion-MNIST.

    ``keys_other`` are MNIST digits, ``keys_far`` articles of Fashion-MNIST, at 16 x 16 pixels.

    Args:
        other: images of either.
        elsewhere: images that the network is trained on.
        epochs: of that.
    """

    def images() -> dict[str, Tensor]:
        digits, articles = (
            grey_images(folder, seed, count, 1)
            for folder, count in ((mnist, other), (fashion, elsewhere))
        )
        labelled = {n: (x, y) for n, x, y in read_usps(root, seed, train, val, test)}
        clothes, kinds = held(articles.train)
        small = F.adaptive_avg_pool2d(clothes, 16)
        return {
            "keys_other": F.adaptive_avg_pool2d(held(digits.train)[0], 16),
            "keys_own": labelled["train"][0],
            "keys_far": small[:other],
            "elsewhere_x": small,
            "elsewhere_y": kinds,
        } | columns(labelled)

    return stream(images, Network(epochs=epochs), 10, shuffling(seed, shuffle_labels))


def read_usps(
    root: Path, seed: int, train: int, val: int, test: int
) -> list[tuple[str, Tensor, Tensor]]:
    """Name, standardised images (n, 1, 16, 16) and labels (n,) of each split, drawn by the seed.

    Raises:
        BadFormat: the file has no groups ``train`` and ``test`` of 256 pixels and a label each.
        ValueError: more images are asked for than there are.
    """
    import h5py

    found = {}
    with h5py.File(root / "usps.h5") as file:
        for name, count in (("train", train + val), ("test", test)):
            try:
                pixels, labels = file[name]["data"][:], file[name]["target"][:]
            except KeyError as error:
                raise BadFormat(f"usps.h5 has no {name}: {error}") from error
            if pixels.shape != (len(labels), 256):
                raise BadFormat(f"usps.h5: {pixels.shape} pixels, {len(labels)} labels")
            if count > len(labels):
                raise ValueError(f"{count} images are more than the {len(labels)} there are")
            generator = torch.Generator().manual_seed(derive(seed, "usps", name))
            rows = torch.randperm(len(labels), generator=generator)[:count].numpy()
            images = torch.as_tensor(pixels[rows]).float().view(-1, 1, 16, 16)
            found[name] = images, torch.as_tensor(labels[rows]).long()
    x, y = found["train"]
    mean, deviation = x[:train].mean(), x[:train].std()
    parts = (
        ("train", x[:train], y[:train]),
        ("val", x[train:], y[train:]),
        ("test", *found["test"]),
    )
    return [(name, (images - mean) / deviation, labels) for name, images, labels in parts]


def mnist(
    root: Path,
    fashion: Path,
    seed: int,
    train: int = 4000,
    val: int = 1000,
    test: int = 2000,
    other: int = 2000,
    centroids: int = 50,
    shuffle_labels: bool = False,
) -> Stream:
    """MNIST; features are patches' distances to centroids.

    ``keys_other``, which centroids are of, too, are training images that are not in the stream;
    ``keys_far`` are articles of Fashion-MNIST.
    """

    def images() -> dict[str, Tensor]:
        found, rest = apart(grey_images(root, seed, train + other, test, val), train)
        clothes = grey_images(fashion, seed, other, 1)
        return {"keys_other": rest, "keys_far": held(clothes.train)[0]} | labelled_splits(found)

    return stream(images, Patches(centroids), 10, shuffling(seed, shuffle_labels))


def cifar10(
    root: Path,
    seed: int,
    train: int = 5000,
    val: int = 1000,
    test: int = 2000,
    other: int = 2000,
    centroids: int = 100,
    shuffle_labels: bool = False,
) -> Stream:
    """CIFAR-10 from JPEG files; features are patches' distances to centroids.

    ``keys_other``, which centroids are of, too, are training images that are not in the stream.
    """

    def images() -> dict[str, Tensor]:
        found, rest = apart(cifar10_jpeg(root, seed, train + other, test, val), train)
        return {"keys_other": rest} | labelled_splits(found)

    return stream(images, Patches(centroids), 10, shuffling(seed, shuffle_labels))


def apart(found: Splits, train: int) -> tuple[Splits, Tensor]:
    """Splits with that many training images, and the inputs of the rest of these."""
    x, y = held(found.train)
    return Splits(Tensors(x=x[:train], y=y[:train]), found.test, found.val), x[train:]


def held(split: object) -> tuple[Tensor, Tensor]:
    """Inputs and labels of a split in memory."""
    assert isinstance(split, Tensors)
    return split.columns["x"], split.columns["y"]


def labelled_splits(found: Splits) -> dict[str, Tensor]:
    parts = {"train": held(found.train), "val": held(found.val), "test": held(found.test)}
    return {"keys_own": parts["train"][0]} | columns(parts)


def columns(parts: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """``<name>_x`` and ``<name>_y`` of each split."""
    return {
        f"{name}_{letter}": column
        for name, pair in parts.items()
        for letter, column in zip("xy", pair, strict=True)
    }


# Embeddings of the released backbones.


def embeddings(
    root: Path,
    seed: int,
    backbone: Literal[
        "resnet50_imagenet_v2", "clip_vit_b32", "dino_resnet50", "swav_resnet50w2", "convmixer"
    ],
    layer: int = 4,
    dataset: str = "CIFAR10",
    keys: str = "CIFAR100",
    val: int = 5000,
    classes: int = 10,
    shuffle_labels: bool = False,
) -> Stream:
    """``<backbone>_<layer>_<dataset>_{train,test}_{embeddings,labels}.pt`` of the official code.

    Embeddings are float (n, m) or (n, m, 1, 1), labels int64 (n,). ``val`` of the training ones
    are held out, by the seed.

    Args:
        keys: the data set whose training embeddings keys are initialised with.

    Raises:
        BadFormat: shapes do not fit each other or the backbone.
    """
    width = WIDTHS[backbone][layer]

    def images() -> dict[str, Tensor]:
        parts = {
            n: read_embeddings(root, f"{backbone}_{layer}_{dataset}_{n}", width)
            for n in ("train", "test")
        }
        x, y = parts["train"]
        generator = torch.Generator().manual_seed(derive(seed, "embeddings"))
        rows = torch.randperm(len(y), generator=generator)
        held_out, kept = rows[:val], rows[val:]
        parts |= {"val": (x[held_out], y[held_out]), "train": (x[kept], y[kept])}
        others = read_embeddings(root, f"{backbone}_{layer}_{keys}_train", width)[0]
        return {"keys_other": others, "keys_own": parts["train"][0]} | columns(parts)

    return stream(images, Given(width, False), classes, shuffling(seed, shuffle_labels))


def read_embeddings(root: Path, name: str, width: int) -> tuple[Tensor, Tensor]:
    """Embeddings (n, width) and labels (n,)."""
    found = [
        torch.load(root / f"{name}_{kind}.pt", map_location="cpu", weights_only=True)
        for kind in ("embeddings", "labels")
    ]
    x, y = found[0].float().flatten(1), found[1].long()
    if x.shape != (len(y), width) or y.ndim != 1:
        raise BadFormat(
            f"{name}: embeddings {tuple(x.shape)}, labels {tuple(y.shape)}, not {width} wide"
        )
    return x, y
