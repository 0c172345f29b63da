"""Error consistency (Geirhos et al., 2020): which images two classifiers fail on together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from experiments.guidance.procedure import AT_ONCE, Guided
from harness.loading.splits import Split
from harness.procedures.base import Outcome, Trial


def kappa(one: Tensor, other: Tensor) -> float:
    """(c - e) / (1 - e) of two classifiers' right answers (n,), booleans.

    c is the share of examples that both get right or both get wrong, e what it would be if errors
    were independent. 0 where e is 1: two classifiers that are always right say nothing.
    """
    one, other = one.double(), other.double()
    agree = float((one == other).double().mean())
    by_chance = float(one.mean() * other.mean() + (1 - one.mean()) * (1 - other.mean()))
    return 0.0 if by_chance == 1 else (agree - by_chance) / (1 - by_chance)


class Consistency(Guided):
    """Two targets alike but for their guides: whose errors do they make?

    Measured: ``own_kappa``, the mean κ of a target and its guide; ``other_kappa``, of a target and
    the other's guide; ``kappa_gain``, their difference; ``guides_kappa`` and ``targets_kappa``.

    Args:
        other: makes the second guide.
        guided: the arguments of :class:`Guided`.
    """

    def __init__(self, other: Callable[[], nn.Module], **guided: Any) -> None:
        super().__init__(**guided)
        self.other = other

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"own_kappa", "other_kappa", "kappa_gain", "guides_kappa", "targets_kappa"}

    @classmethod
    def sometimes(cls, init_args: Mapping[str, Any]) -> set[str]:
        return set()

    def run(self, trial: Trial) -> Outcome:
        guides, targets = [], []
        for role in ("guide", "other"):
            recipe = copy.copy(self)
            recipe.role, recipe.guide = role, getattr(self, role)
            prepared, data, _ = recipe._prepared(trial)
            trained, _ = prepared.best(data, trial)
            guide = recipe._guide(trial).to(trial.device)
            guides.append(right(guide, trial.data.test, trial.device))
            targets.append(right(trained.model, trial.data.test, trial.device))
        own = [kappa(t, g) for t, g in zip(targets, guides, strict=True)]
        others = [kappa(t, g) for t, g in zip(targets, reversed(guides), strict=True)]
        found = {"own_kappa": sum(own) / 2, "other_kappa": sum(others) / 2}
        found["kappa_gain"] = found["own_kappa"] - found["other_kappa"]
        found |= {"guides_kappa": kappa(*guides), "targets_kappa": kappa(*targets)}
        return Outcome(found)


@torch.no_grad()
def right(model: nn.Module, split: Split, device: torch.device) -> Tensor:
    """Whether the model is right about each example (n,)."""
    found = []
    for rows in torch.split(torch.arange(len(split)), AT_ONCE):
        batch = split[rows]
        answers = model(batch["x"].to(device)).argmax(1)
        found.append(answers == batch["y"].to(device))
    return torch.cat(found)
