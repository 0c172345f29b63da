"""Moments over networks, and what is computed from them, with standard errors.

Networks are drawn in blocks. A block's moments are means over its networks; a statistic of the
mean over blocks (a ratio, a fitted slope) gets its standard error by the jackknife over blocks,
so that correlations between layers of the same networks are accounted for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from harness.records import Measured

Statistic = Callable[[Tensor], Tensor]


def preactivation_moments(z: Tensor) -> Tensor:
    """Means over networks of four moments of one layer.

    With ``s = mean z²`` over the n neurons of a network: ``s``, the mean of ``z_i² z_j²`` over
    pairs i != j, ``s²`` and ``s³``. ``z`` has shape (networks, n); the result has shape (4,).
    Sums over networks are in double precision, those over neurons in that of ``z``.
    """
    squares = z.square()
    n = z.shape[1]
    s, fourth = squares.mean(1).double(), squares.square().mean(1).double()
    pairs = (n * s.square() - fourth) / (n - 1)
    return torch.stack([s, pairs, s**2, s**3]).mean(1)


def two_point(moments: Tensor) -> Tensor:
    """G_2 per layer, from moments of shape (layers, 4)."""
    return moments[:, 0]


def vertex_ratio(moments: Tensor) -> Tensor:
    """Connected ``E[z_i² z_j²]`` of i != j over G_2², that is V / (n K²), per layer."""
    return moments[:, 1] / moments[:, 0] ** 2 - 1


def jackknife(blocks: Tensor, statistic: Statistic) -> tuple[Tensor, Tensor]:
    """A statistic of the mean over blocks, with its standard error.

    Args:
        blocks: block means, shape (blocks, …).
        statistic: from a mean, shape (…), to a tensor of any shape.

    Raises:
        ValueError: for fewer than two blocks.
    """
    count = len(blocks)
    if count < 2:
        raise ValueError("the jackknife needs two blocks")
    total = blocks.sum(0)
    left_out = torch.stack([statistic((total - block) / (count - 1)) for block in blocks])
    spread = (left_out - left_out.mean(0)).square().sum(0)
    return statistic(total / count), (spread * (count - 1) / count).sqrt()


def measured(blocks: Tensor, statistic: Statistic) -> Measured:
    """A scalar statistic as it is recorded.

    Raises:
        ValueError: when it is not a finite number.
    """
    value, error = jackknife(blocks, statistic)
    if not math.isfinite(float(value)):
        raise ValueError(f"the statistic is {float(value)}")
    return Measured(value=float(value), stderr=float(error))


def slope(x: Iterable[float], y: Tensor) -> Tensor:
    """Least-squares slope of y, shape (points,), over x."""
    points = torch.as_tensor(list(x), dtype=y.dtype)
    centred = points - points.mean()
    return (centred * y).sum() / centred.square().sum()
