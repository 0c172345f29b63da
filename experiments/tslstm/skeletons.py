"""MSR Action3D: 557 skeleton sequences of 20 actions, split by subject.

Files ``aAA_sSS_eEE_skeleton3D.txt`` (action, subject, repetition) hold 20 rows a frame, one a
joint: x, y, z in metres and a confidence. They may lie anywhere below the root, or in its
``*.tar.gz``. ``files_used_in_cvpr12_paper.txt`` lists the sequences that are normally kept.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.tslstm.sequences import (
    Floats,
    Streams,
    Videos,
    find_below,
    two_stream_splits,
    uniform_steps,
)
from harness.loading.splits import Splits

JOINTS = 20
HIP_CENTRE = 6
ACTIONS = 20
TRAIN_SUBJECTS = frozenset({1, 3, 5, 7, 9})
KEPT = "files_used_in_cvpr12_paper.txt"
_NAME = re.compile(r"^(a(\d\d)_s(\d\d)_e\d\d)_skeleton3D\.txt$")


def msr_action3d(
    root: Path, seed: int = 0, streams: Streams = "both", shuffle: bool = False
) -> Splits:
    """Cross-subject splits: subjects 1, 3, 5, 7 and 9 train, the even ones test.

    Spatial stream: the 60 joint coordinates relative to the hip centre. Temporal stream: the 60
    joint velocities in metres a frame, taken from the frames before and after the sampled one.
    25 frames at equal distances; frames whose joints are all zero (tracking lost) are dropped.

    Raises:
        FileNotFoundError: without the list of kept sequences, or when one of them is missing.
        ValueError: for a malformed table.
    """
    kept = set(find_below(root, KEPT).read_text().split())
    rows: dict[bool, list[tuple[Floats, Floats, int]]] = {True: [], False: []}
    for name, text in _tables(root):
        match = _NAME.match(name)
        if match is None or match[1] not in kept:
            continue
        kept.discard(match[1])
        spatial, temporal = skeleton_streams(read_joints(text, name))
        rows[int(match[3]) in TRAIN_SUBJECTS].append((spatial, temporal, int(match[2]) - 1))
    if kept:
        raise FileNotFoundError(f"{len(kept)} listed sequences are missing, e.g. {min(kept)}")
    return two_stream_splits(
        _stack(rows[True]), _stack(rows[False]), ACTIONS, streams, shuffle, seed
    )


def _tables(root: Path) -> Iterator[tuple[str, str]]:
    """Name and text of every skeleton file, in the order of their names."""
    paths = {path.name: path for path in root.rglob("*_skeleton3D.txt")}
    if paths:
        for name in sorted(paths):
            yield name, paths[name].read_text()
        return
    texts: dict[str, str] = {}
    for archive in sorted(root.rglob("*.tar.gz")):
        with tarfile.open(archive) as tar:
            for member in tar:
                content = tar.extractfile(member)
                if content is not None:
                    texts[Path(member.name).name] = content.read().decode()
    yield from sorted(texts.items())


def read_joints(text: str, name: str) -> NDArray[np.float64]:
    """A skeleton table as (frames, 20, 3), without the frames whose joints are all zero."""
    try:
        table = np.loadtxt(io.StringIO(text), ndmin=2)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if table.shape[1] != 4 or len(table) % JOINTS:
        raise ValueError(f"{name}: expected {JOINTS} rows of 4 columns a frame, got {table.shape}")
    joints = table.reshape(-1, JOINTS, 4)[:, :, :3]
    joints = joints[np.any(joints != 0, axis=(1, 2))]
    if len(joints) < 2:
        raise ValueError(f"{name}: fewer than two frames with a skeleton")
    return joints


def skeleton_streams(joints: NDArray[np.float64]) -> tuple[Floats, Floats]:
    """(frames, 20, 3) -> positions and velocities, (25, 60) each."""
    sampled = uniform_steps(len(joints))
    relative = joints - joints[:, HIP_CENTRE : HIP_CENTRE + 1]
    velocity = np.gradient(joints, axis=0)
    return (
        relative[sampled].reshape(len(sampled), -1).astype(np.float32),
        velocity[sampled].reshape(len(sampled), -1).astype(np.float32),
    )


def _stack(rows: list[tuple[Floats, Floats, int]]) -> Videos:
    if not rows:
        raise ValueError("no sequences for one of the two groups of subjects")
    spatial, temporal, labels = zip(*rows, strict=True)
    return Videos(np.stack(spatial), np.stack(temporal), np.array(labels, dtype=np.int64))
