"""Trials: train a network to point and decode the test sets, or solve these by an algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from experiments.pointer_networks.data import Problem, with_end
from experiments.pointer_networks.metrics import MEASURES, ExactlyRight, Task, measure
from experiments.pointer_networks.model import PAD, EncoderDecoder
from experiments.pointer_networks.search import Constraint, beam_search
from experiments.pointer_networks.tours import Solver, solve
from harness.loading.splits import Batch
from harness.procedures.base import Outcome, Trial
from harness.procedures.fit import Fit
from harness.procedures.recipe import At
from harness.records import Series

Search = Literal["free", "polygon", "renormalised"]


class Pointing(Fit):
    """Teacher-forced training (equation 1), then decoding of test sets at several sizes.

    The curve over epochs is of greedy decoding on the main test set; the metrics are of beam
    search with the weights of the last epoch. ``m`` is a metric of the main test set, ``m_at_n``
    of the one with n points, and the series ``m_by_points`` holds the latter. ``m_free`` and
    ``m_free_at_n`` are those of the same network under another search.

    Args:
        task: hull, delaunay or tsp.
        beams: width of the beam search.
        constraint: what the search may output.
        searches: others to decode with as well: ``free`` of constraints, among ``polygon``\ s, or
            with the constraint's probabilities ``renormalised``.
        test_points: numbers of points of further test sets.
        fit: arguments of :class:`harness.procedures.fit.Fit`.
    """

    def __init__(
        self,
        task: Task,
        beams: int = 1,
        constraint: Constraint = "none",
        searches: list[Search] | None = None,
        test_points: list[int] | None = None,
        **fit: Any,
    ) -> None:
        super().__init__(
            loss=nn.CrossEntropyLoss(ignore_index=PAD),
            metrics={"accuracy": ExactlyRight(task)},
            **fit,
        )
        self.task = task
        self.beams = beams
        self.constraint = constraint
        self.searches = searches or []
        self.test_points = test_points or []

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        measured = set(MEASURES[init_args.get("task", "hull")])
        sizes = init_args.get("test_points") or []
        searched = {f"{m}_{search}" for m in measured for search in init_args.get("searches") or []}
        of_fit = {"accuracy", "best_accuracy", "best_epoch", "train_loss", "parameters"}
        at = {f"{name}_at_{n}" for name in measured | searched for n in sizes}
        series = {f"{name}_by_points" for name in measured | searched if sizes}
        return of_fit | measured | searched | at | series

    @classmethod
    def sometimes(cls, init_args: Mapping[str, Any]) -> set[str]:
        """Means over outputs that are simple polygons or valid tours: there may be none."""
        rare = ("area", "length", "ratio", "excess")
        return {name for name in cls.produces(init_args) if name.startswith(rare)}

    def training_loss(self, model: nn.Module, batch: Batch, at: At) -> Tensor:
        """-log p(C | P), the mean over the batch's tokens."""
        logits = model(batch["points"], batch["y"], batch.get("lengths"))
        loss: Tensor = self.loss(logits.flatten(0, 1), batch["y"].flatten())
        return loss

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        """Tokens of greedy decoding."""
        return self._decode(model, batch, beams=1)

    def _decode(
        self, model: nn.Module, batch: Batch, beams: int, search: Search | None = None
    ) -> Tensor:
        assert isinstance(model, EncoderDecoder)
        own: dict[str, Constraint] = {"free": "none", "polygon": "polygon"}
        return beam_search(
            model,
            batch["points"],
            batch.get("lengths"),
            steps=longest_output(self.task, batch["points"].shape[1]),
            width=beams,
            constraint=own.get(search or "", self.constraint),
            renormalised=search == "renormalised",
        )

    def measure(self, model: nn.Module, trial: Trial) -> Outcome:
        """Decode the test sets by beam search."""
        problem: Problem = trial.data
        metrics = self._measured(model, problem.test, trial.device)
        sizes = {n: self._measured(model, problem.at(n), trial.device) for n in self.test_points}
        at = {f"{name}_at_{n}": v for n, found in sizes.items() for name, v in found.items()}
        series = {f"{name}_by_points": _over_points(sizes, name) for name in _in_all(sizes)}
        return Outcome({**metrics, **at}, series)

    def _measured(self, network: nn.Module, split: Any, device: torch.device) -> dict[str, float]:
        """Each metric of a test set, by every search; the network decodes in batches."""
        everything = split[torch.arange(len(split))]
        greedy = shortest_edges(everything) if self.task == "tsp" else None
        found: dict[str, float] = {}
        searches: list[Search | None] = [None, *self.searches]
        for search in searches:
            tokens = self._tokens(network, split, device, search)
            means = averages(measure(self.task, everything, tokens, greedy))
            found |= {f"{m}_{search}" if search else m: value for m, value in means.items()}
        return found

    def _tokens(
        self, network: nn.Module, split: Any, device: torch.device, search: Search | None
    ) -> Tensor:
        found = []
        for indices in torch.split(torch.arange(len(split)), self.eval_batch_size):
            batch = {k: v.to(device) for k, v in split[indices].items()}
            found.append(self._decode(network, batch, self.beams, search).cpu())
        width = max(tokens.shape[1] for tokens in found)
        pad = torch.nn.functional.pad
        return torch.cat([pad(t, (0, width - t.shape[1]), value=PAD) for t in found])


class Solve:
    """Solve the main test set of a travelling salesman problem by an algorithm.

    Args:
        solver: its name; see :mod:`experiments.pointer_networks.tours`.
    """

    def __init__(self, solver: Solver) -> None:
        self.solver = solver

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return set(MEASURES["tsp"])

    def run(self, trial: Trial) -> Outcome:
        test = trial.data.test
        batch = test[torch.arange(len(test))]
        tokens = solved(batch, self.solver)
        return Outcome(averages(measure("tsp", batch, tokens, shortest_edges(batch))))


def solved(batch: Batch, solver: Solver) -> Tensor:
    """Tokens (N, n) of a solver's tours of a batch's points, padded with -1."""
    points = batch["points"]
    lengths = batch.get("lengths", torch.full((len(points),), points.shape[1]))
    tokens = torch.full(points.shape[:2], PAD)
    for n in sorted(set(lengths.tolist())):
        rows = lengths == n
        tokens[rows, :n] = with_end(solve(points[rows, :n], solver))[:, :n]
    return tokens


def shortest_edges(batch: Batch) -> Tensor:
    """Tokens of the tours that answers are compared with, those of greedy edge (for A1)."""
    return solved(batch, "greedy-edge")


def longest_output(task: Task, points: int) -> int:
    """Tokens of the longest right output, its end included: 2n - 5 triangles, or n points."""
    return 3 * (2 * points - 5) + 1 if task == "delaunay" else points + 1


def averages(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Means over instances; a metric without instances (no valid tour) is left out.

    They go without standard errors: every seed draws its own test set, so that the interval over
    seeds holds that error already.
    """
    return {name: float(each.double().mean()) for name, each in values.items() if len(each)}


def _in_all(sizes: Mapping[int, Mapping[str, float]]) -> set[str]:
    """Metrics that every size has."""
    return set.intersection(*(set(found) for found in sizes.values())) if sizes else set()


def _over_points(sizes: Mapping[int, Mapping[str, float]], name: str) -> Series:
    x = sorted(sizes)
    return Series(over="points", x=[float(n) for n in x], y=[sizes[n][name] for n in x])
