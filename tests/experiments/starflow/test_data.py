import gzip
import math
import struct
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from experiments.starflow.data import (
    BOUND,
    COLOURS,
    STAY,
    chain_log_density,
    chains,
    digits,
    mnist,
    noisy,
    patches,
    two_numbers,
    unpatched,
)


def whole(split):
    return split[torch.arange(len(split))]


@pytest.fixture
def root(tmp_path):
    """Files in MNIST's format: image i is filled with i, its label is i modulo 10."""
    for part, count in (("train", 40), ("t10k", 12)):
        images = np.repeat(np.arange(count, dtype=np.uint8), 64).reshape(count, 8, 8)
        header = struct.pack(">HBBIII", 0, 8, 3, count, 8, 8)
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        labels = (np.arange(count) % 10).astype(np.uint8)
        header = struct.pack(">HBBI", 0, 8, 1, count)
        path = tmp_path / f"{part}-labels-idx1-ubyte.gz"
        path.write_bytes(gzip.compress(header + labels.tobytes()))
    return tmp_path


def test_patches_go_row_by_row_and_back():
    images = torch.arange(2 * 2 * 4 * 6).view(2, 2, 4, 6).float()
    found = patches(images, 2)
    assert found.shape == (2, 6, 8)
    assert torch.equal(found[0, 1], images[0, :, :2, 2:4].flatten())
    assert torch.equal(found[1, 5], images[1, :, 2:, 4:].flatten())
    assert torch.equal(unpatched(found, 2, 4, 6), images)


def test_mnist_is_read_split_and_scaled(root):
    data = mnist(root, train=30, val=6, test=5)
    train = whole(data.train)
    assert data.dims == {"rows": 2, "columns": 2, "features": 16, "classes": 10}
    assert train["x"].shape == (30, 4, 16) and data.noise == 0.1
    assert torch.allclose(train["x"][29], torch.tensor(29 / 127.5 - 1))
    assert train["label"].tolist() == [i % 10 for i in range(30)]
    assert whole(data.val)["label"].tolist() == [4, 5, 6, 7, 8, 9]
    assert whole(data.test)["label"].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="fewer than 38"):
        mnist(root, train=38, val=3, test=5)


def test_validation_and_test_images_have_noise_and_training_images_none(root):
    data = mnist(root, train=30, val=6, test=5)
    for split, first in ((data.train, 0), (data.val, 34), (data.test, 0)):
        clean = torch.arange(first, first + len(split)) / 127.5 - 1
        gap = whole(split)["x"] - clean[:, None, None]
        spread = 0.0 if split is data.train else 0.1
        assert gap.std() == pytest.approx(spread, abs=0.02)
    assert torch.equal(whole(mnist(root, train=20, val=6, test=5).test)["x"], whole(data.test)["x"])


def test_dequantisation_fills_the_levels():
    levels = torch.arange(256) / 127.5 - 1
    found = noisy(levels.expand(400, 256), "uniform", torch.Generator().manual_seed(0))
    below = 2 * torch.arange(256) / 256 - 1
    assert (found >= below - 1e-6).all() and (found <= below + 2 / 256 + 1e-6).all()
    assert ((found - below).mean(0) - 1 / 256).abs().max() < 6e-4


def test_shuffled_labels_are_the_same_ones_of_other_images(root):
    one, other = (whole(mnist(root, 30, 6, 5, shuffled=s).train) for s in (False, True))
    assert torch.equal(one["x"], other["x"])
    assert torch.equal(one["label"].sort().values, other["label"].sort().values)
    assert (one["label"] == other["label"]).double().mean() < 0.4


def test_splits_share_no_example(root):
    for data in (digits(), chains(64, 32, 32), two_numbers(train=64, val=32, test=32)):
        rows = [set(map(tuple, whole(s)["x"].flatten(1).tolist())) for s in (data.train, data.val)]
        assert not rows[0] & rows[1]
    places = torch.arange(1797) % 20
    counts = [int(chosen.sum()) for chosen in (places % 5 == 0, places == 1)]
    assert [len(digits().test), len(digits().val)] == counts
    assert len(digits().train) == 1797 - sum(counts)


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    found, data = load_digits(), digits()
    kept = [i for i in range(1797) if i % 5 and i % 20 != 1]
    clean = unpatched(whole(data.train)["x"], 2, 8, 8)[:, 0]
    assert torch.equal(clean, torch.from_numpy(found.images[kept]).float() / 8 - 1)
    assert whole(data.train)["label"].tolist() == found.target[kept].tolist()
    gap = unpatched(whole(data.test)["x"], 2, 8, 8)[:, 0] - (
        torch.from_numpy(found.images[::5]).float() / 8 - 1
    )
    assert gap.std() == pytest.approx(0.1, abs=0.002)


def test_the_density_of_chains_is_a_sum_over_all_signs():
    x, label = torch.randn(3, 4, 4).double(), torch.tensor([0, 2, 3])
    found = chain_log_density(x, label, 0.1)
    for i in range(3):
        total = 0.0
        for signs in product((1.0, -1.0), repeat=4):
            chance = 0.5
            for a, b in pairwise(signs):
                chance *= STAY[label[i]] if a == b else 1 - STAY[label[i]]
            mean = torch.tensor(signs)[:, None] * COLOURS[label[i]]
            log = Normal(mean.double(), math.sqrt(0.3**2 + 0.1**2)).log_prob(x[i]).sum()
            total += chance * math.exp(log)
        assert float(found[i]) == pytest.approx(math.log(total), abs=1e-9)


def test_chains_are_drawn_from_their_density():
    """The signs stay as often as they should, and no other Gaussian explains patches better."""
    data = chains(4096, 64, 2048)
    x, label = whole(data.test)["x"], whole(data.test)["label"]
    own = -chain_log_density(x.double(), label, 0.1).mean() / 64
    assert data.entropy == pytest.approx(float(own), abs=1e-6)
    worse = -chain_log_density(x.double(), (label + 1) % 4, 0.1).mean() / 64
    assert worse > own + 1
    assert all(
        -chain_log_density(x.double(), label, other).mean() / 64 > own for other in (0.0, 0.2)
    )
    signs = torch.einsum("nij,nj->ni", x, COLOURS[label]).sign()
    same = (signs[:, 1:] == signs[:, :-1]).double().mean(1)
    for c, stay in enumerate(STAY):
        assert same[label == c].mean() == pytest.approx(stay, abs=0.02)


@pytest.mark.parametrize("last", ["two-peaked", "normal"])
def test_the_bound_is_that_of_a_gaussian_with_the_same_variances(last):
    data = two_numbers(last, test=200_000)
    x = whole(data.test)["x"][..., 0].double()
    peaked = 1 if last == "two-peaked" else 0
    assert (x[:, peaked].abs() - 2).abs().max() < 0.6
    assert abs(x[:, 1 - peaked].mean()) < 0.02
    gaussian = MultivariateNormal(x.mean(0), torch.cov(x.T))
    assert float(-gaussian.log_prob(x).mean()) == pytest.approx(data.bound, abs=0.01)
    assert pytest.approx(3.532, abs=1e-3) == BOUND == data.bound
