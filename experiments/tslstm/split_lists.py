"""The official three splits of UCF101 and HMDB51, in the forms in which they are passed around."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from experiments.tslstm.sequences import find_below


class Clip(NamedTuple):
    """A video by its file name without folder and extension, and its label from 0."""

    name: str
    label: int


class SplitListError(ValueError):
    """A line of a list that does not say what it should; the message names file and line."""


def splits_of(dataset: str, root: Path, split: int) -> tuple[list[Clip], list[Clip]]:
    """Training and test clips of ``ucf101`` or ``hmdb51`` for split 1, 2 or 3.

    Labels number the classes in alphabetical order, as both data sets' lists do.

    Raises:
        SplitListError: for a malformed line, or a clip in both training and test.
        FileNotFoundError: when a list is missing.
    """
    if split not in (1, 2, 3):
        raise ValueError(f"splits are 1, 2 and 3, got {split}")
    train, test = {"ucf101": ucf101_split, "hmdb51": hmdb51_split}[dataset](root, split)
    if both := {clip.name for clip in train} & {clip.name for clip in test}:
        raise SplitListError(f"split {split}: {min(both)} is in both training and test")
    return train, test


def ucf101_split(root: Path, split: int) -> tuple[list[Clip], list[Clip]]:
    """``classInd.txt`` with ``trainlist0N.txt`` and ``testlist0N.txt``."""
    classes = read_classes(find_below(root, "classInd.txt"))
    train, test = (
        read_ucf101_list(find_below(root, f"{part}list{split:02d}.txt"), classes)
        for part in ("train", "test")
    )
    return train, test


def read_classes(path: Path) -> dict[str, int]:
    """``<number from 1> <ClassName>`` a line -> label from 0 by name."""
    classes: dict[str, int] = {}
    for where, fields in _lines(path):
        if len(fields) != 2 or fields[0] != str(len(classes) + 1):
            raise SplitListError(f"{where}: expected '{len(classes) + 1} <ClassName>'")
        classes[fields[1]] = len(classes)
    return classes


def read_ucf101_list(path: Path, classes: dict[str, int]) -> list[Clip]:
    """``<Class>/<video>.avi [number from 1]`` a line; official test lists have no number."""
    clips = []
    for where, fields in _lines(path):
        folder, slash, video = fields[0].partition("/")
        if len(fields) > 2 or not slash or not video.endswith(".avi"):
            raise SplitListError(f"{where}: expected '<Class>/<video>.avi' and maybe its number")
        if folder not in classes:
            raise SplitListError(f"{where}: {folder!r} is not in the list of classes")
        if len(fields) == 2 and fields[1] != str(classes[folder] + 1):
            raise SplitListError(f"{where}: {folder} has number {classes[folder] + 1}")
        clips.append(Clip(video.removesuffix(".avi"), classes[folder]))
    return clips


def hmdb51_split(root: Path, split: int) -> tuple[list[Clip], list[Clip]]:
    """The official form (a file per class) where it is there, else lists of frame folders."""
    official = sorted(root.rglob(f"*_test_split{split}.txt"))
    if official:
        return read_hmdb51_classes(official)
    train, test = (
        read_frame_list(find_below(root, f"hmdb51_flow_{part}_split_{split}.txt"))
        for part in ("train", "val")
    )
    return train, test


def read_hmdb51_classes(paths: list[Path]) -> tuple[list[Clip], list[Clip]]:
    """``<video>.avi <flag>`` a line, one file a class; 1 trains, 2 tests, 0 is not used."""
    names = sorted(re.sub(r"_test_split\d\.txt$", "", path.name) for path in paths)
    parts: dict[str, list[Clip]] = {"0": [], "1": [], "2": []}
    for path in paths:
        label = names.index(re.sub(r"_test_split\d\.txt$", "", path.name))
        for where, fields in _lines(path):
            if len(fields) != 2 or fields[1] not in parts or not fields[0].endswith(".avi"):
                raise SplitListError(f"{where}: expected '<video>.avi' and 0, 1 or 2")
            parts[fields[1]].append(Clip(fields[0].removesuffix(".avi"), label))
    return parts["1"], parts["2"]


def read_frame_list(path: Path) -> list[Clip]:
    """``<folder of frames> <number of frames> <label from 0>`` a line."""
    clips = []
    for where, fields in _lines(path):
        if len(fields) != 3 or not (fields[1].isdecimal() and fields[2].isdecimal()):
            raise SplitListError(f"{where}: expected '<folder> <frames> <label>'")
        clips.append(Clip(fields[0].rpartition("/")[2], int(fields[2])))
    return clips


def _lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """File and line number, and the fields, of every line that is not blank."""
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if line.strip():
            yield f"{path.name}:{number}", line.split()
