"""The cost function of statistical mechanics beside the loss function of machine learning.

``L±_μ = |ξ^μ ∓ s|²/(2N)`` are the squared distances to a pattern and to its negative. With
``c_μ = |ξ^μ|²/N``, the share of entries that are not blank, ``L±_μ = (1 + c_μ)/2 ∓ m_μ``, and so
``H/N = -1/2 Σ_μ [(1 + c_μ)²/4 - L+_μ L-_μ]`` for every state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from experiments.multitasking_hopfield.network import HebbianNetwork
from experiments.multitasking_hopfield.patterns import diluted, signs
from harness.procedures.base import Outcome, Trial, exact
from harness.seeding import derive

Loss = Literal["product", "one-sided"]


def squared_errors(drawn: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """``L+`` and ``L-`` of patterns (draws, K, N) and states (draws, N), each (draws, K)."""
    half = 2 * drawn.shape[-1]
    plus = (drawn - state[:, None]).square().sum(-1) / half
    minus = (drawn + state[:, None]).square().sum(-1) / half
    return plus, minus


def energy_from_losses(drawn: Tensor, state: Tensor, occupied: Tensor) -> Tensor:
    """``H/N`` from the squared errors alone, (draws,).

    Args:
        occupied: c of each pattern, (draws, K).
    """
    plus, minus = squared_errors(drawn, state)
    return -((1 + occupied).square() / 4 - plus * minus).sum(-1) / 2


def local_minima(values: Tensor) -> Tensor:
    """Which of all 2^N states have no neighbour (one neuron flipped) of lower value.

    Args:
        values: (draws, 2^N), a state's neurons being the bits of its index.
    """
    index = torch.arange(values.shape[1])
    lowest = torch.ones_like(values, dtype=torch.bool)
    for neuron in range(values.shape[1].bit_length() - 1):
        lowest &= values <= values[:, index ^ (1 << neuron)] + 1e-9
    return lowest


class Minima:
    """All states of small networks, and random states of large ones; double precision.

    Args:
        patterns: K.
        dilution: d.
        networks: how many of either size.
        small, large: N.
        loss: ``product`` is ``Σ L+ L-``; ``one-sided``, a control, is ``Σ L+``.
        occupied: c as it is in each pattern (``drawn``), or its ``mean`` 1 - d, a control.
    """

    def __init__(
        self,
        patterns: int = 3,
        dilution: float = 0.3,
        networks: int = 100,
        small: int = 12,
        large: int = 500,
        loss: Loss = "product",
        occupied: Literal["drawn", "mean"] = "drawn",
    ) -> None:
        self.shape = (networks, patterns)
        self.dilution = dilution
        self.small, self.large = small, large
        self.loss = loss
        self.occupied = occupied

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"identity_error", "shared_minima"}

    def run(self, trial: Trial) -> Outcome:
        generator = torch.Generator().manual_seed(derive(trial.seed, "minima"))
        error, shared = self._identity_error(generator), self._shared_minima(generator)
        return Outcome({"identity_error": exact(error), "shared_minima": exact(shared)})

    def _identity_error(self, generator: torch.Generator) -> float:
        drawn = diluted((*self.shape, self.large), self.dilution, generator).double()
        state = signs((self.shape[0], self.large), generator).double()
        occupied = drawn.abs().mean(-1)
        if self.occupied == "mean":
            occupied = torch.full_like(occupied, 1 - self.dilution)
        energy = HebbianNetwork(drawn).energy(state)
        return float((energy - energy_from_losses(drawn, state, occupied)).abs().max())

    def _shared_minima(self, generator: torch.Generator) -> float:
        """Local minima of both H and the loss, over those of either."""
        drawn = diluted((*self.shape, self.small), self.dilution, generator).double()
        bits = torch.arange(2**self.small)[:, None] >> torch.arange(self.small) & 1
        m = torch.einsum("rkn,sn->rsk", drawn, bits.double() * 2 - 1) / self.small
        middle = (1 + drawn.abs().mean(-1))[:, None] / 2
        energy = -m.square().sum(-1) / 2
        loss = middle - m if self.loss == "one-sided" else (middle - m) * (middle + m)
        ours, theirs = local_minima(energy), local_minima(loss.sum(-1))
        return float((ours & theirs).sum() / (ours | theirs).sum())
