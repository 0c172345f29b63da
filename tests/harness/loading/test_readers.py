"""idx files, restricted pickles and Arrow tables."""

from __future__ import annotations

import collections
import gzip
import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from harness.loading.huggingface import table
from harness.loading.pickles import ForbiddenPickle, load_arrays, load_object_array
from harness.loading.readers import BadFormat, read_idx, read_labelled_images

CODES = {np.uint8: 8, np.int8: 9, np.int16: 11, np.int32: 12, np.float32: 13, np.float64: 14}


def idx(array: np.ndarray[Any, Any]) -> bytes:
    """The format as its authors describe it, written with struct."""
    code = CODES[array.dtype.type]
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


ARRAYS = st.sampled_from(list(CODES)).flatmap(
    lambda kind: hnp.arrays(kind, hnp.array_shapes(max_dims=3, max_side=4, min_side=0))
)


@settings(max_examples=60)
@given(array=ARRAYS, compressed=st.booleans())
def test_idx_files_of_all_types_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray[Any, Any], compressed: bool
) -> None:
    path = tmp_path_factory.mktemp("idx") / ("a.gz" if compressed else "a")
    path.write_bytes(gzip.compress(idx(array)) if compressed else idx(array))
    read = read_idx(path)
    assert read.dtype == array.dtype and read.dtype.isnative
    np.testing.assert_array_equal(read, array)


def test_an_idx_header_written_by_hand(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 255]))
    assert read_idx(tmp_path / "a").tolist() == [[1, 2, 3], [4, 5, 255]]


GOOD = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\x08",
        b"\1" + GOOD[1:],
        GOOD[:2] + b"\x0a" + GOOD[3:],
        GOOD[:3] + b"\0" + GOOD[4:],
        GOOD[:10],
        GOOD[:-1],
        GOOD + b"\0",
        b"\0\0\x08\x01\xff\xff\xff\xff",
    ],
)
def test_what_is_no_idx_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(BadFormat, match="bad"):
        read_idx(tmp_path / "bad")


def test_a_truncated_gzip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.gz").write_bytes(gzip.compress(GOOD)[:-9])
    with pytest.raises(BadFormat, match=r"bad\.gz"):
        read_idx(tmp_path / "bad.gz")


def test_images_need_their_labels(tmp_path: Path) -> None:
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    labels = tmp_path / "train-labels-idx1-ubyte"
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
    with pytest.raises(FileNotFoundError):
        read_labelled_images(tmp_path, "train")
    labels.write_bytes(idx(np.array([7, 9], dtype=np.uint8)))
    read, classes = read_labelled_images(tmp_path, "train")
    np.testing.assert_array_equal(read, images)
    assert classes.tolist() == [7, 9]
    labels.write_bytes(idx(np.array([7, 9, 1], dtype=np.uint8)))
    with pytest.raises(BadFormat, match="2 images"):
        read_labelled_images(tmp_path, "train")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("exit 3",))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("thing", [Evil(), collections.Counter(), Path(), np.load, eval])
def test_pickles_that_name_anything_else_are_refused(thing: Any, protocol: int) -> None:
    for content in (thing, [np.zeros(2), {"x": thing}]):
        stream = io.BytesIO(pickle.dumps(content, protocol))
        with pytest.raises(ForbiddenPickle, match="not allowed"):
            load_arrays(stream)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_containers_are_read_back(protocol: int) -> None:
    graph = collections.defaultdict(list, {0: [1, 2]})
    matrix = sparse.random(6, 5, 0.4, format="csr", rng=np.random.default_rng(0), dtype=np.float32)
    things = {
        "a": np.arange(6).reshape(2, 3),
        "s": np.float64(2.5),
        "g": graph,
        "t": (1, "x", b"y"),
    }
    read = load_arrays(io.BytesIO(pickle.dumps({**things, "m": matrix}, protocol)))
    np.testing.assert_array_equal(read["a"], things["a"])
    np.testing.assert_array_equal(read["m"].toarray(), matrix.toarray())
    assert (read["s"], read["g"], read["t"]) == (2.5, {0: [1, 2]}, (1, "x", b"y"))
    assert read["g"][99] == []


def test_names_of_python_2_and_old_scipy_are_understood() -> None:
    """A protocol-0 pickle as Python 2 wrote it, with names that no longer exist."""
    text = b"ccollections\ndefaultdict\np0\n(c__builtin__\nlist\np1\ntp2\nRp3\nI5\n(lp4\nI6\nas."
    assert load_arrays(io.BytesIO(text)) == {5: [6]}
    csr = b"ccopy_reg\n_reconstructor\n(cscipy.sparse.csr\ncsr_matrix\nc__builtin__\nobject\nNtR."
    assert isinstance(load_arrays(io.BytesIO(csr)), sparse.csr_matrix)


def test_a_truncated_pickle_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(pickle.dumps(np.zeros(100))[:-20])
    with pytest.raises((pickle.UnpicklingError, EOFError)):
        load_arrays(tmp_path / "p")


def test_pickled_npy_files(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.array({"n": np.ones(3)}, dtype=object), allow_pickle=True)
    assert load_object_array(tmp_path / "d.npy")["n"].tolist() == [1, 1, 1]
    np.save(tmp_path / "l.npy", np.array(["a", None], dtype=object), allow_pickle=True)
    assert load_object_array(tmp_path / "l.npy").tolist() == ["a", None]
    np.save(tmp_path / "e.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    with pytest.raises(ForbiddenPickle, match="system"):
        load_object_array(tmp_path / "e.npy")
    np.save(tmp_path / "plain.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"numpy\.load"):
        load_object_array(tmp_path / "plain.npy")


def test_tables_are_memory_mapped_and_converted_once(
    tmp_path: Path, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "a.tsv", tmp_path / "b.tsv"
    first.write_text("x\ty\n1\tone\n2\ttwo\n")
    second.write_text("x\ty\n3\tthree\n")
    rows = table([first, second])
    assert rows.to_list() == [{"x": 1, "y": "one"}, {"x": 2, "y": "two"}, {"x": 3, "y": "three"}]
    assert rows.cache_files and str(cache) in rows.cache_files[0]["filename"]
    assert table([first, second])._fingerprint == rows._fingerprint
    assert table([second, first])._fingerprint != rows._fingerprint
    assert capfd.readouterr() == ("", "")
    arrow = table([Path(rows.cache_files[0]["filename"])])
    assert arrow["y"][:2] == ["one", "two"]
    rows.to_parquet(str(tmp_path / "a.parquet"))
    assert table([tmp_path / "a.parquet"])["x"][:] == [1, 2, 3]


def test_tables_of_unknown_kinds_are_refused(tmp_path: Path) -> None:
    for files in ([], [tmp_path / "a.csv", tmp_path / "b.json"], [tmp_path / "a.xls"]):
        with pytest.raises(ValueError, match=r"one kind|no reader"):
            table(files)
