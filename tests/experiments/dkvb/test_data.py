import gzip

import numpy as np
import pytest
import torch

from experiments.dkvb import data as streams
from harness.loading.readers import BadFormat

SPLITS = ("train", "val", "test")


def rows(x):
    return {tuple(row) for row in x.flatten(1).tolist()}


@pytest.mark.parametrize(
    "made",
    [
        lambda seed: streams.digits(seed),
        lambda seed: streams.mixture(seed, 200, 50, 60),
        lambda seed: streams.toy(seed, 20, 30, 50),
    ],
)
def test_splits_share_no_example_and_seeds_differ(made):
    stream = made(0)
    images = stream.images()
    found = [rows(images[f"{name}_x"]) for name in SPLITS]
    found.append(rows(images["keys_other"]))
    for i, one in enumerate(found):
        assert all(len(one & other) <= 1 for other in found[:i])  # digits has one image twice
    assert images["train_x"].shape[1:].numel() == stream.dims["features"]
    again, other = made(0).images(), made(1).images()
    assert all(torch.equal(images[name], again[name]) for name in images)
    assert not torch.equal(images["train_x"], other["train_x"])


def test_keys_see_what_they_are_named_after():
    images = streams.mixture(0, 300, 10, 10, features=4, modes=1, spread=9.0).images()
    assert images["keys_own"] is images["train_x"]
    away = {
        n: torch.cdist(images[f"keys_{n}"], images["train_x"]).min(1).values
        for n in ("other", "far")
    }
    assert away["other"].median() < 3 < away["far"].median()


def test_a_class_of_the_mixture_is_several_gaussians():
    images = streams.mixture(0, 3000, 10, 10, features=8, classes=2, modes=3, spread=20.0).images()
    for label in range(2):
        x = images["train_x"][images["train_y"] == label]
        near = torch.cdist(x, x) < 20
        assert len(near.unique(dim=0)) == 3


def test_shuffled_labels_are_those_of_training_alone():
    plain, shuffled = (streams.digits(0, shuffle_labels=s).images() for s in (False, True))
    changed = [name for name in plain if not torch.equal(plain[name], shuffled[name])]
    assert changed == ["train_y"]
    assert torch.equal(plain["train_y"].bincount(), shuffled["train_y"].bincount())


def test_the_toy_is_that_of_figure_2():
    stream = streams.toy(0, train=4000, unlabelled=5000)
    images = stream.images()
    x, y = images["train_x"], images["train_y"]
    assert stream.splits == ((0, 4), (1, 5), (2, 6), (3, 7))
    expected = [(0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)]
    expected += [(0.75, 0.5), (0.5, 0.75), (0.25, 0.5), (0.5, 0.25)]
    for label, mean in enumerate(expected):
        own = x[y == label]
        torch.testing.assert_close(own.mean(0), torch.tensor(mean), atol=0.005, rtol=0)
        torch.testing.assert_close(own.std(0), torch.full((2,), 0.035), atol=0.003, rtol=0)
    assert images["keys_other"].min() >= 0 and images["keys_other"].max() <= 1


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


@pytest.fixture
def folders(tmp_path):
    """Small MNIST, Fashion-MNIST and USPS in their formats."""
    import h5py

    rng = np.random.default_rng(0)
    for name in ("mnist", "fashion"):
        (tmp_path / name).mkdir()
        for split, count in (("train", 60), ("t10k", 20)):
            write_idx(
                tmp_path / name / f"{split}-images-idx3-ubyte.gz",
                rng.integers(0, 256, (count, 28, 28)),
            )
            write_idx(tmp_path / name / f"{split}-labels-idx1-ubyte.gz", np.arange(count) % 10)
    with h5py.File(tmp_path / "usps.h5", "w") as file:
        for split, count in (("train", 40), ("test", 20)):
            file[f"{split}/data"] = rng.random((count, 256)).astype(np.float32)
            file[f"{split}/target"] = (np.arange(count) % 10).astype(np.int32)
    return tmp_path


