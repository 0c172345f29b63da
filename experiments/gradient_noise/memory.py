"""End-to-end memory network (Sukhbaatar et al. 2015), as Section 4.2 trains it on bAbI."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

SENTENCES_PER_BLANK = 10  # while training, empty memories are put between the sentences


class MemoryNetwork(nn.Module):
    """K hops of attention over the sentences of a story, with adjacent weight sharing.

    With A_{k+1} = C_k, B = A_1 and Wᵀ = C_K there are K + 1 embeddings E_0 … E_K:

        u_1 = E_0 q,  m_i = E_{k-1} x_i + T_{k-1}(i),  c_i = E_k x_i + T_k(i),
        p_i = softmax_i(u_kᵀ m_i),  u_{k+1} = u_k + Σ_i p_i c_i,  logits = E_Kᵀ u_{K+1}.

    A sentence is encoded by position: word j of J is weighted in dimension k of d by
    1 + κ_k π_j, with κ_k = 2 (k - (d+1)/2) / d and π_j = 2 (j - (J+1)/2) / J, which is twice
    the paper's l_kj up to terms in 1/d and 1/J. The sum over words then has rank two, so a
    sentence comes as two bags of words: counts, and counts weighted by π.

    Empty slots have score 0 and add nothing, but take part in the softmax, as in the code
    released by the authors.

    Args:
        words: size of the vocabulary V, from which answers are taken.
        sentences: slots S of the memory.
        dim: embedding dimension d.
        hops: K.

    Attributes:
        draws: uniform random numbers that one training example needs.
    """

    def __init__(self, words: int, sentences: int, dim: int = 20, hops: int = 3) -> None:
        super().__init__()
        self.kappa: Tensor
        self.dim = dim
        self.hops = hops
        self.embedding = nn.Parameter(0.1 * torch.randn(words, (hops + 1) * dim))
        self.time = nn.Parameter(0.1 * torch.randn(sentences, (hops + 1) * dim))
        rank = torch.arange(1, dim + 1)
        kappa = 2 * (rank - (dim + 1) / 2) / dim
        self.register_buffer("kappa", kappa.repeat(hops + 1), persistent=False)
        self.draws = 1 + most_blanks(sentences)

    def forward(
        self,
        story: Tensor,
        question: Tensor,
        length: Tensor,
        draws: Tensor | None = None,
        linear: bool = False,
    ) -> Tensor:
        """Scores of the answers.

        Args:
            story: (batch, S, 2 V), the latest sentence first; counts, and counts weighted by π.
            question: (batch, 2 V), likewise.
            length: (batch,) sentences of the story; the slots after them are empty.
            draws: (batch, 1 + blanks) uniform numbers for the noise in time; none when testing.
            linear: leave out the softmax over memories (the first stage of "linear start").

        Returns:
            (batch, V).
        """
        slots = torch.arange(story.shape[1], device=story.device)
        when = slots.expand(story.shape[0], -1)
        if draws is not None:
            when = noisy_times(when, length, draws)
        # Empty slots look up a row of zeros behind the last time.
        when = torch.where(slots < length[:, None], when, len(slots))
        encoder = self._encoder()
        memory = story @ encoder + pad(self.time, (0, 0, 0, 1))[when]
        levels = torch.split(memory, self.dim, -1)
        state = question @ encoder[:, : self.dim]
        for hop in range(self.hops):
            scores = torch.einsum("bsd,bd->bs", levels[hop], state)
            weights = scores if linear else scores.softmax(-1)
            state = state + torch.einsum("bs,bsd->bd", weights, levels[hop + 1])
        return state @ self.embedding[:, -self.dim :].T

    def _encoder(self) -> Tensor:
        """(2 V, (K + 1) d): from both bags of words to all K + 1 embeddings at once."""
        return torch.cat([self.embedding, self.embedding * self.kappa])


def most_blanks(sentences: int) -> int:
    """The largest number of empty memories that :func:`noisy_times` puts into a story."""
    return int(_kinds(sentences)) - 1


def noisy_times(times: Tensor, length: Tensor, draws: Tensor) -> Tensor:
    """Time indices after empty memories were put between the sentences at random places.

    Their number is uniform on {0, …, ⌈0.1 n⌉} for a story of n sentences. Putting each into
    one of the gaps of what is there makes all arrangements equally likely.

    Args:
        times: (batch, S) indices 0 … S-1, the latest sentence first.
        length: (batch,) n.
        draws: (batch, 1 + blanks) uniform on [0, 1): their number, then a place for each.

    Returns:
        (batch, S), increasing within a story, at most S - 1.
    """
    last = times.shape[-1] - 1
    blanks = (draws[:, 0] * _kinds(length)).floor()
    for index in range(draws.shape[-1] - 1):
        place = (draws[:, index + 1] * (length + index + 1)).floor()
        after = times >= place[:, None]
        times = times + (after & (index < blanks)[:, None])
    return times.clamp(max=last)


def _kinds(length: Any) -> Any:
    """How many numbers of blanks are possible: none to a tenth of the sentences, rounded up."""
    return (length + SENTENCES_PER_BLANK - 1) // SENTENCES_PER_BLANK + 1
