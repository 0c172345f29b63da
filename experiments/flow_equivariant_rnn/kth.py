"""Moving KTH: six actions of 25 persons, every clip moved over a torus at a velocity of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.loading.readers import BadFormat
from harness.loading.splits import Batch, Splits
from harness.seeding import derive

ACTIONS = ("walking", "jogging", "running", "boxing", "handwaving", "handclapping")
LISTING = "00sequences.txt"
LINE = re.compile(r"(person(\d\d)_([a-z]+)_d\d)\s+frames\s+([\d,\s-]+)")
FRAMES, STRIDE = 16, 2  # of a clip, and every how many of the video's


@dataclass(frozen=True)
class Span:
    """Frames ``first`` to ``last`` of a video, in which a person does something."""

    video: str
    person: int
    action: int
    first: int
    last: int

    @property
    def part(self) -> str:
        """Persons 1 to 16 are for training, 17 to 20 for validation, 21 to 25 for testing."""
        return "train" if self.person <= 16 else "val" if self.person <= 20 else "test"


def read_spans(listing: Path) -> Iterator[Span]:
    """Spans in the data set's own list: ``<video> frames a-b, c-d, …`` a line.

    Raises:
        BadFormat: no line is of this form, or one names an action that there is not.
    """
    found = [LINE.fullmatch(line.strip()) for line in listing.read_text().splitlines()]
    if not any(found):
        raise BadFormat(f"{listing.name} has no line '<video> frames a-b, c-d'")
    for match in filter(None, found):
        video, person, action, ranges = match.groups()
        if action not in ACTIONS:
            raise BadFormat(f"{listing.name}: {video} is none of {', '.join(ACTIONS)}")
        for span in filter(str.strip, ranges.split(",")):
            first, _, last = span.partition("-")
            yield Span(video, int(person), ACTIONS.index(action), int(first), int(last or first))


def read_video(path: Path, side: int) -> Tensor:
    """Grey frames, averaged over areas to side x side pixels: uint8 (frames, side, side).

    Raises:
        BadFormat: nothing can be decoded.
    """
    import cv2

    capture, frames = cv2.VideoCapture(str(path)), []
    while True:
        there, frame = capture.read()
        if not there:
            break
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        frames.append(cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA))
    capture.release()
    if not frames:
        raise BadFormat(f"{path.name} cannot be decoded")
    return torch.from_numpy(np.stack(frames))


class Clips:
    """A split: ``x`` clips (batch, 16, 1, side, side) in [0, 1], ``y`` their actions.

    Args:
        videos: by name, uint8 (frames, side, side).
        spans: that clips are cut from; velocities are theirs, not the clips'.
        draws: clips from each span, at random starts.
        fastest: velocities are uniform in -fastest..fastest pixels a frame, along each axis.
        mirrored: every other clip, at random, is mirrored from left to right.
    """

    def __init__(
        self,
        videos: dict[str, Tensor],
        spans: list[Span],
        draws: int,
        fastest: int,
        generator: torch.Generator,
        mirrored: bool = False,
    ) -> None:
        self.videos, self.spans = videos, spans
        chosen = torch.arange(len(spans)).repeat(draws)
        velocity = torch.randint(-fastest, fastest + 1, (len(spans), 2), generator=generator)
        room = torch.tensor([self._room(span) for span in spans])[chosen]
        self.chosen, self.velocity = chosen, velocity[chosen]
        self.start = (torch.rand(len(chosen), generator=generator) * room).long()
        self.mirror = torch.rand(len(chosen), generator=generator) < 0.5 * mirrored
        self.y = torch.tensor([span.action for span in spans])[chosen]

    def _room(self, span: Span) -> int:
        """How many starts a span has."""
        last = min(span.last, len(self.videos[span.video]) - 1)
        return last - span.first + 2 - FRAMES * STRIDE

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, indices: Tensor) -> Batch:
        clips = torch.stack([self._clip(index) for index in indices.tolist()])
        return {"x": clips, "y": self.y[indices]}

    def _clip(self, index: int) -> Tensor:
        span = self.spans[int(self.chosen[index])]
        begin = span.first + int(self.start[index])
        frames = self.videos[span.video][begin : begin + FRAMES * STRIDE : STRIDE].float() / 255
        down, right = self.velocity[index].tolist()
        moved = [torch.roll(f, (t * down, t * right), (0, 1)) for t, f in enumerate(frames)]
        clip = torch.stack(moved)[:, None]
        return clip.flip(-1) if self.mirror[index] else clip


def moving_kth(
    root: Path,
    seed: int = 0,
    side: int = 32,
    fastest: int = 2,
    train_draws: int = 500,
    test_draws: int = 5,
) -> Splits:
    """The videos of the KTH action data set, with camera motion added.

    ``00sequences.txt``, and videos ``<name>_uncomp.avi`` in ``kth_actions``. Spans shorter than
    32 frames are left out.

    Args:
        train_draws: clips from each span for training, instead of as many epochs of new ones.
        test_draws: likewise for validation and testing.
    """
    spans = list(read_spans(root / LISTING))
    paths = {s.video: root / "kth_actions" / f"{s.video}_uncomp.avi" for s in spans}
    videos = {name: read_video(path, side) for name, path in paths.items() if path.exists()}

    def clips(part: str, draws: int) -> Clips:
        long = [s for s in spans if s.part == part and s.video in videos and fits(s)]
        generator = torch.Generator().manual_seed(derive(seed, part))
        return Clips(videos, long, draws, fastest, generator, mirrored=part == "train")

    def fits(span: Span) -> bool:
        return min(span.last, len(videos[span.video]) - 1) - span.first + 1 >= FRAMES * STRIDE

    dims = {"side": side, "classes": len(ACTIONS)}
    parts = clips("train", train_draws), clips("test", test_draws), clips("val", test_draws)
    return Splits(*parts, dims=dims)
