"""Layers of categorical variables, and the flat states that hold all of them.

A site of a layer has ``groups`` variables of ``states`` values each. A state of the network is
(B, N): for each layer its values (groups, states, height, width), one layer after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Layer(NamedTuple):
    """Sizes of a layer; one without sites has height and width 1."""

    states: int
    groups: int = 1
    height: int = 1
    width: int = 1

    @property
    def channels(self) -> int:
        return self.states * self.groups

    @property
    def size(self) -> int:
        return self.channels * self.height * self.width


def images(flat: Tensor, layers: Sequence[Layer]) -> list[Tensor]:
    """Each layer's part of (B, N) as (B, channels, height, width)."""
    parts = torch.split(flat, [layer.size for layer in layers], dim=1)
    return [
        part.reshape(-1, layer.channels, layer.height, layer.width)
        for part, layer in zip(parts, layers, strict=True)
    ]


def variables(flat: Tensor, layers: Sequence[Layer]) -> list[Tensor]:
    """Each layer's part of (B, N) as (B, groups, states, sites)."""
    parts = torch.split(flat, [layer.size for layer in layers], dim=1)
    return [
        part.reshape(len(part), layer.groups, layer.states, -1)
        for part, layer in zip(parts, layers, strict=True)
    ]


def flat(parts: Sequence[Tensor]) -> Tensor:
    """(B, N) of what :func:`images` or :func:`variables` gave."""
    return torch.cat([part.flatten(1) for part in parts], dim=1)


def by_states(flat: Tensor, layers: Sequence[Layer]) -> list[Tensor]:
    """All variables of (B, N) with as many states, of whatever layer: each (B, states, count)."""
    found: dict[int, list[Tensor]] = {}
    for part, layer in zip(variables(flat, layers), layers, strict=True):
        found.setdefault(layer.states, []).append(part.transpose(1, 2).flatten(2))
    return [parts[0] if len(parts) == 1 else torch.cat(parts, 2) for parts in found.values()]


def from_states(parts: Sequence[Tensor], layers: Sequence[Layer]) -> Tensor:
    """(B, N) of what :func:`by_states` gave."""
    order = list(dict.fromkeys(layer.states for layer in layers))
    counts = {s: [n.size // s for n in layers if n.states == s] for s in order}
    left = {s: iter(torch.split(p, counts[s], dim=2)) for s, p in zip(order, parts, strict=True)}
    taken = [
        next(left[n.states]).reshape(-1, n.states, n.groups, n.height * n.width).transpose(1, 2)
        for n in layers
    ]
    return flat(taken)


def softmax(fields: Tensor, layers: Sequence[Layer]) -> Tensor:
    """Softmax over each variable's states of (B, N)."""
    return flat([part.softmax(2) for part in variables(fields, layers)])


def uniform(layers: Sequence[Layer], like: Tensor) -> Tensor:
    """The state (N,) in which every value of a variable is as likely as any other."""
    return torch.cat([like.new_full((layer.size,), 1 / layer.states) for layer in layers])


def scattered(layers: Sequence[Layer], count: int, generator: torch.Generator) -> Tensor:
    """Random states (count, N), near the corners of the simplices."""
    size = sum(layer.size for layer in layers)
    drawn = torch.randn(
        count, size, generator=generator, device=generator.device, dtype=torch.float64
    )
    return softmax(5 * drawn, layers)


def matrix_of(
    apply: Callable[[Tensor], Tensor], layers: Sequence[Layer], dtype: torch.dtype
) -> Tensor:
    """The matrix (N, N) of a linear map of states: what it makes of each unit vector."""
    size = sum(layer.size for layer in layers)
    return apply(torch.eye(size, dtype=dtype)).mT


def variable_blocks(matrix: Tensor, layers: Sequence[Layer]) -> list[Tensor]:
    """Every variable's diagonal block of (N, N), by layer (variables, states, states)."""
    found, start = [], 0
    for layer in layers:
        index = start + torch.arange(layer.size).view(layer.groups, layer.states, -1)
        index = index.movedim(1, -1).reshape(-1, layer.states)
        found.append(matrix[index[:, :, None], index[:, None, :]])
        start += layer.size
    return found


def owners(layers: Sequence[Layer]) -> Tensor:
    """Which variable each entry of a state belongs to, (N,), numbered from 0."""
    found, start = [], 0
    for layer in layers:
        count = layer.groups * layer.height * layer.width
        own = torch.arange(start, start + count).view(layer.groups, 1, -1)
        found.append(own.expand(-1, layer.states, -1).flatten())
        start += count
    return torch.cat(found)
