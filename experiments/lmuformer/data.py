"""Speech Commands in its official layout, spoken digits, permuted MNIST, and orders of chirps."""

from __future__ import annotations

import io
import tarfile
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from experiments.lmuformer.features import FilterBank, add_noise
from harness.loading.readers import BadFormat, read_labelled_images
from harness.loading.splits import Batch, Splits, Tensors
from harness.seeding import derive

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
DIGIT_RATE = 8000  # samples/s
DIGIT_FRAMES = 40
WORD_RATE = 16000
VALIDATION_TAKES = 2
BACKGROUND = "_background_noise_"
LISTS = {"validation_list.txt": "validation", "testing_list.txt": "testing"}


@dataclass(frozen=True)
class Sequences(Splits):
    """Sequences, and for each one under test how many of its frames hold something: (n,)."""

    lengths: Tensor | None = None


class Waveforms:
    """A split of 16-bit waveforms, which are handed out as floats in [-1, 1)."""

    def __init__(self, samples: Tensor, y: Tensor) -> None:
        self.samples = samples
        self.y = y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, indices: Tensor) -> Batch:
        return {"x": self.samples[indices].float() / 2**15, "y": self.y[indices]}


def read_wave(file: BinaryIO, name: str, rate: int) -> Tensor:
    """Samples of a 16-bit mono file, int16 (n,).

    Raises:
        BadFormat: it has another rate, width or number of channels, or is no RIFF WAVE file.
    """
    try:
        with wave.open(file, "rb") as sound:
            found = (sound.getframerate(), sound.getsampwidth(), sound.getnchannels())
            content = sound.readframes(sound.getnframes())
    except (wave.Error, EOFError) as error:
        raise BadFormat(f"{name} is no WAVE file: {error}") from error
    if found != (rate, 2, 1):
        raise BadFormat(f"{name}: rate, bytes, channels are {found}, not {(rate, 2, 1)}")
    return torch.from_numpy(np.frombuffer(content, "<i2").astype(np.int16))


def _padded(waves: Sequence[Tensor], samples: int) -> Tensor:
    """One below the other, cut or padded with zeros at the end: int16 (n, samples)."""
    rows = torch.zeros(len(waves), samples, dtype=torch.int16)
    for row, samples_of in zip(rows, waves, strict=True):
        part = samples_of[:samples]
        row[: len(part)] = part
    return rows


def speech_commands(root: Path) -> Sequences:
    """Speech Commands v0.02 in its archive: a second of one of 35 words, by the official lists.

    ``<word>/<clip>.wav`` with ``validation_list.txt`` and ``testing_list.txt``; all other clips
    are for training. Waveforms; their features have 128 frames, of which a second fills 98.

    Raises:
        BadFormat: a list, or a clip that it names, is not in the archive.
    """
    clips, lists = _unpacked(root / "speech_commands_v0.02.tar.gz")
    if missing := sorted(set().union(*lists.values()).difference(clips)):
        raise BadFormat(f"listed, but not in the archive: {', '.join(missing[:3])}")
    lists["training"] = sorted(set(clips).difference(*lists.values()))
    words = sorted({name.split("/")[0] for name in clips})
    train, test, val = (
        Waveforms(
            _padded([clips[name] for name in lists[part]], WORD_RATE),
            torch.tensor([words.index(name.split("/")[0]) for name in lists[part]]),
        )
        for part in ("training", "testing", "validation")
    )
    dims = {"features": 128, "frames": 128, "classes": len(words)}
    return Sequences(train, test, val, dims=dims, lengths=torch.full((len(test),), 128))


def _unpacked(archive: Path) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """Samples by ``<word>/<clip>.wav``, and the names in the two lists."""
    clips: dict[str, Tensor] = {}
    lists: dict[str, list[str]] = {}
    with tarfile.open(archive, "r|gz") as tar:
        for member in tar:
            path, file = PurePosixPath(member.name), tar.extractfile(member)
            if file is None or path.parent.name == BACKGROUND:  # None for folders
                continue
            if path.suffix == ".wav":
                sound = read_wave(io.BytesIO(file.read()), str(path), WORD_RATE)
                clips[f"{path.parent.name}/{path.name}"] = sound
            elif path.name in LISTS:
                lists[LISTS[path.name]] = file.read().decode().split()
    if len(lists) < len(LISTS):
        raise BadFormat(f"{archive.name} lacks one of {', '.join(LISTS)}")
    return clips, lists


def spoken_digits(
    root: Path,
    seed: int = 0,
    takes: int = 20,
    noisy: bool = False,
    shuffle_labels: bool = False,
) -> Sequences:
    """Free Spoken Digit Dataset: one of six speakers is tested, the other five are trained on.

    Speaker ``seed`` modulo 6 is held out, so that six seeds try each once. 40 log-mel energies,
    40 frames every 20 ms, scaled by mean and twice the standard deviation over training.

    Args:
        takes: of each digit and training speaker, at most 48; two more are for validation, and
            all 50 of the held-out speaker for testing.
        noisy: adds white noise of 0 to 10 dB, to the padding, too.
        shuffle_labels: permutes the training labels (a canary).

    Raises:
        FileNotFoundError: there are no ``recordings/<digit>_<speaker>_<take>.wav``.
    """
    held_out = SPEAKERS[seed % len(SPEAKERS)]
    parts: dict[str, list[Path]] = {"train": [], "val": [], "test": []}
    for path in sorted((root / "recordings").glob("?_*_*.wav")):
        _, speaker, take = path.stem.split("_")
        if speaker == held_out:
            parts["test"].append(path)
        elif int(take) >= 50 - VALIDATION_TAKES:
            parts["val"].append(path)
        elif int(take) < takes:
            parts["train"].append(path)
    if not parts["train"] or not parts["test"]:
        raise FileNotFoundError(f"no recordings/<digit>_<speaker>_<take>.wav below {root.name}")
    loaded = {part: _digit_features(paths, noisy, seed, part) for part, paths in parts.items()}
    y = {part: torch.tensor([int(path.name[0]) for path in paths]) for part, paths in parts.items()}
    if shuffle_labels:
        generator = torch.Generator().manual_seed(derive(seed, "labels"))
        y["train"] = y["train"][torch.randperm(len(y["train"]), generator=generator)]
    std, mean = torch.std_mean(loaded["train"][0])
    train, val, test = (
        Tensors(x=(loaded[part][0] - mean) / (2 * std), y=y[part]) for part in parts
    )
    dims = {"features": 40, "frames": DIGIT_FRAMES, "classes": 10}
    return Sequences(train, test, val, dims=dims, lengths=loaded["test"][1])


