"""Activation functions with the two derivatives that the theory's averages need (§2.2)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Pointwise = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Activation:
    """An activation σ with σ' and σ'' (the kink of ReLU left out of σ''; see ``slopes``).

    Attributes:
        value, first, second: σ, σ' and σ'' elementwise, any shape.
        slopes: ``(a_-, a_+)`` of a scale-invariant activation (2.14), else ``None``.
    """

    value: Pointwise
    first: Pointwise
    second: Pointwise
    slopes: tuple[float, float] | None = None

    def moment(self, order: int) -> float:
        """``A_m = (a_+^m + a_-^m) / 2`` of a scale-invariant activation.

        Raises:
            ValueError: for an activation that has a scale.
        """
        if self.slopes is None:
            raise ValueError("only scale-invariant activations have slopes")
        return sum(slope**order for slope in self.slopes) / 2


def piecewise_linear(negative: float, positive: float) -> Activation:
    """``a_+ z`` for z >= 0, ``a_- z`` below: all scale-invariant activations (2.14)."""

    def first(z: Tensor) -> Tensor:
        return torch.where(z >= 0, positive, negative).to(z.dtype)

    return Activation(lambda z: first(z) * z, first, torch.zeros_like, (negative, positive))


def _gelu_density(z: Tensor) -> Tensor:
    return torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _tanh_first(z: Tensor) -> Tensor:
    return 1 - torch.tanh(z) ** 2


def _sigmoid_first(z: Tensor) -> Tensor:
    gate = torch.sigmoid(z)
    return gate * (1 - gate)


def _sigmoid_second(z: Tensor) -> Tensor:
    return _sigmoid_first(z) * (1 - 2 * torch.sigmoid(z))


ACTIVATIONS: dict[str, Activation] = {
    "linear": piecewise_linear(1.0, 1.0),
    "relu": piecewise_linear(0.0, 1.0),
    "leaky": piecewise_linear(0.5, 1.0),
    "tanh": Activation(torch.tanh, _tanh_first, lambda z: -2 * torch.tanh(z) * _tanh_first(z)),
    "sin": Activation(torch.sin, torch.cos, lambda z: -torch.sin(z)),
    "gelu": Activation(
        lambda z: z * torch.special.ndtr(z),
        lambda z: torch.special.ndtr(z) + z * _gelu_density(z),
        lambda z: (2 - z * z) * _gelu_density(z),
    ),
    "swish": Activation(
        lambda z: z * torch.sigmoid(z),
        lambda z: torch.sigmoid(z) + z * _sigmoid_first(z),
        lambda z: 2 * _sigmoid_first(z) + z * _sigmoid_second(z),
    ),
    "sigmoid": Activation(torch.sigmoid, _sigmoid_first, _sigmoid_second),
    "softplus": Activation(torch.nn.functional.softplus, torch.sigmoid, _sigmoid_first),
}


def named(name: str) -> Activation:
    """An activation by its name.

    Raises:
        ValueError: naming those that exist.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"no activation {name!r}; there are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]
