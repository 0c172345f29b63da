"""Which weights a training ends with: the last, the best by a figure, or a running mean."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from harness.procedures.base import Diverged
from harness.procedures.recipe import Recipe

Weights = dict[str, Tensor]
Row = Mapping[str, float]


def best(values: Sequence[float], more: bool) -> int:
    """Index of the best value, the first of equals; NaN is never it, unless there is no other."""
    bad = -math.inf if more else math.inf
    clean = [bad if math.isnan(value) else value for value in values]
    return (max if more else min)(range(len(clean)), key=clean.__getitem__)


class Selection:
    """The best evaluation of one model so far, and its weights where they will be wanted."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.name = recipe.monitor
        self.row: dict[str, float] | None = None
        self.weights: Weights | None = None
        self.since = 0

    @property
    def wanted(self) -> bool:
        return self.recipe.select == "best" or self.recipe.patience is not None

    def look(self, row: Row, weights: Weights) -> None:
        """Take note of an evaluation."""
        if not self.wanted:
            return
        value = _figure(row, self.name)
        if self._better(value):
            self.row, self.since = dict(row), 0
            if self.recipe.select == "best":
                self.weights = copied(weights)
        else:
            self.since += 1

    @property
    def tired(self) -> bool:
        """Whether patience is at an end."""
        return self.recipe.patience is not None and self.since >= self.recipe.patience

    def _better(self, value: float) -> bool:
        if math.isnan(value):
            return False
        if self.row is None:
            return True
        before = _figure(self.row, self.name)
        gain = value - before if more(self.recipe, self.name) else before - value
        if gain == 0.0:
            return self.recipe.ties == "last"
        return gain > self.recipe.min_delta

    def chosen(self) -> tuple[dict[str, float], Weights] | None:
        """Figures and weights to end with; ``None`` for the last ones.

        Raises:
            Diverged: no evaluation had a figure to compare by.
        """
        if self.recipe.select == "last":
            return None
        if self.row is None or self.weights is None:
            raise Diverged(f"{self.name} was never a number: no weights can be selected")
        return self.row, self.weights

    def state(self) -> dict[str, Any]:
        return {"row": self.row, "weights": self.weights, "since": self.since}

    def load(self, state: Mapping[str, Any]) -> None:
        self.row, self.weights, self.since = state["row"], state["weights"], state["since"]


def refuse_undecided(recipe: Recipe, schedule: Any, validates: bool) -> None:
    """A figure that is to decide has to be there, and to be better one way.

    Args:
        recipe: what is trained by.
        schedule: of the learning rate, or ``None``.
        validates: whether there are figures of a validation split.

    Raises:
        ValueError: it is not.
    """
    plateau = isinstance(schedule, ReduceLROnPlateau)
    if not (plateau or recipe.patience is not None or recipe.select == "best"):
        return
    metric = str(recipe.monitor).removeprefix("val_")
    if recipe.monitor == f"val_{metric}" and metric in recipe.metrics and not validates:
        raise ValueError(f"the data has no validation split for {recipe.monitor}")
    if recipe.monitor != "train_loss" and metric not in recipe.directions:
        raise ValueError(f"is more or less {metric} better? mode: {{{metric}: max}} says it")
    if plateau and (schedule.mode == "max") != more(recipe, recipe.monitor):
        raise ValueError(f"ReduceLROnPlateau has the wrong mode for {recipe.monitor}")


def more(recipe: Recipe, name: str | None) -> bool:
    """Whether more of a figure is better."""
    return name != "train_loss" and recipe.directions[str(name).removeprefix("val_")]


def _figure(row: Row, name: str | None) -> float:
    if name not in row:
        raise ValueError(f"no figure {name!r} to select by; there are {', '.join(row)}")
    return row[str(name)]


class Average:
    """A running mean of weights: ``m ← decay m + (1 - decay) w``; buffers of counts are copied."""

    def __init__(self, decay: float, weights: Sequence[Weights]) -> None:
        self.decay = decay
        self.live = [tensor for each in weights for tensor in each.values()]
        self.mean = [tensor.detach().clone() for tensor in self.live]
        self._floating = [tensor.is_floating_point() for tensor in self.live]

    @torch.no_grad()
    def update(self) -> None:
        pairs = list(zip(self.mean, self.live, self._floating, strict=True))
        means = [mean for mean, _, floating in pairs if floating]
        torch._foreach_lerp_(means, [live for _, live, f in pairs if f], 1 - self.decay)
        for mean, live, floating in pairs:
            if not floating:
                mean.copy_(live)

    @torch.no_grad()
    def swap(self) -> None:
        """Put the mean into the model, and the model's own weights aside; and back again."""
        for mean, live in zip(self.mean, self.live, strict=True):
            aside = live.clone()
            live.copy_(mean)
            mean.copy_(aside)

    def state(self) -> list[Tensor]:
        return self.mean

    def load(self, state: Sequence[Tensor]) -> None:
        for mean, kept in zip(self.mean, state, strict=True):
            mean.copy_(kept)


def copied(weights: Weights) -> Weights:
    return {name: tensor.detach().clone() for name, tensor in weights.items()}
