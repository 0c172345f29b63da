import gzip

import numpy as np
import pytest
import torch

from experiments.monotone_dbm.data import digits, mnist, quantised, semeion, shrunk


def write_mnist(folder, train=30, test=20):
    generator = np.random.default_rng(0)
    for split, count in (("train", train), ("t10k", test)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        images[:, 0, 0] = np.arange(count) + (100 if split == "t10k" else 0)  # who it is
        labels = np.arange(count, dtype=np.uint8) % 10
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, values.ndim])
            header += b"".join(size.to_bytes(4, "big") for size in values.shape)
            with gzip.open(folder / f"{split}-{kind}-ubyte.gz", "wb") as file:
                file.write(header + values.tobytes())


def test_official_files_become_grey_levels_and_the_test_images_are_the_official_ones(tmp_path):
    write_mnist(tmp_path)
    splits = mnist(tmp_path, 0, train=20, val=10, test=20, levels=256)
    assert splits.dims == {"side": 28, "levels": 256, "classes": 10}
    corners = {
        name: set(getattr(splits, name).columns["x"][:, 0, 0].tolist())
        for name in ("train", "val", "test")
    }
    assert len(corners["train"]) == 20 and len(corners["val"]) == 10
    assert corners["train"] | corners["val"] == set(range(30))
    assert corners["test"] == set(range(100, 120))
    for split in (splits.train, splits.val, splits.test):
        who = split.columns["x"][:, 0, 0]
        assert torch.equal(split.columns["y"], who % 100 % 10)
    assert "seen" not in splits.train.columns


def test_more_images_than_there_are_is_an_error(tmp_path):
    write_mnist(tmp_path)
    with pytest.raises(ValueError, match="more than there are"):
        mnist(tmp_path, 0, train=31, test=5)


def test_levels_are_equal_intervals_with_white_in_the_last():
    """The official bucketize of torchvision's values."""
    values = torch.arange(256) / 255
    edges = torch.linspace(0, 1, 21)
    edges[-1] = 1.1
    expected = torch.bucketize(values, edges, right=True) - 1
    found = quantised(values, 20)
    assert found.max() == 19 and int((found != expected).sum()) <= 1  # rounding at an edge


def test_images_are_shrunk_by_averages():
    images = torch.zeros(1, 28, 28)
    images[0, :2, :2] = 1.0  # with the border, rows and columns 2 and 3
    small = shrunk(images, 8)
    assert small.shape == (1, 8, 8)
    assert float(small[0, 0, 0]) == pytest.approx(4 / 16)
    assert float(small.sum()) == pytest.approx(4 / 16)
    with pytest.raises(ValueError, match="do not divide"):
        shrunk(images, 5)


@pytest.mark.parametrize("shuffle", [False, True])
def test_digits_are_disjoint_and_labels_belong_to_their_images(shuffle):
    from sklearn.datasets import load_digits

    found = load_digits()
    truth = {
        image.tobytes(): label for image, label in zip(found.images, found.target, strict=True)
    }
    splits = digits(0, train=800, val=200, levels=17, shuffle_labels=shuffle)
    keys = {}
    for name in ("train", "val", "test"):
        columns = getattr(splits, name).columns
        images = columns["x"].double().numpy()
        keys[name] = {image.tobytes() for image in images}
        known = torch.tensor([truth.get(image.tobytes(), -1) for image in images])
        same = float((known == columns["y"]).double().mean())
        assert same < 0.2 if shuffle and name == "train" else same == 1
    assert len(keys["train"]) == 800 and len(keys["test"]) == 797
    assert not keys["train"] & keys["val"] and not keys["train"] & keys["test"]
    assert not keys["val"] & keys["test"]
    assert len(digits(0, train=20, test=30).test) == 30


def test_seeds_differ_in_images_and_in_what_is_seen():
    first, again, other = (digits(seed, train=500) for seed in (0, 0, 1))
    for name in ("x", "seen"):
        columns = [splits.test.columns[name] for splits in (first, again, other)]
        assert torch.equal(columns[0], columns[1]) and not torch.equal(columns[0], columns[2])
    assert float(first.test.columns["seen"].double().mean()) == pytest.approx(0.4, abs=0.01)
    assert not torch.equal(first.test.columns["seen"][0], first.test.columns["seen"][1])


def test_semeion_in_blocks_of_four_pixels(tmp_path):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 2, (20, 256))
    table = np.concatenate([pixels, np.eye(10)[np.arange(20) % 10]], axis=1)
    np.savetxt(tmp_path / "semeion.data", table, fmt="%.4f")
    splits = semeion(tmp_path, 0, train=12, val=3, levels=5)
    assert splits.train.columns["x"].shape == (12, 8, 8) and len(splits.test) == 5
    blocks = pixels.reshape(20, 8, 2, 8, 2).sum((2, 4))
    images = torch.cat([s.columns["x"] for s in (splits.train, splits.val, splits.test)])
    assert sorted(images.flatten(1).tolist()) == sorted(blocks.reshape(20, 64).tolist())
    with pytest.raises(ValueError, match="leave 0 for the test"):
        semeion(tmp_path, 0, train=20)
