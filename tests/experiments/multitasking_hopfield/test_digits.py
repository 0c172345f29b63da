"""Digits from a small file in Semeion's format: disjoint splits, and labels that matter."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from experiments.multitasking_hopfield.data import semeion
from experiments.multitasking_hopfield.digits import Digits
from harness.procedures.base import Trial


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 noisy copies of ten images that share half of their pixels."""
    folder = tmp_path_factory.mktemp("semeion")
    random = np.random.default_rng(0)
    images = random.integers(0, 2, (10, 256))
    images[:, :128] = images[0, :128]
    digits = np.arange(600) % 10
    flipped = random.random((600, 256)) < 0.15
    pixels = np.where(flipped, 1 - images[digits], images[digits])
    rows = [
        " ".join(f"{v:.4f}" for v in row) + " " + " ".join(str(int(k == d)) for k in range(10))
        for row, d in zip(pixels, digits, strict=True)
    ]
    (folder / "semeion.data").write_text(" \r\n".join(rows) + " \r\n")
    return folder


def measured(root: Path, protocol: str, **data: Any) -> dict[str, float]:
    splits = semeion(root, 0, train=400, **data)
    trial = Trial(0, splits, nn.Identity, torch.device("cpu"), Path())
    found: Any = Digits(protocol, examples=20, draws=20).run(trial).metrics  # type: ignore[arg-type]
    assert set(found) == Digits.produces({})
    return {name: figure.value for name, figure in found.items()}


def test_learning_and_comparison_use_different_images(root: Path) -> None:
    splits = semeion(root, 0, train=400)
    every = [split[torch.arange(len(split))]["x"] for split in (splits.train, splits.test)]
    assert [len(images) for images in every] == [400, 200]
    rows = [{bytes(image.numpy().tobytes()) for image in images} for images in every]
    assert not rows[0] & rows[1] and len(rows[0]) + len(rows[1]) == 600
    assert set(torch.cat(every).unique().tolist()) == {-1.0, 1.0}
    with pytest.raises(ValueError, match="train=600"):
        semeion(root, 0, train=600)


def test_seeds_split_differently_and_shuffling_leaves_images_and_test_labels(root: Path) -> None:
    everything = torch.arange(400)
    first, second = semeion(root, 0, train=400), semeion(root, 1, train=400)
    shuffled = semeion(root, 0, train=400, shuffle_labels=True)
    assert not torch.equal(first.train[everything]["x"], second.train[everything]["x"])
    assert torch.equal(first.train[everything]["x"], shuffled.train[everything]["x"])
    assert not torch.equal(first.train[everything]["y"], shuffled.train[everything]["y"])
    rest = torch.arange(200)
    assert torch.equal(first.test[rest]["y"], shuffled.test[rest]["y"])


def test_digits_are_learned_alike_with_and_without_a_teacher(root: Path) -> None:
    taught, alone = measured(root, "supervised"), measured(root, "unsupervised")
    assert taught["agreement"] > 0.97 and taught["evenness"] > 0.9
    assert abs(taught["agreement"] - alone["agreement"]) < 0.02


def test_shuffled_labels_leave_what_all_digits_share(root: Path) -> None:
    found = measured(root, "supervised", shuffle_labels=True)
    assert found["agreement"] < found["common_agreement"] + 0.03 < 0.9


def test_too_few_images_of_a_digit_are_refused(root: Path) -> None:
    trial = Trial(0, semeion(root, 0, train=400), nn.Identity, torch.device("cpu"), Path())
    with pytest.raises(ValueError, match="images of"):
        Digits("supervised", examples=60).run(trial)
