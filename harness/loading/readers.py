"""Readers of file formats that several papers share."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_IDX_TYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(np.uint8),
    0x09: np.dtype(np.int8),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}


class BadFormat(ValueError):
    """A file is not of the format it should have; the message names the file and the fault."""


def read_idx(path: Path) -> npt.NDArray[Any]:
    """An array in the idx format of MNIST, plain or gzipped.

    The header is two zero bytes, a type, the number of dimensions, and each dimension as a
    big-endian 32-bit integer; the values follow row by row, big-endian.

    Raises:
        BadFormat: for another magic number, or more or fewer values than the header says.
    """
    data = _content(path)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _IDX_TYPES or data[3] == 0:
        raise BadFormat(f"{path.name} does not begin like an idx file")
    dtype, rank = _IDX_TYPES[data[2]], data[3]
    start = 4 + 4 * rank
    if len(data) < start:
        raise BadFormat(f"{path.name} ends within its header")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", rank, offset=4))
    expected = start + math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise BadFormat(f"{path.name} has {len(data)} bytes; shape {shape} needs {expected}")
    values = np.frombuffer(data, dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="))


def read_labelled_images(
    root: Path, split: str
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Images and labels of MNIST, Fashion-MNIST and others of their form.

    Args:
        root: folder with ``<split>-images-idx3-ubyte`` and ``<split>-labels-idx1-ubyte``, each
            plain or with ``.gz``.
        split: ``train`` or ``t10k``.

    Returns:
        Images uint8 ``(n, rows, columns)``, labels uint8 ``(n,)``.

    Raises:
        FileNotFoundError: when a file is not there in either form.
        BadFormat: when types, ranks or counts do not fit.
    """
    images = read_idx(_plain_or_gzipped(root / f"{split}-images-idx3-ubyte"))
    labels = read_idx(_plain_or_gzipped(root / f"{split}-labels-idx1-ubyte"))
    if images.dtype != np.uint8 or images.ndim != 3:
        raise BadFormat(f"{split} images are {images.dtype} of shape {images.shape}")
    if labels.dtype != np.uint8 or labels.shape != images.shape[:1]:
        raise BadFormat(f"{split}: {len(images)} images, labels of shape {labels.shape}")
    return images.astype(np.uint8, copy=False), labels.astype(np.uint8, copy=False)


def _plain_or_gzipped(path: Path) -> Path:
    compressed = path.with_name(f"{path.name}.gz")
    return compressed if compressed.exists() and not path.exists() else path


def _content(path: Path) -> bytes:
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        return gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, EOFError) as error:
        raise BadFormat(f"{path.name} is not a whole gzip file: {error}") from error
