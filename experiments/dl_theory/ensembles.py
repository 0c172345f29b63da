"""Ensembles of random networks, drawn in blocks, and series of what is measured on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from experiments.dl_theory.moments import Statistic, jackknife
from harness.procedures.base import Progress, Trial
from harness.records import Measured, Series
from harness.seeding import derive

BLOCKS = 20
_NUMBERS_AT_ONCE = 2_000_000
Sampler = Callable[[int, torch.Generator], Iterator[Tensor]]


def drawn_blocks(trial: Trial, purpose: str, networks: int, cost: int, sample: Sampler) -> Tensor:
    """Moments of many networks in blocks, shape (blocks, layers, moments).

    Args:
        trial: its seed and device.
        purpose: what the networks are for; another purpose draws other networks.
        networks: how many in all, split evenly over the blocks.
        cost: random numbers that a network needs at once, which bounds how many are drawn together.
        sample: from a number of networks and a generator to the moments, layer by layer.

    Raises:
        ValueError: for fewer networks than blocks.
    """
    if networks < BLOCKS:
        raise ValueError(f"{networks} networks are fewer than the {BLOCKS} blocks")
    size, blocks = networks // BLOCKS, []
    batch = max(1, min(size, _NUMBERS_AT_ONCE // cost))
    for block in range(BLOCKS):
        total: Tensor | None = None
        for start in range(0, size, batch):
            generator = torch.Generator(trial.device)
            generator.manual_seed(derive(trial.seed, purpose, block, start))
            count = min(batch, size - start)
            part = torch.stack([m.cpu() for m in sample(count, generator)]) * (count / size)
            total = part if total is None else total + part
        assert total is not None
        blocks.append(total)
        trial.report(Progress(block + 1, BLOCKS))
    return torch.stack(blocks)


def series(over: str, x: Sequence[float], blocks: Tensor, statistic: Statistic) -> Series:
    """A statistic with one value per point of x."""
    value, error = jackknife(blocks, statistic)
    return Series(over=over, x=[float(v) for v in x], y=value.tolist(), stderr=error.tolist())


def gathered(over: str, points: Mapping[float, Measured]) -> Series:
    """Measurements of separate ensembles as one series."""
    return Series(
        over=over,
        x=[float(x) for x in points],
        y=[m.value for m in points.values()],
        stderr=[m.stderr or 0.0 for m in points.values()],
    )
