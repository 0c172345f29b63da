import numpy as np
import pytest
import torch

from experiments.guidance.data import chance_of_copying, copy_paste, parity, translation
from experiments.guidance.model import PAD


def test_a_copied_sequence_is_laid_out_as_released():
    """Built once more, sequence by sequence, from what the released data set says."""
    splits = copy_paste(0, train=50, val=10, test=10, shortest=3, longest=6)
    assert splits.dims == {"vocabulary": 13, "steps": 14}
    lengths = set()
    for x, y in zip(*splits.train.columns.values(), strict=True):
        length = int((x == 11).nonzero())
        lengths.add(length)
        s = x[:length].tolist()
        rest = [0] * (14 - 2 * length - 2)
        assert x.tolist() == [*s, 11, *[0] * length, 12, *rest]
        assert y.tolist() == [*[0] * (length + 1), *s, 12, *rest]
    assert lengths == {3, 4, 5, 6}
    symbols = splits.train.columns["x"][:, :3].unique().tolist()
    assert symbols == list(range(10))


def test_chance_of_copying_is_what_guessing_gives():
    columns = copy_paste(1, train=10, val=10, test=4000).test.columns
    y = columns["y"]
    counted = y != 0
    guess = torch.where(y == 12, 12, torch.randint(1, 10, y.shape))
    simulated = float((guess == y)[counted].double().mean())
    assert chance_of_copying() == pytest.approx(simulated, abs=0.005)
    assert chance_of_copying() == pytest.approx(4 / 28)


def test_parity_is_of_the_ones_before_the_padding():
    splits = parity(0, train=300, val=20, test=20, longest=9)
    for x, y in zip(*splits.train.columns.values(), strict=True):
        string = [bit for bit in x.tolist() if bit != PAD]
        assert 2 <= len(string) <= 9 and set(string) <= {0, 1}
        assert x.tolist() == string + [PAD] * (9 - len(string))
        assert int(y) == sum(string) % 2


def test_sequences_of_the_splits_and_of_seeds_differ():
    one, other = copy_paste(0, 200, 200, 200), copy_paste(1, 200, 200, 200)
    parts = [one.train, one.val, one.test, other.train]
    rows = [{tuple(row) for row in part.columns["x"].tolist()} for part in parts]
    assert all(len(each) == 200 for each in rows)
    assert len(set.union(*rows)) == 800


def test_patterns_lie_anywhere_and_only_noise_is_around_them():
    columns = translation(0, train=500, val=10, test=10, noise=0.0).train.columns
    places = set()
    shapes = {}
    for image, label in zip(columns["x"][:, 0], columns["y"].tolist(), strict=True):
        rows, cols = (image != 0).nonzero(as_tuple=True)
        assert len(rows) == 25 and rows.max() - rows.min() == 4 and cols.max() - cols.min() == 4
        places.add((int(rows[0]), int(cols[0])))
        pattern = tuple(image[rows, cols].tolist())
        assert shapes.setdefault(label, pattern) == pattern
    assert len(places) > 100 and len(set(shapes.values())) == 10


@pytest.mark.parametrize("make", [copy_paste, parity, translation])
def test_only_training_labels_are_shuffled(make):
    sizes = {"train": 100, "val": 30, "test": 30}
    honest, shuffled = make(0, **sizes), make(0, **sizes, shuffle_labels=True)
    for name in sizes:
        mine, theirs = getattr(honest, name).columns, getattr(shuffled, name).columns
        assert torch.equal(mine["x"], theirs["x"])
        assert torch.equal(mine["y"], theirs["y"]) == (name != "train")
    counts = [np.unique(s.train.columns["y"], return_counts=True)[1] for s in (honest, shuffled)]
    assert np.array_equal(*counts)
