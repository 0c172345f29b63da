"""Turned images, their blocks and splits, from files written in MNIST's format."""

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from experiments.mip_hypernets.data import GAMMAS, Turning, blocks, digits, mnist, turned


def written(folder, name, count, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    labels = rng.integers(0, 10, count, dtype=np.uint8)
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        (folder / f"{name}-{kind}-ubyte").write_bytes(header + array.tobytes())
    return images, labels


@pytest.fixture
def files(tmp_path):
    return tmp_path, written(tmp_path, "train", 4600, 0), written(tmp_path, "t10k", 1100, 1)


def test_quarter_turns_are_those_of_torch():
    x = torch.rand(3, 1, 14, 14)
    torch.testing.assert_close(turned(x, 0), x)
    quarters = [turned(x, 90), turned(x, -90)]
    torch.testing.assert_close(quarters[0], torch.rot90(x, 1, (2, 3)), atol=1e-5, rtol=0)
    torch.testing.assert_close(quarters[1], torch.rot90(x, -1, (2, 3)), atol=1e-5, rtol=0)
    torch.testing.assert_close(turned(x, 180), x.flip(2, 3), atol=1e-5, rtol=0)


def test_every_block_has_one_gamma_and_is_turned_by_it():
    x, y = torch.rand(47, 1, 14, 14), torch.arange(47)
    found = blocks(x, y, Turning(degrees=90, block=5)).columns
    assert len(found["y"]) == 45 and torch.equal(found["y"], y[:45])
    gammas = found["gamma"].view(9, 5)
    assert (gammas == gammas[:, :1]).all()
    midpoints = (torch.arange(GAMMAS) + 0.5) / GAMMAS
    torch.testing.assert_close(gammas[:8, 0], midpoints)
    torch.testing.assert_close(found["x"][15:20], turned(x[15:20], float(gammas[3, 0]) * 90))


def test_what_gamma_says_when_told_and_when_not():
    told, silent = Turning(inputs=3), Turning(told=False)
    draw = lambda turning, seed: turning.drawn(torch.Generator().manual_seed(seed))  # noqa: E731
    for seed in range(5):
        gamma, degrees = draw(told, seed)
        assert gamma.shape == (3,) and degrees == pytest.approx(180 * float(gamma[0]))
        assert float(gamma.min()) >= 0 and float(gamma.max()) < 1
    pairs = torch.tensor([(float(g), d) for g, d in (draw(silent, s) for s in range(300))])
    assert abs(float(torch.corrcoef(pairs.T)[0, 1])) < 0.15
    assert float(pairs[:, 1].max()) > 150 and float(pairs[:, 1].min()) < 30


def test_splits_are_disjoint_and_smaller_images_of_the_files(files):
    root, (images, labels), (others, truths) = files
    data = mnist(root, train=1000, test=1000)
    small = avg_pool2d(torch.from_numpy(images).float()[:, None] / 255, 2)
    torch.testing.assert_close(data.train.columns["x"], small[:1000])
    assert torch.equal(data.train.columns["y"], torch.from_numpy(labels[:1000]).long())
    assert torch.equal(data.val.columns["y"], torch.from_numpy(labels[-2000:]).long())
    assert torch.equal(data.test.columns["y"], torch.from_numpy(truths[:1000]).long())
    first = turned(small[-2000:-1750], 180 / 16)
    torch.testing.assert_close(data.val.columns["x"][:250], first)
    assert len(data.val) == 2000 and len(data.test) == 1000
    assert others.shape[0] > 1000 and set(data.val.columns) == {"x", "gamma", "y"}


def test_training_images_that_validate_are_refused(files):
    with pytest.raises(ValueError, match="validate"):
        mnist(files[0], train=3000, test=500)


def test_shuffled_labels_are_those_of_training_and_validation_only(files):
    true, false = (
        mnist(files[0], train=1000, test=1000),
        mnist(files[0], train=1000, test=1000, shuffle=True),
    )
    for part in ("train", "val"):
        ours, theirs = (getattr(d, part).columns["y"] for d in (true, false))
        assert not torch.equal(ours, theirs) and torch.equal(ours.sort()[0], theirs.sort()[0])
    assert torch.equal(true.test.columns["y"], false.test.columns["y"])


def test_digits_are_dealt_out_once():
    data = digits()
    assert [len(part) for part in (data.train, data.val, data.test)] == [997, 400, 400]
    upright = digits(degrees=0.0)
    parts = [part.columns["x"] for part in (upright.train, upright.val, upright.test)]
    assert len(torch.unique(torch.cat(parts).flatten(1).round(decimals=4), dim=0)) == 1797
    assert parts[0].shape[1:] == (1, 14, 14) and float(parts[0].max()) <= 1
