import gzip
import io

import numpy as np
import pytest
import torch

from baselines.augmentation import flipped, shifted, shuffled_pixels
from harness.loading.images import CIFAR10, cifar10_jpeg, grey_images, read_jpeg
from harness.loading.readers import BadFormat

Image = pytest.importorskip("PIL.Image")


def write_idx(folder, train=30, test=20):
    generator = np.random.default_rng(0)
    for split, count in (("train", train), ("t10k", test)):
        images = generator.integers(0, 256, (count, 8, 8), dtype=np.uint8)
        images[:, 0, 0] = np.arange(count) + (100 if split == "t10k" else 0)  # who it is
        labels = np.arange(count, dtype=np.uint8) % 10
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, values.ndim])
            header += b"".join(size.to_bytes(4, "big") for size in values.shape)
            with gzip.open(folder / f"{split}-{kind}-ubyte.gz", "wb") as file:
                file.write(header + values.tobytes())


def write_jpeg(folder, per_class=6):
    """Class k of the training images is green ~ 20 k, its image i is red ~ 40 i; so is the test."""
    for split, count, blue in (("train", per_class, 40), ("test", 2, 200)):
        for label, name in enumerate(CIFAR10):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = np.full((32, 32, 3), (40 * index, 20 * label, blue), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{index:04d}.jpg", quality=95)


def whole(splits, raw=1.0):
    parts = {name: getattr(splits, name) for name in ("train", "val", "test")}
    return {name: part.columns for name, part in parts.items() if part is not None}


def test_grey_images_are_the_files_images_with_their_labels(tmp_path):
    write_idx(tmp_path)
    splits = grey_images(tmp_path, 0, train=20, val=10, test=20)
    assert splits.dims == {"channels": 1, "side": 8, "features": 64, "classes": 10}
    columns = whole(splits)
    x = columns["train"]["x"]
    assert float(x.mean()) == pytest.approx(0, abs=1e-5)
    assert float(x.std()) == pytest.approx(1, abs=1e-5)
    everything = torch.cat([c["x"][:, 0, 0, 0] for c in columns.values()])
    low, high = everything.min(), everything.max()
    who = {n: ((c["x"][:, 0, 0, 0] - low) / (high - low) * 119).round() for n, c in columns.items()}
    assert set(who["train"].tolist()) | set(who["val"].tolist()) == set(range(30))
    assert len(who["train"]) == 20 and set(who["test"].tolist()) == set(range(100, 120))
    for name, part in columns.items():
        assert torch.equal(part["y"], who[name].long() % 100 % 10)


def test_jpeg_files_have_the_class_of_their_folder_and_splits_share_none(tmp_path):
    write_jpeg(tmp_path)
    splits = cifar10_jpeg(tmp_path, 0, train=40, val=20, test=20)
    assert splits.dims == {"channels": 3, "side": 32, "features": 3072, "classes": 10}
    columns = whole(splits)
    green, red = (torch.cat([c["x"] for c in columns.values()])[:, k].mean((1, 2)) for k in (1, 0))
    labels = torch.cat([c["y"] for c in columns.values()])
    slope = float((green.max() - green.min()) / 9)
    assert torch.equal(((green - green.min()) / slope).round().long(), labels)
    seen = {}
    for name, part in columns.items():
        colours = ((part["x"][:, 0].mean((1, 2)) - red.min()) / slope).round() / 2
        seen[name] = set(zip(colours.tolist(), part["y"].tolist(), strict=True))
        assert len(seen[name]) == len(part["y"])  # no image twice
    assert not seen["train"] & seen["val"] and len(seen["train"] | seen["val"]) == 60
    assert float(columns["test"]["x"][:, 2].mean()) > float(columns["train"]["x"][:, 2].mean())


def test_seeds_choose_images_and_shuffling_touches_training_labels_alone(tmp_path):
    write_jpeg(tmp_path)
    sizes = {"train": 40, "val": 10, "test": 10}
    one, other = (cifar10_jpeg(tmp_path, seed, **sizes) for seed in (0, 1))
    assert not torch.equal(one.train.columns["x"], other.train.columns["x"])
    shuffled = cifar10_jpeg(tmp_path, 0, **sizes, shuffle_labels=True)
    for name in ("train", "val", "test"):
        mine, theirs = getattr(one, name).columns, getattr(shuffled, name).columns
        assert torch.equal(mine["x"], theirs["x"])
        assert torch.equal(mine["y"], theirs["y"]) == (name != "train")


def test_what_is_no_image_of_that_size_or_is_not_there_is_named(tmp_path):
    write_jpeg(tmp_path)
    with pytest.raises(ValueError, match="61 images are more than the 60"):
        cifar10_jpeg(tmp_path, 0, train=60, val=1)
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(buffer, "jpeg")
    for content in (buffer.getvalue(), b"no image"):
        (tmp_path / "x.jpg").write_bytes(content)
        with pytest.raises(BadFormat, match=r"x\.jpg"):
            read_jpeg(tmp_path / "x.jpg")
    for file in (tmp_path / "train" / "frog").iterdir():
        file.unlink()
    with pytest.raises(BadFormat, match="frog"):
        cifar10_jpeg(tmp_path, 0, train=10, test=10)


def test_every_image_is_flipped_by_its_own_draw():
    images = torch.arange(64 * 2 * 3 * 3.0).view(64, 2, 3, 3)
    found = flipped(images, torch.Generator().manual_seed(0))
    same = (found == images).flatten(1).all(1)
    mirrored = (found == images.flip(3)).flatten(1).all(1)
    assert (same ^ mirrored).all() and 16 < int(same.sum()) < 48


def test_shifted_images_are_crops_of_the_bordered_ones():
    images = 1 + torch.rand(50, 2, 5, 6)
    found = shifted(images, torch.Generator().manual_seed(0), pixels=1)
    bordered = torch.nn.functional.pad(images, (1, 1, 1, 1))
    offsets = set()
    for image, crop in zip(bordered, found, strict=True):
        fits = [
            (down, right)
            for down in range(3)
            for right in range(3)
            if torch.equal(image[:, down : down + 5, right : right + 6], crop)
        ]
        assert len(fits) == 1
        offsets.update(fits)
    assert len(offsets) == 9


def test_shuffled_pixels_go_to_the_same_place_in_all_images_and_channels():
    images = torch.rand(3, 2, 4, 4)
    found = shuffled_pixels(images, torch.Generator().manual_seed(0))
    order = [int((images[0, 0].flatten() == value).nonzero()) for value in found[0, 0].flatten()]
    assert order != sorted(order)
    assert torch.equal(found.flatten(2), images.flatten(2)[:, :, order])
