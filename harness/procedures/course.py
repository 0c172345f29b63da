"""Where a training is: steps made, figures so far, who has stopped; what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from harness.procedures.base import Diverged
from harness.procedures.recipe import Recipe
from harness.procedures.selection import Selection, Weights, copied

Row = dict[str, float]


@dataclass
class Member:
    """One of the models that are trained.

    Attributes:
        rows: figures of every evaluation.
        ended: the steps it was trained for, if it has stopped before the others.
        weights: those it had then.
        error: why it has no result.
    """

    selection: Selection
    rows: list[Row] = field(default_factory=list)
    ended: int | None = None
    weights: Weights | None = None
    error: Diverged | None = None

    @property
    def alive(self) -> bool:
        return self.ended is None and self.error is None

    def figures(self) -> Row:
        """Those of the weights that it ends with."""
        chosen = self.selection.chosen()
        return chosen[0] if chosen else self.rows[-1]

    def end(self, step: int, weights: Weights) -> None:
        self.ended, self.weights = step, copied(weights)

    def state(self) -> dict[str, Any]:
        error = None if self.error is None else str(self.error)
        own = {"rows": self.rows, "ended": self.ended, "weights": self.weights, "error": error}
        return own | {"selection": self.selection.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        self.selection.load(state["selection"])
        self.rows, self.ended, self.weights = state["rows"], state["ended"], state["weights"]
        self.error = None if state["error"] is None else Diverged(state["error"])


class Course:
    """Steps, epochs and figures of models that are trained side by side.

    Args:
        recipe: says how long, and how often it is evaluated.
        seeds: one for each model.
        per_epoch: steps of an epoch.
        device: where losses are added up.
    """

    def __init__(
        self, recipe: Recipe, seeds: Sequence[int], per_epoch: int, device: torch.device
    ) -> None:
        self.recipe, self.seeds, self.per_epoch = recipe, list(seeds), per_epoch
        self.steps = recipe.steps or per_epoch * (recipe.epochs or 0)
        self.epochs = -(-self.steps // per_epoch)
        self.step = 0
        self.members = [Member(Selection(recipe)) for _ in seeds]
        self.total = torch.zeros(len(seeds), dtype=torch.float64, device=device)
        self.examples = 0

    @property
    def epoch(self) -> int:
        """Whole epochs so far."""
        return self.step // self.per_epoch

    @property
    def alive(self) -> list[int]:
        return [index for index, member in enumerate(self.members) if member.alive]

    @property
    def over(self) -> bool:
        return self.step >= self.steps or not self.alive

    def until(self) -> int:
        """The step before which there is nothing to evaluate, report or save."""
        ends = [self.steps, (self.epoch + 1) * self.per_epoch]
        if every := self.recipe.eval_steps:
            ends.append((self.step // every + 1) * every)
        return min(ends)

    @property
    def epoch_ended(self) -> bool:
        return self.step % self.per_epoch == 0

    @property
    def evaluates(self) -> bool:
        """Whether the models are evaluated now."""
        if self.step >= self.steps:
            return True
        if self.recipe.eval_steps:
            return self.step % self.recipe.eval_steps == 0
        return self.epoch_ended and self.epoch % self.recipe.eval_every == 0

    def add(self, losses: torch.Tensor, examples: int) -> None:
        """The losses of a step, which count by its examples."""
        self.total.add_(losses, alpha=examples)
        self.examples += examples

    def mean(self, total: torch.Tensor) -> list[float]:
        """Each model's mean loss over examples."""
        found: list[float] = (total / max(self.examples, 1)).tolist()
        return found

    def forget(self) -> None:
        """Begin another mean of losses."""
        self.total.zero_()
        self.examples = 0

    def place(self) -> Row:
        """The row's place in the training: epochs (with their fraction) and steps."""
        return {"epoch": self.step / self.per_epoch, "step": float(self.step)}

    def state(self) -> dict[str, Any]:
        return {
            "seeds": self.seeds,
            "step": self.step,
            "total": self.total,
            "examples": self.examples,
            "members": [member.state() for member in self.members],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.step, self.examples = state["step"], state["examples"]
        self.total.copy_(state["total"])
        for member, kept in zip(self.members, state["members"], strict=True):
            member.load(kept)
