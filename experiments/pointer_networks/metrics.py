"""How predictions are judged (sections 4.2 to 4.4), instance by instance.

Predicted and target tokens are (N, m) and (N, w): 1..n, then padding with -1; targets may hold
the end token 0 after the last point.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torchmetrics import Metric

from experiments.pointer_networks.geometry import are_simple, from_lowest_index, polygon_areas
from experiments.pointer_networks.tours import tour_lengths
from harness.loading.splits import Batch

Task = Literal["hull", "delaunay", "tsp"]


def same_cycle(predicted: Tensor, target: Tensor) -> Tensor:
    """Whether both name the same closed polygon, from any start and in either direction: (N,)."""
    ours, theirs = _indices(predicted), _indices(target)
    width = max(ours.shape[1], theirs.shape[1])
    ours, theirs = _widen(ours, width), _widen(theirs, width)
    forward = from_lowest_index(ours)
    backward = from_lowest_index(_reversed(ours))
    theirs = from_lowest_index(theirs)
    nonempty = (ours >= 0).any(dim=1)
    return ((forward == theirs).all(dim=1) | (backward == theirs).all(dim=1)) & nonempty


def triangle_coverage(predicted: Tensor, target: Tensor) -> Tensor:
    """The share of the target's triangles among the predicted ones: (N,).

    Tokens are read three by three; the order of triangles and of their corners is free.
    """
    ours, theirs = _triangle_codes(predicted), _triangle_codes(target)
    found = (theirs.unsqueeze(2) == ours.unsqueeze(1)).any(dim=2) & (theirs >= 0)
    return found.sum(dim=1) / (theirs >= 0).sum(dim=1)


def same_triangulation(predicted: Tensor, target: Tensor) -> Tensor:
    """Whether the predicted triangles are the target's, all of them and no others: (N,)."""
    predicted_tokens = (_indices(predicted) >= 0).sum(dim=1)
    as_many = predicted_tokens == (_indices(target) >= 0).sum(dim=1)
    return (triangle_coverage(predicted, target) == 1) & as_many


def are_tours(predicted: Tensor, lengths: Tensor) -> Tensor:
    """Whether each prediction visits every one of its ``lengths`` (N,) points once: (N,)."""
    indices = _indices(predicted)
    visits = torch.zeros(len(indices), int(lengths.max()) + 1, dtype=torch.int64)
    visits.scatter_add_(1, indices + 1, torch.ones_like(indices))
    position = torch.arange(visits.shape[1]).unsqueeze(0)
    expected = (position >= 1) & (position <= lengths.unsqueeze(1))
    return (visits[:, 1:] == expected[:, 1:]).all(dim=1)


CORRECT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "hull": same_cycle,
    "tsp": same_cycle,
    "delaunay": same_triangulation,
}


class ExactlyRight(Metric):
    """The share of predictions that are right as a whole."""

    higher_is_better = True
    full_state_update = False
    right: Tensor
    total: Tensor

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task
        self.add_state("right", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, target: Tensor) -> None:
        self.right += CORRECT[self.task](predicted, target).sum()
        self.total += len(predicted)

    def compute(self) -> Tensor:
        return self.right / self.total


def measure(
    task: Task, batch: Batch, predicted: Tensor, rival: Tensor | None = None
) -> dict[str, Tensor]:
    """Every metric of a task, instance by instance; some count only part of the instances.

    Args:
        batch: ``points``, ``y``, and where there are, ``lengths`` and ``optimum``.
        predicted: tokens (N, m).
        rival: another algorithm's tours of the same points, (N, n): by how much the predicted
            ones are longer is the metric ``excess``.
    """
    points, y = batch["points"], batch["y"]
    lengths = batch.get("lengths", torch.full((len(points),), points.shape[1]))
    right = CORRECT[task](predicted, y)
    if task == "hull":
        return {
            "accuracy": right,
            **_by_position(right, y, lengths),
            **_areas(points, y, predicted),
        }
    if task == "delaunay":
        return {"accuracy": right, "coverage": triangle_coverage(predicted, y)}
    valid = are_tours(predicted, lengths)
    length, teacher = _closed_lengths(points, predicted), _closed_lengths(points, y)
    found = {"accuracy": right, "valid": valid, "length": length[valid], "teacher_length": teacher}
    if rival is not None:
        found["excess"] = (length - _closed_lengths(points, rival))[valid]
    best = batch.get("optimum", teacher)
    return {**found, "ratio": (length / best)[valid]}


MEASURES: dict[str, set[str]] = {
    "hull": {"accuracy", "accuracy_early", "accuracy_late", "area", "not_simple"},
    "delaunay": {"accuracy", "coverage"},
    "tsp": {"accuracy", "valid", "length", "ratio", "teacher_length", "excess"},
}


def _areas(points: Tensor, y: Tensor, predicted: Tensor) -> dict[str, Tensor]:
    """Area covered, over the predictions that are simple polygons, and which are not."""
    polygons = _indices(predicted)
    simple = are_simple(points, polygons)
    covered = polygon_areas(points, polygons) / polygon_areas(points, _indices(y))
    return {"area": covered[simple], "not_simple": ~simple}


def _by_position(right: Tensor, y: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    """The accuracy apart for hulls whose points come early and late in the input: below and above
    the median of their mean position."""
    indices = _indices(y)
    valid = indices >= 0
    position = (indices * valid).sum(dim=1) / valid.sum(dim=1) / (lengths - 1)
    late = position > position.median()
    return {"accuracy_early": right[~late], "accuracy_late": right[late]}


def _closed_lengths(points: Tensor, tokens: Tensor) -> Tensor:
    """Lengths (N,) of the closed paths; padding repeats the start, which adds nothing."""
    indices = _indices(tokens)
    start = indices[:, :1].clamp(min=0)
    return tour_lengths(points.double(), torch.where(indices >= 0, indices, start))


def _indices(tokens: Tensor) -> Tensor:
    """0-based indices, padded with -1: from tokens, of which 0 and the padding are no points."""
    return (tokens - 1).clamp(min=-1)


def _widen(indices: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(indices, (0, width - indices.shape[1]), value=-1)


def _reversed(cycles: Tensor) -> Tensor:
    """Each cycle (N, w; padded with -1) the other way round."""
    size = (cycles >= 0).sum(dim=1, keepdim=True)
    position = torch.arange(cycles.shape[1], device=cycles.device).unsqueeze(0)
    flipped = cycles.gather(1, (size - 1 - position).clamp(min=0))
    return torch.where(position < size, flipped, -1)


def _triangle_codes(tokens: Tensor) -> Tensor:
    """One number a triangle, (N, w // 3), -1 for padding and for what is no triangle."""
    indices = _indices(tokens)
    count = indices.shape[1] // 3
    corners = indices[:, : 3 * count].reshape(len(indices), count, 3)
    a, b, c = corners.sort(dim=2).values.unbind(dim=2)
    base = 1 << 20
    proper = (a >= 0) & (a < b) & (b < c)
    return torch.where(proper, (a * base + b) * base + c, -1)
