"""Networks of ±1 neurons whose couplings are sums over patterns or examples, and their sampling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class HebbianNetwork:
    """``H = -(g N / 2) Σ_v m_v²`` with ``m_v = (1/N) Σ_i e_vi s_i``, in many draws at once.

    The same energy belongs to a restricted Boltzmann machine with one Gaussian hidden unit for each
    vector. Given the neurons, a hidden unit is Gaussian around its overlap with variance T/(g N);
    given the hidden units, neurons are independent. Drawing both in turns updates all N neurons at
    once and has exactly the Boltzmann distribution of H, at any N and T > 0.

    Args:
        vectors: e, shape (draws, V, N).
        strength: g, which makes the network order at T = 1 - d.
    """

    def __init__(self, vectors: Tensor, strength: float = 1.0) -> None:
        self.vectors = vectors
        self.strength = strength
        self.neurons = vectors.shape[-1]

    @classmethod
    def supervised(cls, copies: Tensor, quality: float) -> HebbianNetwork:
        """A teacher has grouped the examples (draws, K, M, N) by pattern: their means are stored.

        The strength is 1/R, where ``R = r² + (1 - r²)/M`` is the mean square of such a mean.
        """
        return cls(copies.mean(2), 1 / mean_square(quality, copies.shape[2]))

    @classmethod
    def unsupervised(cls, copies: Tensor, quality: float) -> HebbianNetwork:
        """Every example (draws, K, M, N) is stored by itself, of whatever pattern: 1/(R M)."""
        count = copies.shape[2]
        return cls(copies.flatten(1, 2), 1 / (mean_square(quality, count) * count))

    def overlaps(self, state: Tensor) -> Tensor:
        """m_v of states (draws, N), shape (draws, V)."""
        return overlaps(self.vectors, state)

    def energy(self, state: Tensor) -> Tensor:
        """H / N, shape (draws,)."""
        return -self.strength / 2 * self.overlaps(state).square().sum(-1)

    def alignment(self, state: Tensor) -> Tensor:
        """``s_i h_i`` with the field of all *other* neurons, (draws, N).

        The state is stable at T = 0 where none is negative.
        """
        field = torch.einsum("rv,rvn->rn", self.overlaps(state), self.vectors)
        return self.strength * (field * state - self.vectors.square().sum(1) / self.neurons)

    def update(self, state: Tensor, noise: float, generator: torch.Generator) -> Tensor:
        """Hidden units given all neurons, then all neurons given these, (draws, N)."""
        device = state.device
        hidden = self.overlaps(state)
        spread = (noise / (self.strength * self.neurons)) ** 0.5
        hidden = hidden + spread * torch.randn(hidden.shape, generator=generator, device=device)
        field = self.strength * torch.einsum("rv,rvn->rn", hidden, self.vectors)
        chance = torch.rand(state.shape, generator=generator, device=device)
        return torch.where(chance < torch.sigmoid(2 / noise * field), 1.0, -1.0)

    def sample(
        self, state: Tensor, noise: Sequence[float], drawn: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Magnetisations of patterns along a schedule of T.

        Args:
            state: where to start, (draws, N).
            noise: T of each update.
            drawn: the patterns (draws, K, N) whose magnetisations are recorded.

        Returns:
            Shape (updates, draws, K).
        """
        path = []
        for level in noise:
            state = self.update(state, level, generator)
            path.append(overlaps(drawn, state))
        return torch.stack(path)


def overlaps(vectors: Tensor, state: Tensor) -> Tensor:
    """``(1/N) Σ_i e_vi s_i`` of (draws, V, N) with (draws, N), shape (draws, V)."""
    return torch.bmm(vectors, state[:, :, None])[:, :, 0] / vectors.shape[-1]


def mean_square(quality: float, count: int) -> float:
    """``R = r² + (1 - r²)/M`` of an entry averaged over M examples of quality r."""
    return quality**2 + (1 - quality**2) / count


def cooling(start: float, end: float, updates: int) -> list[float]:
    """T of each update: falling geometrically over three quarters of them, then constant.

    Patterns of every rank set in at a T of their own; in this way none is passed in a hurry.
    """
    falling = updates - updates // 4
    ratio = (end / start) ** (1 / max(1, falling - 1))
    return [start * ratio**update for update in range(falling)] + [end] * (updates - falling)
