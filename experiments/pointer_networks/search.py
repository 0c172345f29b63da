"""Beam search over output tokens, batched, with or without constraints on what is valid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from experiments.pointer_networks.model import PAD, EncoderDecoder

Constraint = Literal["none", "polygon", "tour"]
_Rule = Callable[[Tensor, Tensor, int], Tensor]


@torch.no_grad()
def beam_search(
    model: EncoderDecoder,
    points: Tensor,
    lengths: Tensor | None = None,
    *,
    steps: int,
    width: int = 1,
    constraint: Constraint = "none",
    renormalised: bool = False,
) -> Tensor:
    """The most probable output found with ``width`` beams; ``width = 1`` is greedy decoding.

    A beam ends with token 0. Probabilities are the model's own: those of tokens that the
    constraint rules out are not spread over the rest, unless they are ``renormalised``.

    Args:
        points: (B, n, 2).
        lengths: points of each instance (B,).
        steps: longest output, with its final 0.
        constraint: ``polygon``: at least three points, none twice; ``tour``: every point once.
        renormalised: compare beams by the probabilities of each token among those allowed.

    Returns:
        Tokens (B, m) with m <= steps, without the final 0, padded with -1.
    """
    count, n, _ = points.shape
    memory, state = model.encode(points, lengths)
    memory, state = memory.repeat(width), state.pick(_rows(count, width, points.device))
    first_beam = torch.arange(count, device=points.device).unsqueeze(1) * width
    score = points.new_full((count, width), -torch.inf)
    score[:, 0] = 0.0
    tokens = points.new_zeros((count * width, 0), dtype=torch.int64)
    last = points.new_zeros(count * width, dtype=torch.int64)
    used = memory.absent.clone()
    ended = torch.zeros_like(last, dtype=torch.bool)
    for step in range(steps):
        logits, state = model.step(memory, last, state)
        allowed = _RULES[constraint](used, memory.absent, step)
        if renormalised:
            logits = logits.masked_fill(~allowed, -torch.inf)
        logp = logits.log_softmax(dim=-1).masked_fill(~allowed, -torch.inf)
        logp = torch.where(ended.unsqueeze(1), _only_end(logp), logp)
        total = (score.view(-1, 1) + logp).view(count, width * (n + 1))
        score, best = total.topk(width, dim=1)
        origin = (best // (n + 1) + first_beam).view(-1)
        last = (best % (n + 1)).view(-1)
        tokens = torch.cat([tokens[origin], last.unsqueeze(1)], dim=1)
        state = state.pick(origin)
        used = used[origin].scatter(1, last.unsqueeze(1), True)
        ended = ended[origin] | (last == 0)
        if ended.all():
            break
    first = tokens.view(count, width, -1)[:, 0]
    return torch.where((first == 0).cumsum(dim=1) > 0, PAD, first)


def _rows(count: int, width: int, device: torch.device) -> Tensor:
    return torch.arange(count, device=device).repeat_interleave(width)


def _only_end(logp: Tensor) -> Tensor:
    out = torch.full_like(logp, -torch.inf)
    out[:, 0] = 0.0
    return out


def _anything(used: Tensor, absent: Tensor, step: int) -> Tensor:
    return ~absent


def _polygon(used: Tensor, absent: Tensor, step: int) -> Tensor:
    allowed = ~used
    allowed[:, 0] = step >= 3
    return allowed


def _tour(used: Tensor, absent: Tensor, step: int) -> Tensor:
    allowed = ~used
    allowed[:, 0] = ~allowed[:, 1:].any(dim=1)
    return allowed


_RULES: dict[str, _Rule] = {"none": _anything, "polygon": _polygon, "tour": _tour}
