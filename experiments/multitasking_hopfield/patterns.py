"""Diluted patterns, noisy examples of them, and the states that a network starts from.

Everything is drawn for many independent draws at once; the first dimension counts them.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Kind = Literal["diluted", "filled", "disjoint"]


def patterns(
    kind: Kind, shape: tuple[int, int, int], dilution: float, generator: torch.Generator
) -> Tensor:
    """Patterns (draws, K, N): ``diluted``, ``disjoint``, or the former with blanks ``filled``.

    Raises:
        ValueError: for another kind.
    """
    if kind == "disjoint":
        return disjoint(shape, generator)
    drawn = diluted(shape, dilution, generator)
    if kind == "filled":
        return filled(drawn, generator)
    if kind != "diluted":
        raise ValueError(f"no patterns are {kind!r}")
    return drawn


def diluted(shape: tuple[int, int, int], dilution: float, generator: torch.Generator) -> Tensor:
    """Independent entries: 0 with probability d, else ±1 alike, (draws, K, N)."""
    kept = torch.rand(shape, generator=generator, device=generator.device) >= dilution
    return kept * signs(shape, generator)


def disjoint(shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """No cross-talk: each neuron is ±1 in one of the patterns and 0 in all others."""
    draws, number, neurons = shape
    device = generator.device
    owner = torch.randint(number, (draws, 1, neurons), generator=generator, device=device)
    return (torch.arange(number, device=device)[:, None] == owner) * signs(shape, generator)


def filled(drawn: Tensor, generator: torch.Generator) -> Tensor:
    """The same patterns with random signs in place of the blanks: ordinary Hopfield patterns."""
    return torch.where(drawn == 0, signs(tuple(drawn.shape), generator), drawn)


def examples(drawn: Tensor, count: int, quality: float, generator: torch.Generator) -> Tensor:
    """M noisy copies of each pattern, (draws, K, M, N): an entry keeps its sign with (1 + r)/2.

    Blanks stay blank.
    """
    draws, number, neurons = drawn.shape
    shape = (draws, number, count, neurons)
    keeps = torch.rand(shape, generator=generator, device=generator.device) < (1 + quality) / 2
    return torch.where(keeps, 1.0, -1.0) * drawn[:, :, None]


def relabelled(copies: Tensor, generator: torch.Generator) -> Tensor:
    """Examples (draws, K, M, N) dealt out to the patterns anew, as if labels were random."""
    number, count = copies.shape[1:3]
    order = torch.randperm(number * count, generator=generator, device=generator.device)
    return copies.flatten(1, 2)[:, order].reshape(copies.shape)


def hierarchical_start(drawn: Tensor, generator: torch.Generator) -> Tensor:
    """Each neuron follows its first entry that is not blank, (draws, N); else a random sign."""
    state = random_start(drawn, generator)
    for pattern in reversed(drawn.unbind(1)):
        state = torch.where(pattern == 0, state, pattern)
    return state


def random_start(drawn: Tensor, generator: torch.Generator) -> Tensor:
    """Independent random signs, (draws, N)."""
    return signs((drawn.shape[0], drawn.shape[2]), generator)


def signs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Independent ±1."""
    drawn = torch.randint(
        2, shape, generator=generator, device=generator.device, dtype=torch.float32
    )
    return drawn * 2 - 1
