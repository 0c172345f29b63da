"""Features of the two fine-tuned stream networks: the paper's own input, read from disk.

For every split there are four files, named as the authors name theirs::

    data_feat_{train,test}_{RGB,FlowMap-TVL1-crop20}_centerCrop_25f_sp{1,2,3}.{h5,npz}

each with ``names`` (N), ``feats`` (N, 2048, 25) in half or single precision, and ``labels`` (N
or N x 1, from 1). In single precision a split of UCF101 takes 5.5 GB, so batches are read from
the memory-mapped files.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.tslstm.sequences import Streams, find_below, time_orders
from harness.loading.splits import Batch, Splits

MODALITIES = {"spatial": "RGB", "temporal": "FlowMap-TVL1-crop20"}


def file_name(part: str, stream: str, split: int) -> str:
    """Name, without extension, of the file of a part (train, test), a stream and a split."""
    return f"data_feat_{part}_{MODALITIES[stream]}_centerCrop_25f_sp{split}"


def two_stream_features(
    root: Path,
    split: int = 1,
    seed: int = 0,
    streams: Streams = "both",
    shuffle: bool = False,
) -> Splits:
    """The features of one split as ``x`` (25, 2048 a stream), not standardised, and ``y``.

    Raises:
        FileNotFoundError: when one of the files is missing.
        ValueError: when a file is malformed, the streams disagree on the videos, or a video is
            in both training and test.
    """
    chosen = ["spatial", "temporal"] if streams == "both" else [streams]
    parts = {}
    names: dict[str, set[str]] = {}
    for part in ("train", "test"):
        files = [read_features(root, file_name(part, stream, split)) for stream in chosen]
        _check_same_videos(files)
        orders = None
        if shuffle:
            orders = time_orders(len(files[0].names), files[0].feats.shape[2], seed, part)
        parts[part] = FeatureRows(files, orders)
        names[part] = set(files[0].names)
    if both := names["train"] & names["test"]:
        raise ValueError(f"split {split}: {min(both)} is in both training and test")
    widths = parts["train"].widths
    dims = {
        "features": sum(widths),
        "spatial": widths[0] if "spatial" in chosen else 0,
        "classes": int(max(parts[part].labels.max() for part in parts)) + 1,
        "steps": parts["train"].steps,
    }
    return Splits(train=parts["train"], test=parts["test"], dims=dims)


@dataclass(frozen=True)
class FeatureFile:
    """One opened file; ``feats`` stays on disk until it is indexed."""

    path: Path
    names: list[str]
    feats: Any
    labels: NDArray[np.int64]


class FeatureRows:
    """A split whose batches are read from feature files, one a stream.

    Args:
        files: of the same videos in the same order.
        orders: (N, T) the order of each video's steps; ``None`` keeps it.
    """

    def __init__(self, files: list[FeatureFile], orders: NDArray[np.int64] | None = None) -> None:
        self.files = files
        self.labels = torch.from_numpy(files[0].labels)
        self.orders = None if orders is None else torch.from_numpy(orders)
        self.widths = [file.feats.shape[1] for file in files]
        self.steps = int(files[0].feats.shape[2])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: Tensor) -> Batch:
        # HDF5 reads rows only in increasing order and each one once.
        rows, back = torch.unique(indices, return_inverse=True)
        parts = [torch.from_numpy(np.asarray(file.feats[rows.numpy()])) for file in self.files]
        x = torch.cat([part.float() for part in parts], dim=1).transpose(1, 2)[back]
        if self.orders is not None:
            x = x.gather(1, self.orders[indices][:, :, None].expand_as(x))
        return {"x": x.contiguous(), "y": self.labels[indices]}


def read_features(root: Path, name: str) -> FeatureFile:
    """Open ``name`` with the extension ``.h5`` or ``.npz``, whichever is there."""
    try:
        path = find_below(root, f"{name}.h5")
    except FileNotFoundError:
        path = find_below(root, f"{name}.npz")
    names, feats, labels = _open_h5(path) if path.suffix == ".h5" else _open_npz(path)
    labels = np.asarray(labels, dtype=np.int64).reshape(-1)
    if len(feats.shape) != 3 or not len(names) == len(labels) == feats.shape[0] > 0:
        raise ValueError(
            f"{path.name}: {len(names)} names, {len(labels)} labels and feats {feats.shape} "
            "do not belong together; feats are (videos, features, steps)"
        )
    if labels.min() < 1:
        raise ValueError(f"{path.name}: labels count from 1, found {labels.min()}")
    return FeatureFile(path, names, feats, labels - 1)


def _open_h5(path: Path) -> tuple[list[str], Any, Any]:
    import h5py

    file = h5py.File(path, "r")  # stays open as long as its datasets are in use
    return [str(name) for name in file["names"].asstr()[:]], file["feats"], file["labels"][:]


def _open_npz(path: Path) -> tuple[list[str], Any, Any]:
    with np.load(path) as archive:
        names, labels = [str(name) for name in archive["names"]], archive["labels"]
    return names, _mapped_member(path, "feats.npy"), labels


def _mapped_member(path: Path, member: str) -> NDArray[Any]:
    """Map an uncompressed member of a zip file, which ``numpy.load`` would read whole."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(member)
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{path.name} is compressed: save it with numpy.savez, or as .h5")
    with path.open("rb") as file:
        # The local header repeats name and extra field, in lengths of its own.
        file.seek(info.header_offset + 26)
        lengths = np.frombuffer(file.read(4), dtype="<u2")
        file.seek(int(lengths.sum()), 1)
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read_header(file)
        return np.memmap(
            path, dtype, mode="r", offset=file.tell(), shape=shape, order="F" if fortran else "C"
        )


def _check_same_videos(files: list[FeatureFile]) -> None:
    first = files[0]
    for other in files[1:]:
        if first.names != other.names or not np.array_equal(first.labels, other.labels):
            raise ValueError(f"{first.path.name} and {other.path.name} list different videos")
        if first.feats.shape[2] != other.feats.shape[2]:
            raise ValueError(f"{first.path.name} and {other.path.name} differ in steps")
