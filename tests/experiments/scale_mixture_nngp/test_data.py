"""Readers on small files of the real formats; disturbances and corruptions do what they say."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.scale_mixture_nngp import data
from harness.loading.splits import Splits, Tensors


def rows(part: Tensors) -> tuple[np.ndarray, np.ndarray]:
    batch = part[torch.arange(len(part))]
    return batch["x"].numpy(), batch["y"].numpy()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A published set of 40 rows whose last column is no feature, with two splits."""
    (tmp_path / "set").mkdir()
    table = np.arange(160.0).reshape(40, 4) ** 1.1
    np.savetxt(tmp_path / "set" / "data.txt", table)
    np.savetxt(tmp_path / "set" / "index_features.txt", [0.0, 1.0])
    np.savetxt(tmp_path / "set" / "index_target.txt", [2.0])
    for split in range(2):
        np.savetxt(tmp_path / "set" / f"index_test_{split}.txt", np.arange(4.0) + 10 * split)
    return tmp_path


def test_published_split_of_the_seed(folder) -> None:
    table = np.loadtxt(folder / "set" / "data.txt")
    for seed in (1, 21):  # there are twenty splits
        splits = data.uci(folder, seed, "set")
        x, y = rows(splits.test)
        assert np.array_equal(x, table[10:14, :2]) and np.array_equal(y, table[10:14, 2])
        assert len(splits.train) == 36


def test_sets_without_published_splits(tmp_path) -> None:
    table = np.random.default_rng(0).normal(size=(30, 3))
    for name, separator in (("airfoil_self_noise.dat", "\t"), ("winequality-white.csv", ",")):
        folder = tmp_path / name.split(".")[0]
        folder.mkdir()
        np.savetxt(folder / name, table, delimiter=separator, header="a b c", comments="")
        first, again, other = (data.uci(tmp_path, s, folder.name) for s in (0, 0, 1))
        assert (len(first.train), len(first.test)) == (27, 3)
        assert np.array_equal(rows(first.test)[1], rows(again.test)[1])
        assert not np.array_equal(rows(first.test)[1], rows(other.test)[1])
        assert np.isin(rows(first.test)[1], table[:, 2]).all()


def disturbed(disturbance: data.Disturbance, seed: int = 0) -> Splits:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    return data.regression_splits(x, x.sum(1), None, seed, disturbance)


def test_outliers_are_in_training_only() -> None:
    x, y = rows(disturbed("outliers").train)
    moved = np.abs(y - x.sum(1)) > 1e-9
    assert moved.sum() == 9
    assert np.abs(y - x.sum(1))[moved] == pytest.approx(5 * x.sum(1).std())
    x, y = rows(disturbed("outliers").test)
    assert y == pytest.approx(x.sum(1))
    assert np.array_equal(x, rows(disturbed("none").test)[0])


def test_shifted_test_rows_lie_beyond_all_training_rows_in_some_direction() -> None:
    splits = disturbed("shift")
    inside, outside = rows(splits.train)[0], rows(splits.test)[0]
    assert len(outside) == 20
    direction = np.linalg.lstsq(
        np.concatenate([inside, outside]), np.repeat([0.0, 1.0], [180, 20]), rcond=None
    )[0]
    assert (outside @ direction).mean() > np.quantile(inside @ direction, 0.95)
    other = rows(disturbed("shift", seed=1).test)[0]
    assert not np.array_equal(outside, other)


def test_series_have_the_released_codes_sizes_and_noise() -> None:
    sizes = {noise: data.series(0, noise) for noise in ("normal", "t")}
    assert [(len(s.train), len(s.test)) for s in sizes.values()] == [(90, 10), (270, 30)]
    pooled = {
        noise: np.concatenate([rows(data.series(s, noise).train)[1] for s in range(12)])
        for noise in ("normal", "t")
    }
    assert pooled["normal"].var() == pytest.approx(1.04, abs=0.15)
    # half of the t noise lies within 0.8; its variance is infinite
    assert np.abs(pooled["t"]).max() > 50
    assert np.median(np.abs(pooled["t"])) < 2


def test_left_out_classes_are_only_unseen() -> None:
    images = data.digits(0, leave_out=True)
    whole = data.digits(0)
    taught = ~torch.isin(whole.train.columns["y"], torch.tensor(data.UNSEEN))
    assert torch.equal(images.train.columns["x"], whole.train.columns["x"][taught])
    classes = torch.tensor([0, 2, 3, 5, 6, 7, 9])  # numbered anew
    assert torch.equal(classes[images.train.columns["y"]], whole.train.columns["y"][taught])
    left_out = sum(int((whole.tests["clean"].columns["y"] == c).sum()) for c in data.UNSEEN)
    assert len(images.tests["unseen"]) == left_out > 0
    kept = whole.tests["clean"].columns["y"]
    expected = whole.tests["clean"].columns["x"][~torch.isin(kept, torch.tensor(data.UNSEEN))]
    assert torch.equal(images.tests["clean"].columns["x"], expected)


def test_unseen_images_are_shuffled_pixels_when_no_class_is_left_out() -> None:
    tests = data.digits(0).tests
    clean, shuffled = (tests[name].columns["x"].flatten(1) for name in ("clean", "unseen"))
    assert torch.equal(clean.sort(1).values, shuffled.sort(1).values)
    assert not torch.equal(clean, shuffled)


def test_corruptions() -> None:
    rng = np.random.default_rng(0)
    grey = np.full((50, 20, 20), 0.5)
    noisy = data.impulse_noise(grey, 0.2, rng)
    assert set(np.unique(noisy)) == {0.0, 0.5, 1.0}
    assert (noisy != 0.5).mean() == pytest.approx(0.2, abs=0.01)
    shots = data.shot_noise(grey / 5, 10.0, rng)  # rarely clipped
    assert shots.mean() == pytest.approx(0.1, abs=0.005)
    assert shots.var() == pytest.approx(0.01, abs=0.001)
    assert data.shot_noise(np.ones((9, 9)), 4.0, rng).max() == 1


def test_mnist_is_drawn_and_averaged(tmp_path) -> None:
    rng = np.random.default_rng(0)
    for name, count in (("train", 30), ("t10k", 20)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for kind, array, magic in (("images-idx3", images, 2051), ("labels-idx1", labels, 2049)):
            header = struct.pack(f">{1 + array.ndim}i", magic, *array.shape)
            with gzip.open(tmp_path / f"{name}-{kind}-ubyte.gz", "wb") as file:
                file.write(header + array.tobytes())
    images = data.mnist(tmp_path, 0, train=12, test=8)
    assert images.train.columns["x"].shape == (12, 1, 14, 14)
    assert images.dims == {"classes": 10, "features": 196}
    full = data.mnist(tmp_path, 0, train=12, test=8, size=28).train.columns["x"]
    blocks = torch.nn.functional.avg_pool2d(full, 2)
    assert images.train.columns["x"].numpy() == pytest.approx(blocks.numpy(), abs=1e-12)
