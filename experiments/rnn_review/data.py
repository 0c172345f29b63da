"""Generated tasks whose lags are known: each is what the literature on long lags is tested on."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from harness.loading.splits import Splits, Tensors
from harness.seeding import derive

IGNORED = -100  # a target that neither loss nor accuracy counts
DISTRACTORS = 4
Draw = Callable[[int, torch.Generator], dict[str, Tensor]]


def adding(seed: int, length: int = 50, train: int = 64_000, test: int = 1000) -> Splits:
    """The sum of two marked numbers (Hochreiter and Schmidhuber, 1997, experiment 4, simplified).

    A step is a number from U[0, 1] and a mark; one mark is in the first half and one in the second.

    Args:
        seed: of the examples.
        length: T.
        train: training examples.
        test: validation and test examples, each.

    Returns:
        Splits of ``x`` (n, T, 2) and ``y``, the sum (n,).
    """

    def draw(n: int, generator: torch.Generator) -> dict[str, Tensor]:
        numbers = torch.rand(n, length, generator=generator)
        half = length // 2
        first = torch.randint(half, (n, 1), generator=generator)
        second = torch.randint(half, length, (n, 1), generator=generator)
        places = torch.cat([first, second], dim=1)
        marks = torch.zeros(n, length).scatter_(1, places, 1.0)
        return {"x": torch.stack([numbers, marks], -1), "y": numbers.gather(1, places).sum(1)}

    return splits(seed, draw, train, test, symbols=0, features=2, outputs=1)


def order(seed: int, length: int = 60, train: int = 64_000, test: int = 1000) -> Splits:
    """Which two symbols came, and in which order (Hochreiter and Schmidhuber, 1997, experiment 6a).

    Of ``length`` symbols all are distractors but two, A or B each: one at a place between 0.1 and
    0.2 of the length, one between 0.5 and 0.6. The class is which of AA, AB, BA, BB.

    Returns:
        Splits of ``x`` (n, T), where A and B are 4 and 5, and ``y`` (n,).
    """

    def draw(n: int, generator: torch.Generator) -> dict[str, Tensor]:
        x = torch.randint(DISTRACTORS, (n, length), generator=generator)
        kinds = torch.randint(2, (n, 2), generator=generator)
        for k, share in enumerate((0.1, 0.5)):
            low, high = math.ceil(share * length), int((share + 0.1) * length + 1e-9)
            place = torch.randint(low, high + 1, (n, 1), generator=generator)
            x.scatter_(1, place, DISTRACTORS + kinds[:, k : k + 1])
        return {"x": x, "y": 2 * kinds[:, 0] + kinds[:, 1]}

    return splits(seed, draw, train, test, symbols=DISTRACTORS + 2, features=0, outputs=4)


def copying(
    seed: int,
    length: int = 50,
    count: int = 10,
    kinds: int = 8,
    train: int = 64_000,
    test: int = 1000,
) -> Splits:
    """Symbols that are to be written out after a blank time.

    ``count`` symbols, ``length`` - 1 blanks, a sign to go, ``count`` blanks; the target is blank
    for ``length`` + ``count`` steps, and then the symbols.

    Returns:
        Splits of ``x`` and ``y``, (n, length + 2 count); blank is 0 and go is ``kinds`` + 1.
    """

    def draw(n: int, generator: torch.Generator) -> dict[str, Tensor]:
        symbols = torch.randint(1, kinds + 1, (n, count), generator=generator)
        x = torch.zeros(n, length + 2 * count, dtype=torch.long)
        y = torch.zeros_like(x)
        x[:, :count], x[:, length + count - 1] = symbols, kinds + 1
        y[:, length + count :] = symbols
        return {"x": x, "y": y}

    return splits(seed, draw, train, test, symbols=kinds + 2, features=0, outputs=kinds + 1)


def copying_bound(length: int, count: int = 10, kinds: int = 8) -> float:
    """Mean cross-entropy of the best predictor without memory: count ln kinds / (length + 2 count).

    All steps but ``count`` are certain, and of these nothing is known.
    """
    return count * math.log(kinds) / (length + 2 * count)


def look_ahead(
    seed: int, length: int = 40, distance: int = 3, train: int = 20_000, test: int = 1000
) -> Splits:
    """The target of a step is the symbol, 0 or 1, that comes ``distance`` steps later.

    Returns:
        Splits of ``x`` and ``y`` (n, T); the last ``distance`` targets are not counted.
    """

    def draw(n: int, generator: torch.Generator) -> dict[str, Tensor]:
        x = torch.randint(2, (n, length), generator=generator)
        y = x.roll(-distance, dims=1)
        y[:, length - distance :] = IGNORED
        return {"x": x, "y": y}

    return splits(seed, draw, train, test, symbols=2, features=0, outputs=2)


def latch(seed: int, length: int = 20, train: int = 32_000, test: int = 1000) -> Splits:
    """The sign of the first number, to be told after noise of standard deviation 0.2.

    Returns:
        Splits of ``x`` (n, T, 1) and ``y``, 0 or 1 (n,).
    """

    def draw(n: int, generator: torch.Generator) -> dict[str, Tensor]:
        y = torch.randint(2, (n,), generator=generator)
        x = 0.2 * torch.randn(n, length, generator=generator)
        x[:, 0] = 2.0 * y - 1
        return {"x": x[..., None], "y": y}

    return splits(seed, draw, train, test, symbols=0, features=1, outputs=2)


def translation(
    seed: int,
    length: int = 10,
    symbols: int = 20,
    mirrored: bool = False,
    train: int = 64_000,
    test: int = 1000,
) -> Splits:
    """Each symbol of a source stands for one of the target, in the same order.

    Args:
        mirrored: the target is in the opposite order (a control).

    Returns:
        Splits of ``x``, ``y`` and ``before``, y a step earlier (at first ``symbols``): (n, T).
    """
    meaning = torch.randperm(symbols, generator=torch.Generator().manual_seed(derive(seed, "code")))

    def draw(n: int, generator: torch.Generator) -> dict[str, Tensor]:
        x = torch.randint(symbols, (n, length), generator=generator)
        y = meaning[x.flip(1) if mirrored else x]
        start = torch.full((n, 1), symbols)
        return {"x": x, "y": y, "before": torch.cat([start, y[:, :-1]], dim=1)}

    return splits(seed, draw, train, test, symbols=symbols, features=0, outputs=symbols)


def splits(seed: int, draw: Draw, train: int, test: int, **dims: int) -> Splits:
    """Training, validation and test examples, each from random numbers of their own."""

    def drawn(name: str, n: int) -> Tensors:
        return Tensors(**draw(n, torch.Generator().manual_seed(derive(seed, name))))

    return Splits(drawn("train", train), drawn("test", test), drawn("val", test), dims)
