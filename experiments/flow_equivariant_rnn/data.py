"""Flowing MNIST: two digits that move, or turn, each at a constant velocity; and bars on a ring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from experiments.flow_equivariant_rnn.model import velocities
from experiments.flow_equivariant_rnn.rotation import spun
from harness.loading.readers import read_labelled_images
from harness.loading.splits import Batch, Splits
from harness.seeding import derive

OBJECTS = 2  # in a sequence
PARTS = ("train", "val", "test")
SPEEDS = range(3)  # of the test of velocities that were not trained on
CANVAS = 40  # pixels: a digit's diagonal, so that none is cut off when it turns


class Motion(Protocol):
    """How the objects of a sequence move."""

    def drawn(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Starts and velocities of the objects of ``count`` sequences: (count, objects, …)."""
        ...

    def frames(self, images: Tensor, start: Tensor, velocity: Tensor, steps: int) -> Tensor:
        """(batch, steps, 1, height, width) of images (batch, objects, height, width)."""
        ...


@dataclass(frozen=True)
class Translation:
    """Over a torus, by whole pixels; along an axis of one pixel nothing moves.

    Attributes:
        fastest: velocities of an axis are uniform in -fastest..fastest.
        speed: if given, the faster of the two axes has this speed (a test of unseen velocities).
    """

    height: int
    width: int
    fastest: int
    speed: int | None = None

    def drawn(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        sides = torch.tensor([self.height, self.width])
        uniform = torch.rand(count, OBJECTS, 2, generator=generator)
        start = (uniform * sides).long()
        choices = self._velocities()
        picked = torch.randint(len(choices), (count, OBJECTS), generator=generator)
        return start, choices[picked]

    def _velocities(self) -> Tensor:
        fastest = self.fastest if self.speed is None else self.speed
        grid = torch.tensor(velocities(fastest, self.height, self.width))
        return grid if self.speed is None else grid[grid.abs().amax(1) == self.speed]

    def frames(self, images: Tensor, start: Tensor, velocity: Tensor, steps: int) -> Tensor:
        time = torch.arange(steps)[:, None]
        row, column = (
            (
                torch.arange(side)
                - start[..., axis, None, None]
                - velocity[..., axis, None, None] * time
            )
            % side
            for axis, side in enumerate((self.height, self.width))
        )  # (batch, objects, steps, side): where the pixels come from
        batch, objects = (torch.arange(n) for n in images.shape[:2])
        moved = images[
            batch[:, None, None, None, None],
            objects[None, :, None, None, None],
            row[..., :, None],
            column[..., None, :],
        ]
        return moved.sum(1).clamp(0, 1)[:, :, None]


@dataclass(frozen=True)
class Rotation:
    """Around the middle, from a random angle; velocities in degrees a step."""

    velocities: tuple[int, ...]
    pooling: int = 1

    def drawn(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        start = 360 * torch.rand(count, OBJECTS, generator=generator)
        picked = torch.randint(len(self.velocities), (count, OBJECTS), generator=generator)
        return start, torch.tensor(self.velocities)[picked]

    def frames(self, images: Tensor, start: Tensor, velocity: Tensor, steps: int) -> Tensor:
        side = images.shape[-1]
        margin = (CANVAS - side) // 2
        angles = start[..., None] + velocity[..., None] * torch.arange(steps)
        padded = F.pad(images, 4 * (margin,))[:, :, None].expand(-1, -1, steps, -1, -1)
        turned = spun(padded.flatten(0, 2)[:, None], angles.flatten())
        inner = turned[..., margin : margin + side, margin : margin + side]
        moved = inner.reshape(*angles.shape, 1, side, side).sum(1).clamp(0, 1)
        pooled = F.avg_pool2d(moved.flatten(0, 1), self.pooling)
        return pooled.reshape(len(images), steps, *pooled.shape[1:])


class Sequences:
    """A split of sequences that are drawn on access: ``x`` the frames seen, ``y`` those to come.

    Args:
        images: of the objects, (n, height, width).
        count: sequences.
        motion: of the objects.
        seen, ahead: frames of ``x`` and of ``y``.
        shuffled: the frames to come are those of another sequence (a canary).
    """

    def __init__(
        self,
        images: Tensor,
        count: int,
        motion: Motion,
        seen: int,
        ahead: int,
        generator: torch.Generator,
        shuffled: bool = False,
    ) -> None:
        self.images = images
        self.motion = motion
        self.seen, self.ahead = seen, ahead
        self.objects = torch.randint(len(images), (count, OBJECTS), generator=generator)
        self.start, self.velocity = motion.drawn(count, generator)
        self.partner = torch.arange(count)
        if shuffled:
            self.partner = torch.randperm(count, generator=generator)

    def __len__(self) -> int:
        return len(self.objects)

    def __getitem__(self, indices: Tensor) -> Batch:
        x, y = (self._frames(i) for i in (indices, self.partner[indices]))
        return {"x": x[:, : self.seen], "y": y[:, self.seen :].contiguous()}

    def _frames(self, indices: Tensor) -> Tensor:
        images = self.images[self.objects[indices]].float()
        images = images / 255 if self.images.dtype == torch.uint8 else images
        start, velocity = self.start[indices], self.velocity[indices]
        return self.motion.frames(images, start, velocity, self.seen + self.ahead)


@dataclass(frozen=True)
class FlowSplits(Splits):
    """Besides the splits, test sequences with many frames to come."""

    far: Sequences | None = None


def ring(
    seed: int = 0,
    cells: int = 24,
    fastest: int = 2,
    train: int = 16_000,
    test: int = 500,
    far: int = 60,
    frames: int = 10,
    shuffled: bool = False,
) -> FlowSplits:
    """Flowing MNIST in one dimension: two patterns of six random grey cells move around a ring.

    Args:
        cells: of the ring.
        fastest: velocities are uniform in -fastest..fastest cells a step.
        train: sequences, all of them different; ``test`` likewise, and as many for validation.
        far: frames to come in the test of longer sequences.
        frames: seen, and as many to come otherwise.
        shuffled: training targets are another sequence's (a canary).
    """
    generator = torch.Generator().manual_seed(derive(seed, "ring"))
    images = torch.zeros(3 * 1000, 1, cells)
    images[..., :6] = torch.rand(len(images), 1, 6, generator=generator)
    parts = dict(zip(PARTS, torch.split(images, 1000), strict=True))
    motions = {speed: Translation(1, cells, fastest, speed) for speed in SPEEDS}
    whole = Translation(1, cells, fastest)
    return _splits(parts, (train, test, far, frames), whole, motions, seed, shuffled)


def flowing_mnist(
    root: Path,
    seed: int = 0,
    pooling: int = 1,
    fastest: int = 2,
    train: int = 2_700_000,
    test: int = 10_000,
    far: int = 60,
    frames: int = 10,
    shuffled: bool = False,
) -> FlowSplits:
    """Two MNIST digits over each other that move over a torus of 28 x 28 pixels.

    Sequences are as in the authors' code, 50 x 54,000 different ones of 10 + 10 frames. Unlike
    there, the last 6,000 training digits are for validation alone.

    Args:
        pooling: side of the squares of pixels that are averaged before the digits move.
        fastest: velocities are uniform in -fastest..fastest pixels a step, along each axis.
        train, test, far, frames, shuffled: see :func:`ring`.
    """
    parts = {name: F.avg_pool2d(x, pooling) for name, x in _digits(root).items()}
    side = parts["train"].shape[-1]
    motions = {speed: Translation(side, side, fastest, speed) for speed in SPEEDS}
    whole = Translation(side, side, fastest)
    return _splits(parts, (train, test, far, frames), whole, motions, seed, shuffled)


def rotating_mnist(
    root: Path,
    seed: int = 0,
    pooling: int = 1,
    velocities: Sequence[int] = (-40, -30, -20, -10, 0, 10, 20, 30, 40),
    train: int = 2_700_000,
    test: int = 10_000,
    far: int = 60,
    frames: int = 10,
    shuffled: bool = False,
) -> FlowSplits:
    """Two MNIST digits over each other that turn around the middle of 28 x 28 pixels.

    Args:
        pooling: side of the squares of pixels that are averaged in the end.
        velocities: degrees a step, of which each digit has one.
        train, test, far, frames, shuffled: see :func:`ring`.
    """
    motions = {speed: Rotation((-10 * speed, 10 * speed), pooling) for speed in range(5)}
    whole = Rotation(tuple(velocities), pooling)
    return _splits(_digits(root), (train, test, far, frames), whole, motions, seed, shuffled)


def _digits(root: Path) -> dict[str, Tensor]:
    images, _ = read_labelled_images(root, "train")
    train = torch.from_numpy(images).float() / 255
    test = torch.from_numpy(read_labelled_images(root, "t10k")[0]).float() / 255
    held = len(train) // 10
    return {"train": train[:-held], "val": train[-held:], "test": test}


def _splits(
    images: Mapping[str, Tensor],
    counts: tuple[int, int, int, int],
    motion: Motion,
    by_speed: Mapping[int, Motion],
    seed: int,
    shuffled: bool,
) -> FlowSplits:
    train, test, far, frames = counts

    def drawn(part: str, count: int, motion: Motion = motion, ahead: int = frames) -> Sequences:
        purpose = derive(seed, part, ahead, "" if motion is whole else repr(motion))
        generator = torch.Generator().manual_seed(purpose)
        mixed = shuffled and part == "train"
        return Sequences(images[part], count, motion, frames, ahead, generator, mixed)

    whole = motion
    speeds = {float(v): drawn("test", test // 2, moves) for v, moves in by_speed.items()}
    first = drawn("val", test)
    height, width = first[torch.tensor([0])]["x"].shape[-2:]
    return FlowSplits(
        drawn("train", train),
        drawn("test", test),
        first,
        dims={"height": height, "width": width},
        tests={"speed": speeds},
        far=drawn("test", test // 2, ahead=far),
    )