def _digit_features(
    paths: Sequence[Path], noisy: bool, seed: int, part: str
) -> tuple[Tensor, Tensor]:
    """Features (n, 40, 40), zero after the end of a clip without noise; frames of each (n,)."""
    bank = FilterBank(DIGIT_RATE, bins=40, length=256, shift=160)
    waves = []
    for path in paths:
        with path.open("rb") as file:
            waves.append(read_wave(file, path.name, DIGIT_RATE))
    samples = bank.length + (DIGIT_FRAMES - 1) * bank.shift
    sound = _padded(waves, samples).float() / 2**15
    lengths = torch.tensor([bank.frames(len(clip)) for clip in waves]).clamp(1, DIGIT_FRAMES)
    if noisy:
        generator = torch.Generator().manual_seed(derive(seed, "noise", part))
        sound = add_noise(sound, 10 * torch.rand(len(sound), generator=generator), generator)
        return bank(sound), lengths
    beyond = torch.arange(DIGIT_FRAMES) >= lengths[:, None]
    return bank(sound).masked_fill(beyond[..., None], 0.0), lengths


def permuted_mnist(
    root: Path, seed: int = 0, pooling: int = 2, train: int = 6000, test: int = 2000
) -> Sequences:
    """MNIST pixel by pixel in a random order, the same for all images, drawn from the seed.

    Args:
        pooling: side of the squares that are averaged before: 2 makes 196 steps of 784.
        train: training images, the first ones; ``test`` likewise.
    """
    x_train, y_train = _pixels(root, "train", train, pooling)
    x_test, y_test = _pixels(root, "t10k", test, pooling)
    pixels = x_train.shape[1]
    order = torch.randperm(pixels, generator=torch.Generator().manual_seed(derive(seed, "pixels")))
    return Sequences(
        Tensors(x=x_train[:, order, None], y=y_train),
        Tensors(x=x_test[:, order, None], y=y_test),
        dims={"features": 1, "frames": pixels, "classes": 10},
        lengths=torch.full((len(y_test),), pixels),
    )


def _pixels(root: Path, part: str, count: int, pooling: int) -> tuple[Tensor, Tensor]:
    images, labels = read_labelled_images(root, part)
    grey = torch.from_numpy(images[:count])[:, None].float() / 255
    pooled = torch.nn.functional.avg_pool2d(grey, pooling).flatten(1)
    return pooled, torch.from_numpy(labels[:count]).long()


CHIRP = 4  # frames of a chirp
APART = 16  # frames from the begin of a chirp to that of the next, at least
GUARD = 6  # frames at both ends without one: the convolutions' reach must not tell them


def chirp_order(
    seed: int = 0,
    train: int = 2000,
    test: int = 1000,
    frames: int = 64,
    channels: int = 16,
    strength: float = 3.0,
    shuffle_labels: bool = False,
) -> Sequences:
    """Noise with two different chirps, a rising and a falling one; the class is their order.

    They are at random places, a chirp's end at least 13 frames before the next one's begin,
    further than the convolutions reach: whoever does not remember across that is right once in
    two.

    Args:
        train: sequences; ``test`` likewise, and a fifth of these for validation.
        strength: amplitude of a chirp in noise of standard deviation 1.
        shuffle_labels: permutes the training labels (a canary).
    """
    generator = torch.Generator().manual_seed(derive(seed, "chirp_order"))
    sizes = [train, test, max(test // 5, 1)]
    x, y = _draw_orders(generator, sum(sizes), frames, channels, strength)
    if shuffle_labels:
        y[:train] = y[torch.randperm(train, generator=generator)]
    parts = zip(torch.split(x, sizes), torch.split(y, sizes), strict=True)
    learned, tested, validated = (Tensors(x=sequences, y=labels) for sequences, labels in parts)
    return Sequences(
        learned,
        tested,
        validated,
        dims={"features": channels, "frames": frames, "classes": 2},
        lengths=torch.full((test,), frames),
    )


def _draw_orders(
    generator: torch.Generator, count: int, frames: int, channels: int, strength: float
) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, frames, channels, generator=generator)
    y = torch.randint(2, (count,), generator=generator)
    room = frames - 2 * GUARD - CHIRP
    gap = torch.randint(APART, room, (count,), generator=generator)
    first = GUARD + (torch.rand(count, generator=generator) * (room - gap + 1)).long()
    rising = torch.arange(CHIRP)  # the channel that sounds, frame by frame
    for start, falls in ((first, y), (first + gap, 1 - y)):
        sounds = torch.where(falls[:, None] == 1, CHIRP - 1 - rising, rising)
        x[torch.arange(count)[:, None], start[:, None] + rising, sounds] += strength
    return x, y
