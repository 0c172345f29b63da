"""Person tubes of UCF101's 24 annotated classes: where the actor is, without any pixels.

``finalAnnots.mat`` holds the corrected annotations of 3,194 videos, ``testlist01.txt`` the test
videos of the official split 1; all other videos train.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

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

FRAME = np.array([320.0, 240.0])
"""Width and height of every video, in pixels."""
OFFSETS = (-8, -5, -3, -2, -1, 1, 2, 3, 5, 8)
"""Frames from the sampled one to those that its displacements point to."""


def ucf101_24_tubes(
    root: Path, seed: int = 0, streams: Streams = "both", shuffle: bool = False
) -> Splits:
    """Split 1 of the longest tube of every video, at 25 frames of equal distances.

    Spatial stream (5): centre, width and height of the box as shares of the frame, and log
    aspect. Temporal stream (20, as many as the channels of the paper's flow stacks):
    displacements of the centre to ten neighbouring frames, which at the ends of a tube are its
    first or last.

    Raises:
        FileNotFoundError: when the annotation or the list is not below ``root``.
        ValueError: when the list names a video without annotation.
    """
    names, boxes = _annotations(find_below(root, "finalAnnots.mat"))
    listed = set(find_below(root, "testlist01.txt").read_text().split())
    if missing := listed - set(names):
        raise ValueError(f"{len(missing)} test videos have no annotation, e.g. {min(missing)}")
    classes = sorted({name.split("/")[0] for name in names})
    pairs = [box_streams(box) for box in boxes]
    videos = Videos(
        np.stack([spatial for spatial, _ in pairs]),
        np.stack([temporal for _, temporal in pairs]),
        np.array([classes.index(name.split("/")[0]) for name in names], dtype=np.int64),
    )
    tested = np.array([name in listed for name in names])
    return two_stream_splits(
        _rows(videos, ~tested), _rows(videos, tested), len(classes), streams, shuffle, seed
    )


def box_streams(boxes: NDArray[np.float64]) -> tuple[Floats, Floats]:
    """Boxes (frames, 4) as x, y, width, height in pixels -> (25, 5) and (25, 20)."""
    sizes = np.maximum(boxes[:, 2:], 1.0)
    centres = (boxes[:, :2] + sizes / 2) / FRAME
    aspect = np.log(sizes[:, :1] / sizes[:, 1:])
    spatial = np.concatenate([centres, sizes / FRAME, aspect], axis=1)
    sampled = uniform_steps(len(boxes))
    around = np.clip(sampled[:, None] + np.array(OFFSETS), 0, len(boxes) - 1)
    moves = centres[around] - centres[sampled][:, None]
    return (
        spatial[sampled].astype(np.float32),
        moves.reshape(len(sampled), -1).astype(np.float32),
    )


def _annotations(path: Path) -> tuple[list[str], list[NDArray[np.float64]]]:
    """Names of the videos and the boxes of each one's longest tube."""
    from scipy.io import loadmat

    entries = loadmat(path, squeeze_me=True, struct_as_record=False)["annot"]
    names, boxes = [], []
    for entry in np.atleast_1d(entries):
        tubes: list[Any] = list(np.atleast_1d(entry.tubes))
        candidates = [np.asarray(tube.boxes, dtype=np.float64).reshape(-1, 4) for tube in tubes]
        names.append(str(entry.name))
        boxes.append(max(candidates, key=len))
    return names, boxes


def _rows(videos: Videos, chosen: NDArray[np.bool_]) -> Videos:
    return Videos(videos.spatial[chosen], videos.temporal[chosen], videos.labels[chosen])