def test_usps_has_keys_of_mnist_and_an_encoder_of_fashion_mnist(folders):
    made = lambda **k: streams.usps(  # noqa: E731
        folders, folders / "mnist", folders / "fashion", 0, 20, 10, 20, 15, 30, **k
    )
    images = made().images()
    assert images["keys_other"].shape == (15, 1, 16, 16) == images["keys_far"].shape
    assert images["elsewhere_x"].shape == (30, 1, 16, 16) and len(images["elsewhere_y"]) == 30
    assert [len(images[f"{n}_y"]) for n in SPLITS] == [20, 10, 20]
    own = rows(images["train_x"])
    assert not own & rows(images["val_x"]) and rows(images["keys_far"]) <= rows(
        images["elsewhere_x"]
    )
    assert not rows(images["keys_other"]) & rows(images["elsewhere_x"])
    torch.testing.assert_close(images["train_x"].mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    pixels = {tuple(row) for row in np.round(read(folders), 4).tolist()}
    assert len(pixels) == 40
    with pytest.raises(ValueError, match="more than the 40"):
        streams.read_usps(folders, 0, 30, 11, 20)


def read(folder):
    import h5py

    with h5py.File(folder / "usps.h5") as file:
        return file["train/data"][:]


def test_a_damaged_usps_is_refused(folders):
    import h5py

    with h5py.File(folders / "usps.h5", "a") as file:
        del file["train/target"]
    with pytest.raises(BadFormat, match="has no train"):
        streams.read_usps(folders, 0, 5, 5, 5)


def test_mnist_keeps_unlabelled_images_apart(folders):
    images = streams.mnist(folders / "mnist", folders / "fashion", 0, 30, 10, 20, 15).images()
    assert [len(images[f"{n}_y"]) for n in SPLITS] == [30, 10, 20]
    assert len(images["keys_other"]) == 15 == len(images["keys_far"])
    for name in ("train_x", "val_x", "keys_far"):
        assert not rows(images["keys_other"]) & rows(images[name])


def test_cifar10_is_read_from_jpeg_files(tmp_path):
    from PIL import Image

    from harness.loading.images import CIFAR10

    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("test", 2)):
        for kind in CIFAR10:
            (tmp_path / split / kind).mkdir(parents=True)
            for index in range(count):
                image = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
                image.save(tmp_path / split / kind / f"{index}.jpg")
    images = streams.cifar10(tmp_path, 0, 20, 8, 10, 12).images()
    assert images["train_x"].shape == (20, 3, 32, 32) and len(images["keys_other"]) == 12
    assert not rows(images["keys_other"]) & rows(images["train_x"])


@pytest.mark.parametrize("shape", [(256,), (256, 1, 1)])
def test_embeddings_are_read_as_the_official_code_keeps_them(tmp_path, shape):
    kept = {}
    for dataset, split, count in (
        ("CIFAR10", "train", 30),
        ("CIFAR10", "test", 10),
        ("Imagenet32", "train", 12),
    ):
        stem = f"convmixer_4_{dataset}_{split}"
        kept[dataset, split] = torch.randn(count, *shape)
        torch.save(kept[dataset, split], tmp_path / f"{stem}_embeddings.pt")
        torch.save(torch.arange(count) % 10, tmp_path / f"{stem}_labels.pt")
    stream = streams.embeddings(tmp_path, 0, "convmixer", keys="Imagenet32", val=10)
    images = stream.images()
    assert stream.dims == {"features": 256, "classes": 10}
    assert torch.equal(images["test_x"], kept["CIFAR10", "test"].flatten(1))
    assert torch.equal(images["keys_other"], kept["Imagenet32", "train"].flatten(1))
    assert len(images["train_y"]) == 20 and len(images["val_y"]) == 10
    assert rows(images["train_x"]) | rows(images["val_x"]) == rows(kept["CIFAR10", "train"])
    torch.save(torch.arange(9), tmp_path / "convmixer_4_CIFAR10_test_labels.pt")
    with pytest.raises(BadFormat, match="not 256 wide"):
        stream.images()
