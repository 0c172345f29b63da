"""Fixed points of ``q = step(q)``, plain or with Anderson's acceleration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Settings:
    """How long a fixed point is looked for.

    Attributes:
        tolerance: of ``|step(q) - q| / |step(q)|``, over the whole batch.
        steps: at most.
        memory: points that Anderson's acceleration combines; 1 is the plain iteration.
        ridge: λ in its normal equations.
    """

    tolerance: float = 1e-2
    steps: int = 50
    memory: int = 5
    ridge: float = 1e-4


@dataclass(frozen=True)
class Found:
    """A fixed point (B, N), the steps it took, and whether the tolerance was met."""

    point: Tensor
    steps: int
    converged: bool


def fixed_point(step: Callable[[Tensor], Tensor], start: Tensor, settings: Settings) -> Found:
    """Iterate from ``start`` (B, N); every row has coefficients of its own."""
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    q = start
    for count in range(1, settings.steps + 1):
        inputs, outputs = [*inputs, q][-settings.memory :], [*outputs, step(q)][-settings.memory :]
        change = float((outputs[-1] - q).norm() / (1e-5 + outputs[-1].norm()))
        if change < settings.tolerance:
            return Found(outputs[-1], count, True)
        q = _combined(inputs, outputs, settings.ridge)
    return Found(outputs[-1], settings.steps, False)


def _combined(inputs: list[Tensor], outputs: list[Tensor], ridge: float) -> Tensor:
    """The combination of outputs, with weights of sum one, whose combined residual is smallest."""
    if len(inputs) == 1:
        return outputs[0]
    after = torch.stack(outputs, 1)
    residuals = after - torch.stack(inputs, 1)
    gram = residuals @ residuals.mT
    gram = gram + ridge * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    weights = torch.linalg.solve(gram, torch.ones_like(gram[..., 0]))
    weights = weights / weights.sum(-1, keepdim=True)
    return torch.einsum("bm,bmn->bn", weights, after)
