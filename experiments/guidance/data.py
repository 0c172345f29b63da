"""Generated data: copied sequences and parity, as released; patterns at random places.

Images of Fashion-MNIST and CIFAR-10 are read by :mod:`harness.loading.images`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from experiments.guidance.model import PAD
from harness.loading.splits import Splits, Tensors
from harness.seeding import derive

IGNORED = 0  # target that does not count; also a symbol, which is then not asked for


def copy_paste(
    seed: int,
    train: int = 80000,
    val: int = 20000,
    test: int = 20000,
    shortest: int = 20,
    longest: int = 40,
    symbols: int = 10,
    shuffle_labels: bool = False,
) -> Splits:
    """A sequence, the sign to copy it, and room for the copy.

    ``x`` (n, 2 ``longest`` + 2) is s, the copy sign, |s| zeros, the end sign; ``y`` of that shape
    is |s| + 1 zeros, s, the end sign. Symbols are 0 … ``symbols`` - 1, uniform, and so are lengths;
    the signs are ``symbols`` + 1 and ``symbols`` + 2. Both are filled up with zeros, and targets
    of zero do not count, so that symbol 0 is never asked for.

    Args:
        seed: of the sequences.
        shuffle_labels: give every training sequence another one's copy.
    """

    def part(name: str, count: int) -> Tensors:
        generator = torch.Generator().manual_seed(derive(seed, "copy", name))
        lengths = torch.randint(shortest, longest + 1, (count, 1), generator=generator)
        drawn = torch.randint(symbols, (count, longest), generator=generator)
        x = torch.zeros(count, 2 * longest + 2, dtype=torch.long)
        y = torch.zeros_like(x)
        place = torch.arange(longest).expand(count, -1)
        inside = place < lengths
        x[:, :longest] = torch.where(inside, drawn, 0)
        x.scatter_(1, lengths, symbols + 1)
        copied = (place + lengths + 1).clamp_max(2 * longest)
        y.scatter_add_(1, copied, torch.where(inside, drawn, 0))
        for ended in (x, y):
            ended.scatter_(1, 2 * lengths + 1, symbols + 2)
        if shuffle_labels and name == "train":
            y = y[torch.randperm(count, generator=generator)]
        return Tensors(x=x, y=y)

    dims = {"vocabulary": symbols + 3, "steps": 2 * longest + 2}
    return Splits(part("train", train), part("test", test), part("val", val), dims=dims)


def chance_of_copying(shortest: int = 20, longest: int = 40, symbols: int = 10) -> float:
    """Token accuracy of a model that knows when a symbol is asked for, and not which.

    Of a sequence of mean length L, L (symbols - 1) / symbols symbols count, of which one in
    symbols - 1 is guessed, and the end sign, which is known.
    """
    mean = (shortest + longest) / 2
    return (mean / symbols + 1) / (mean * (symbols - 1) / symbols + 1)


def parity(
    seed: int,
    train: int = 80000,
    val: int = 10000,
    test: int = 10000,
    shortest: int = 2,
    longest: int = 50,
    shuffle_labels: bool = False,
) -> Splits:
    """Bit strings ``x`` (n, ``longest``), filled up by ``PAD``, and the parity ``y`` of their ones.

    Lengths and bits are uniform. Short strings occur again in the test, as in the released code.

    Args:
        seed: of the strings.
        shuffle_labels: permute the training labels.
    """

    def part(name: str, count: int) -> Tensors:
        generator = torch.Generator().manual_seed(derive(seed, "parity", name))
        lengths = torch.randint(shortest, longest + 1, (count, 1), generator=generator)
        bits = torch.randint(2, (count, longest), generator=generator)
        inside = torch.arange(longest) < lengths
        y = (bits * inside).sum(1) % 2
        if shuffle_labels and name == "train":
            y = y[torch.randperm(count, generator=generator)]
        return Tensors(x=torch.where(inside, bits, PAD), y=y)

    return Splits(part("train", train), part("test", test), part("val", val))


def translation(
    seed: int,
    train: int = 2000,
    val: int = 500,
    test: int = 2000,
    side: int = 16,
    noise: float = 0.5,
    shuffle_labels: bool = False,
) -> Splits:
    """One of ten fixed 5 x 5 patterns of ± 1 at a random place of a black image, and noise.

    Where a pattern is says nothing of which it is: a network that shares weights over places has
    to learn ten patterns, a fully connected one each of them at every place. If guidance hands a
    convolutional prior on, it shows here; a guide that sees shuffled pixels has none to hand on.

    Args:
        seed: of places, classes and noise; the patterns are always the same.
        noise: standard deviation, added to every pixel.
        shuffle_labels: permute the training labels.
    """
    size, classes = 5, 10
    fixed = torch.Generator().manual_seed(0)
    patterns = 2.0 * torch.randint(2, (classes, size, size), generator=fixed) - 1

    def part(name: str, count: int) -> Tensors:
        generator = torch.Generator().manual_seed(derive(seed, "translation", name))
        y = torch.randint(classes, (count,), generator=generator)
        corner = torch.randint(side - size + 1, (count, 2), generator=generator)
        x = noise * torch.randn(count, 1, side, side, generator=generator)
        x += _placed(patterns[y], corner, side)[:, None]
        if shuffle_labels and name == "train":
            y = y[torch.randperm(count, generator=generator)]
        return Tensors(x=x, y=y)

    dims = {"channels": 1, "side": side, "features": side**2, "classes": classes}
    return Splits(part("train", train), part("test", test), part("val", val), dims=dims)


def _placed(patterns: Tensor, corner: Tensor, side: int) -> Tensor:
    """Patterns (n, k, k) with their upper left corners (n, 2) on zeros (n, side, side)."""
    count, size, _ = patterns.shape
    canvas = torch.zeros(count, side, side)
    rows, columns = (corner[:, axis, None] + torch.arange(size) for axis in (0, 1))
    each = torch.arange(count)[:, None, None]
    canvas[each, rows[:, :, None], columns[:, None, :]] = patterns
    return canvas
