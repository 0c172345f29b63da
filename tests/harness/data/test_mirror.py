"""The real data, where ``HARNESS_DATA`` has it: as declared, and with known figures."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.data import catalogue, locate, resolve
from harness.loading.pickles import load_arrays, load_object_array
from harness.loading.readers import read_labelled_images

pytestmark = pytest.mark.skipif(
    not os.environ.get("HARNESS_DATA"), reason="HARNESS_DATA names no mirror of the real data"
)


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def root(name: str) -> Path:
    if locate(name) is None:
        pytest.skip(f"the mirror has no {name}")
    return resolve(name, fetch_missing=False)


SETS = catalogue()
MANY_FILES = {name for name, entry in SETS.items() if any(f.count > 10_000 for f in entry.folders)}


@pytest.mark.parametrize("name", sorted(SETS.keys() - MANY_FILES))
def test_the_mirror_holds_what_is_declared(name: str) -> None:
    folder = root(name)  # in a fresh cache: every byte is hashed here, and differences raise
    assert all((folder / part.path).exists() for part in SETS[name].parts)


@pytest.mark.parametrize("name", sorted(MANY_FILES))
def test_archives_of_very_many_files_hold_what_is_declared(name: str) -> None:
    """Hashed in the archive: writing 60,000 files takes longer than all other tests together."""
    if locate(name) is None:
        pytest.skip(f"the mirror has no {name}")
    folders = {folder.path: folder for folder in SETS[name].folders}
    for packed in SETS[name].packed:
        with tarfile.open(Path(os.environ["HARNESS_DATA"]) / name / packed.archive) as archive:
            sums = {m.name: _sha256(archive, m) for m in archive if m.isfile()}
        folder = folders[packed.match]
        below = sorted((path.removeprefix(f"{folder.path}/"), h) for path, h in sums.items())
        listing = "".join(f"{sha256}  {path}\n" for path, sha256 in below)
        assert len(below) == folder.count
        assert hashlib.sha256(listing.encode()).hexdigest() == folder.checksum


def _sha256(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    stream = archive.extractfile(member)
    assert stream is not None
    return hashlib.sha256(stream.read()).hexdigest()


OFFICIAL_MD5 = {
    "mnist/train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "mnist/train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "mnist/t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "mnist/t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    "fashion-mnist/train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "fashion-mnist/train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "fashion-mnist/t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "fashion-mnist/t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    "landsat-statlog/sat.trn": "2c5ba2900da0183cab2c41fdb279fa5b",
    "landsat-statlog/sat.tst": "02c995991fecc864e809b2c4c42cd983",
    "semeion/semeion.data": "cb545d371d2ce14ec121470795a77432",
}


@pytest.mark.parametrize("file", OFFICIAL_MD5)
def test_rebuilt_files_are_the_official_releases(file: str) -> None:
    """The sums that other loaders demand of the official files."""
    name, _, path = file.partition("/")
    content = (root(name) / path).read_bytes()
    assert hashlib.md5(content, usedforsecurity=False).hexdigest() == OFFICIAL_MD5[file]


def test_mnist_is_read_with_its_published_class_counts() -> None:
    images, labels = read_labelled_images(root("mnist"), "t10k")
    assert images.shape == (10_000, 28, 28)
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(labels).tolist() == counts
    images, _ = read_labelled_images(root("mnist"), "train")
    assert images.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert images.std() / 255 == pytest.approx(0.3081, abs=5e-5)


def test_planetoid_pickles_need_no_more_than_is_allowed() -> None:
    folder = root("planetoid")
    for name, features, rows in (("cora", 1433, 1708), ("citeseer", 3703, 2312)):
        parts = {k: load_arrays(folder / f"ind.{name}.{k}") for k in ("x", "y", "tx", "ty", "allx")}
        assert parts["allx"].shape == (rows, features)
        assert parts["y"].sum(axis=0).tolist() == [20] * parts["y"].shape[1]
        assert isinstance(load_arrays(folder / f"ind.{name}.graph")[0], list)


def test_trigger_pickles_need_no_more_than_is_allowed() -> None:
    triggers = sorted((root("clip-backdoor-triggers") / "triggers").iterdir())
    assert len(triggers) == 16
    for path in triggers:
        noise = load_object_array(path)["n"]
        assert noise.shape == (1, 3, 32, 32)
        assert np.abs(noise).max() * 255 == pytest.approx(8.0, abs=1e-3)
