"""Losses whose gradients can be gathered chunk by chunk over the sequence (section 3.1).

Each loss is ``sum over groups g of outer(sum over chunks of part)``: ``part`` adds up over tokens,
``outer`` is a scalar function of a group's sum. So every gradient is the sum of the parts'
gradients times the derivative of ``outer``, which is known once the last chunk is through.
Position t of the logits predicts token t + 1. Shapes: B sequences, T tokens, C vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORED = -100  # label of a position that is not learnt


def log_probabilities(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-probability (b, t) of the labels, 0 where these are ``IGNORED``."""
    fine = logits.to(torch.promote_types(logits.dtype, torch.float32))
    loss = F.cross_entropy(
        fine.flatten(0, 1), labels.flatten(), reduction="none", ignore_index=IGNORED
    )
    return -loss.view_as(labels)


def next_tokens(tokens: Tensor, valid: Tensor | None = None) -> Tensor:
    """Labels (B, T): the token that follows, ``IGNORED`` at the end and at padding."""
    labels = tokens.roll(-1, 1)
    labels[:, -1] = IGNORED
    if valid is not None:
        follows = valid.roll(-1, 1)
        labels = labels.masked_fill(~(valid & follows), IGNORED)
    return labels


class Objective(Protocol):
    groups: list[slice]  # of sequences
    linear: bool  # ``outer`` is: its derivative is known before the sum is

    def part(self, logits: Tensor, group: slice, rows: slice) -> Tensor:
        """The scalar that these rows of a group's logits (b, t, C) contribute."""
        ...

    def outer(self, total: Tensor, group: slice) -> Tensor:
        """The loss of a group, from the sum of its parts."""
        ...


@dataclass
class SFT:
    """Cross-entropy of the next token, over all valid labels (B, T) of the batch at once."""

    labels: Tensor

    def __post_init__(self) -> None:
        self.groups, self.linear = [slice(0, len(self.labels))], True

    def part(self, logits: Tensor, group: slice, rows: slice) -> Tensor:
        return -log_probabilities(logits, self.labels[group, rows]).sum()

    def outer(self, total: Tensor, group: slice) -> Tensor:
        return total / (self.labels != IGNORED).sum()


@dataclass
class DPO:
    """Direct preference optimisation; sequences 2 i and 2 i + 1 are chosen and rejected.

    ``-log sigmoid(beta * r)`` with r the sum over tokens of policy minus reference
    log-probabilities, chosen less rejected: not a sum over tokens, but a function of one.

    Args:
        labels: (B, T), ``IGNORED`` at prompts and padding.
        reference: log-probabilities (B, T) under the reference model.
        beta: strength of the preference.
    """

    labels: Tensor
    reference: Tensor
    beta: float = 0.1

    def __post_init__(self) -> None:
        self.groups, self.linear = [slice(i, i + 2) for i in range(0, len(self.labels), 2)], False

    def part(self, logits: Tensor, group: slice, rows: slice) -> Tensor:
        labels = self.labels[group, rows]
        reference = self.reference[group, rows].masked_fill(labels == IGNORED, 0.0)
        chosen, rejected = (log_probabilities(logits, labels) - reference).sum(1)
        margin: Tensor = chosen - rejected
        return margin

    def outer(self, total: Tensor, group: slice) -> Tensor:
        return -F.logsigmoid(self.beta * total) / len(self.groups)


@dataclass
class GRPO:
    """Group-relative policy optimisation: clipped ratios less a KL term, a sum over tokens.

    Args:
        labels: (B, T), ``IGNORED`` outside completions.
        old: log-probabilities (B, T) under the policy that drew the completions.
        reference: the same under the reference model.
        advantages: (B,), rewards normalised within their group.
        clip: bound on the ratio's distance to 1.
        beta: weight of the KL term.
    """

    labels: Tensor
    old: Tensor
    reference: Tensor
    advantages: Tensor
    clip: float = 0.2
    beta: float = 0.04

    def __post_init__(self) -> None:
        self.groups, self.linear = [slice(0, len(self.labels))], True

    def part(self, logits: Tensor, group: slice, rows: slice) -> Tensor:
        labels = self.labels[group, rows]
        found = log_probabilities(logits, labels)
        ratio = (found - self.old[group, rows]).exp()
        advantage = self.advantages[group, None].to(ratio)
        bounded = ratio.clamp(1 - self.clip, 1 + self.clip)
        gain = torch.minimum(ratio * advantage, bounded * advantage)
        gap = self.reference[group, rows] - found
        kl = gap.exp() - gap - 1
        return (self.beta * kl - gain).masked_fill(labels == IGNORED, 0.0).sum()

    def outer(self, total: Tensor, group: slice) -> Tensor:
        return total / (self.labels != IGNORED).sum()


def slope(objective: Objective, total: Tensor, group: slice) -> Tensor:
    """The derivative of a group's ``outer`` at ``total``."""
    total = total.detach().requires_grad_()
    with torch.enable_grad():
        (found,) = torch.autograd.grad(objective.outer(total, group), total)
    return found


def whole(objective: Objective, logits: Tensor) -> Tensor:
    """The loss from all logits (B, T, C) at once."""
    rows = slice(0, logits.shape[1])
    groups = objective.groups
    losses = [objective.outer(objective.part(logits[g], g, rows), g) for g in groups]
    return torch.stack(losses).sum()
