"""The mixtures follow their law and their posterior is right; readers on small files."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import dirichlet

from experiments.wide_deep_optimal import data
from harness.loading.splits import Splits


def columns(splits: Splits, part: str) -> dict[str, np.ndarray]:
    split = getattr(splits, part)
    return {name: column.numpy() for name, column in split[torch.arange(len(split))].items()}


@pytest.mark.parametrize("dimension", [1, 2, 4, 8])
def test_posterior_is_that_of_the_two_densities(dimension) -> None:
    mixture = data.MIXTURES[dimension]
    test = columns(data.dirichlet(0, dimension, 10, 40), "test")
    simplex = (test["x"] / test["x"].sum(1, keepdims=True)).T
    plus = mixture.prior * dirichlet.pdf(simplex, mixture.plus)
    minus = (1 - mixture.prior) * dirichlet.pdf(simplex, mixture.minus)
    assert test["eta"] == pytest.approx(plus / (plus + minus), rel=1e-8)


@pytest.mark.parametrize("dimension", [1, 2, 4, 8])
def test_classes_have_their_shares_means_and_unit_length(dimension) -> None:
    mixture = data.MIXTURES[dimension]
    splits = data.dirichlet(3, dimension, 2000, 2000)
    parts = [columns(splits, "train"), columns(splits, "test")]
    x, y = (np.concatenate([part[name] for part in parts]) for name in ("x", "y"))
    assert splits.dims == {"dimension": dimension} and x.shape == (4000, dimension + 1)
    assert (y == 1).sum() == 1600 and set(np.unique(y)) == {-1.0, 1.0}
    assert np.linalg.norm(x, axis=1) == pytest.approx(np.ones(4000), abs=1e-12)
    simplex = x / x.sum(1, keepdims=True)
    for label, alpha in ((1, mixture.plus), (-1, mixture.minus)):
        expected = np.array(alpha) / sum(alpha)
        assert simplex[y == label].mean(0) == pytest.approx(expected, abs=0.03)
    assert abs((parts[0]["y"] == 1).mean() - 0.4) < 0.05  # in random order


def test_training_and_test_inputs_are_different_and_depend_on_the_seed() -> None:
    first, again, other = (data.dirichlet(seed, 2, 200, 200) for seed in (0, 0, 1))
    train, test = columns(first, "train")["x"], columns(first, "test")["x"]
    assert len(np.unique(np.concatenate([train, test]), axis=0)) == 400
    assert np.array_equal(train, columns(again, "train")["x"])
    assert not np.isin(train, columns(other, "train")["x"]).any()


def test_shuffling_permutes_the_training_labels_alone() -> None:
    plain, shuffled = data.dirichlet(0, 1, 300, 100), data.dirichlet(0, 1, 300, 100, shuffle=True)
    before, after = columns(plain, "train"), columns(shuffled, "train")
    assert np.array_equal(before["x"], after["x"])
    assert before["y"].sum() == after["y"].sum() and (before["y"] != after["y"]).sum() > 80
    assert np.array_equal(columns(plain, "test")["y"], columns(shuffled, "test")["y"])


def test_stratified_parts_have_the_share_each() -> None:
    for seed in range(3):
        splits = data.dirichlet(seed, 2, 100, 500, stratified=True)
        train, test = columns(splits, "train"), columns(splits, "test")
        assert ((train["y"] == 1).sum(), (test["y"] == 1).sum()) == (40, 200)
        assert len(np.unique(np.concatenate([train["x"], test["x"]]), axis=0)) == 600
        assert 5 < (train["y"][:50] == 1).sum() < 35  # in random order


def test_there_are_four_mixtures() -> None:
    with pytest.raises(ValueError, match=r"\[1, 2, 4, 8\]"):
        data.dirichlet(0, 3)


def idx(values: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.astype(np.uint8).tobytes()


def test_images_become_unit_vectors_of_two_classes(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(1, 255, (12, 2, 3))
    images[7] = 2 * (images[6] // 2)
    images[6] = images[7] // 2  # the same direction: one of them is left out
    labels = np.array([0, 1, 2, 3, 4, 5, 3, 3, 8, 9, 0, 5])
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(images))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(labels))
    splits = data.mnist(tmp_path, 0, train=6, test=5)
    parts = [columns(splits, "train"), columns(splits, "test")]
    x, y = (np.concatenate([part[name] for part in parts]) for name in ("x", "y"))
    flat = images.reshape(12, 6) / np.linalg.norm(images.reshape(12, 6), axis=1, keepdims=True)
    label = {tuple(np.round(row, 9)): 1.0 if n < 3 else -1.0 for row, n in zip(flat, labels)}  # noqa: B905
    assert len(label) == 11
    assert [label[tuple(np.round(row, 9))] for row in x] == y.tolist()
    assert len(np.unique(x, axis=0)) == 11
    with pytest.raises(ValueError, match="11 different examples"):
        data.mnist(tmp_path, 0, train=6, test=6)


def test_landsat_rows_end_in_their_class(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(1, 150, (9, 37))
    rows[:, -1] = [1, 2, 3, 4, 5, 7, 1, 3, 2]
    (tmp_path / "sat.trn").write_text("\n".join(" ".join(map(str, row)) for row in rows))
    train = columns(data.landsat(tmp_path, 0, train=6, test=3), "train")
    label = {tuple(np.round(r[:-1] / np.linalg.norm(r[:-1]), 9)): r[-1] for r in rows}
    assert train["x"].shape == (6, 36)
    for x, y in zip(train["x"], train["y"], strict=True):
        assert (y == 1) == (label[tuple(np.round(x, 9))] == 1)


def test_digits_need_no_files() -> None:
    splits = data.digits(0)
    assert len(splits.train) == len(splits.test) == 800
    assert abs((columns(splits, "train")["y"] == 1).mean() - 0.3) < 0.05
