"""Distillation of a graph network into a perceptron, as FF-G2M trains and selects its models."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.ff_g2m.data import Graph
from experiments.ff_g2m.losses import (
    HighFrequencyLoss,
    LowFrequencyLoss,
    NodeLoss,
    low_frequency,
    pairwise_difference,
)
from harness.procedures.base import Diverged, Outcome, Progress, Trial
from harness.seeding import seed_all

Term = Literal["node", "low", "high", "low-elsewhere", "high-elsewhere"]
Loss = Callable[[Tensor], Tensor]
TEACHING = ("teacher", "teacher_learning_rate", "weight_decay", "epochs", "patience")


@dataclass
class Selected:
    """The epoch of the best validation accuracy (the last of equals), and the model of then.

    ``trained`` counts all epochs, also those after it.
    """

    epoch: int = 0
    val: float = -1.0
    test: float = 0.0
    state: dict[str, Tensor] | None = None
    trained: int = 0


class Distillation:
    """Train a teacher on the graph, then a student that sees single nodes, full batch.

    The student minimises ``λ L_labels + (1 - λ) Σ L_term``; without terms there is no teacher
    and the loss is ``L_labels``. Teacher and student stop when the validation accuracy has stayed
    below its best for ``patience`` epochs; what is measured belongs to the last best epoch.

    Args:
        teacher: from features and classes to a network with ``operator`` and ``forward(x,
            operator)``, see :mod:`baselines.gnn`.
        terms: ``node`` (GLNN), ``low`` and ``high`` (FF-G2M); none for a plain perceptron. Those
            ``elsewhere`` look at as many random pairs of nodes (controls).
        supervision: λ, the weight of the labelled nodes.
        temperature: τ of the high-frequency term.
        learning_rate: of the student.
        teacher_learning_rate: of the teacher.
        weight_decay: of both, as Adam's L2 penalty.
        epochs: at most, for each network.
        patience: epochs below the best before stopping.

    Raises:
        ValueError: when λ is outside [0, 1].
    """

    def __init__(
        self,
        teacher: Callable[[int, int], nn.Module],
        terms: list[Term],
        supervision: float = 0.1,
        temperature: float = 1.5,
        learning_rate: float = 0.01,
        teacher_learning_rate: float = 0.01,
        weight_decay: float = 5e-4,
        epochs: int = 500,
        patience: int = 50,
    ) -> None:
        if not 0 <= supervision <= 1:
            raise ValueError(f"supervision must lie in [0, 1], not {supervision}")
        self.teacher = teacher
        self.terms = terms
        self.supervision = supervision
        self.temperature = temperature
        self.learning_rate = learning_rate
        self.teacher_learning_rate = teacher_learning_rate
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.patience = patience

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        names = {"accuracy", "val_accuracy", "selected_epoch", "low_frequency"}
        if init_args.get("terms"):
            names |= {"teacher_accuracy", "low_frequency_lost", "agreement"}
            names |= {"pairwise_difference", "high_frequency_error"}
        return names

    def run(self, trial: Trial) -> Outcome:
        graph: Graph = trial.data.to(trial.device)
        metrics: dict[str, float] = {}
        knowledge, epochs = None, 0
        if self.terms:  # all variants of a seed learn from the same teacher
            taught = trial.part("teacher", trial.settings(*TEACHING), self._taught)
            knowledge, epochs = taught["logits"], taught["epochs"]
            metrics["teacher_accuracy"] = taught["accuracy"]
        seed_all(trial.seed, "student")
        student = trial.model().to(trial.device)
        chosen = self._fit(
            student,
            (graph.x,),
            self._student_loss(graph, knowledge),
            _Evaluation(graph, (graph.rows(graph.evaluated),), torch.arange(len(graph.evaluated))),
            self.learning_rate,
            lambda epoch, row: trial.report(Progress(self.epochs + epoch, 2 * self.epochs, row)),
        )
        metrics |= {"accuracy": chosen.test, "val_accuracy": chosen.val}
        metrics["selected_epoch"] = float(chosen.epoch)
        kept = self._kept(_logits(student, (graph.x,)), knowledge, graph)
        return Outcome(metrics | kept, samples=(epochs + chosen.trained) * len(graph.y))

    def _taught(self, trial: Trial) -> dict[str, Any]:
        """The trained teacher's logits (N, C), its test accuracy, and how long it was trained."""
        graph: Graph = trial.data.to(trial.device)
        seed_all(trial.seed, "teacher")
        teacher = self.teacher(graph.dims["features"], graph.dims["classes"]).to(trial.device)
        inputs = (graph.x, teacher.operator(graph.pairs, len(graph.y)))  # type: ignore[operator]
        chosen = self._fit(
            teacher,
            inputs,
            _label_loss(graph),
            _Evaluation(graph, inputs, graph.evaluated),
            self.teacher_learning_rate,
            lambda epoch, row: trial.report(Progress(epoch, 2 * self.epochs, row)),
        )
        logits = _logits(teacher, inputs)
        return {"logits": logits, "accuracy": chosen.test, "epochs": chosen.trained}

    def _student_loss(self, graph: Graph, teacher: Tensor | None) -> Loss:
        labels = _label_loss(graph)
        if teacher is None:
            return labels
        pairs = graph.pairs
        made: dict[str, Callable[[], Loss]] = {
            "node": lambda: NodeLoss(teacher),
            "low": lambda: LowFrequencyLoss(teacher, pairs),
            "high": lambda: HighFrequencyLoss(teacher, pairs, self.temperature),
            "low-elsewhere": lambda: LowFrequencyLoss(teacher, _elsewhere(pairs)),
            "high-elsewhere": lambda: HighFrequencyLoss(
                teacher, _elsewhere(pairs), self.temperature
            ),
        }
        terms, weight = [made[name]() for name in self.terms], self.supervision

        def loss(logits: Tensor) -> Tensor:
            distilled = torch.stack([term(logits) for term in terms]).sum()
            return weight * labels(logits) + (1 - weight) * distilled

        return loss

    def _fit(
        self,
        model: nn.Module,
        inputs: tuple[Tensor, ...],
        loss: Loss,
        evaluation: _Evaluation,
        learning_rate: float,
        report: Callable[[int, dict[str, float]], None],
    ) -> Selected:
        """Train ``model`` in place and leave it with the weights of the selected epoch."""
        optimizer = torch.optim.Adam(
            model.parameters(), lr=learning_rate, weight_decay=self.weight_decay
        )
        best = Selected()
        for epoch in range(1, self.epochs + 1):
            model.train()
            optimizer.zero_grad()
            value = loss(model(*inputs))
            if not torch.isfinite(value):
                raise Diverged(f"the training loss became {value.item()} in epoch {epoch}")
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            val, test = evaluation(model)
            report(epoch, {"loss": float(value.detach()), "val_accuracy": val})
            if val >= best.val:
                best = Selected(epoch, val, test, copy.deepcopy(model.state_dict()))
            best.trained = epoch
            if epoch - best.epoch >= self.patience:
                break
        assert best.state is not None
        model.load_state_dict(best.state)
        return best

    def _kept(self, logits: Tensor, teacher: Tensor | None, graph: Graph) -> dict[str, float]:
        """What of the teacher's knowledge the student has, at its selected epoch."""
        low = float(low_frequency(logits, graph.pairs))
        kept = {"low_frequency": low}
        if teacher is None:
            return kept
        high = HighFrequencyLoss(teacher, graph.pairs, self.temperature)
        same = logits[graph.test].argmax(1) == teacher[graph.test].argmax(1)
        return kept | {
            "low_frequency_lost": 1 - low / float(low_frequency(teacher, graph.pairs)),
            "pairwise_difference": float(pairwise_difference(logits, teacher, graph.pairs)),
            "high_frequency_error": float(high(logits)),
            "agreement": float(same.float().mean()),
        }


class _Evaluation:
    """Validation and test accuracy of a model from one pass over ``inputs``.

    ``rows`` are the rows of the output that belong to ``graph.evaluated``, validation first.
    """

    def __init__(self, graph: Graph, inputs: tuple[Tensor, ...], rows: Tensor) -> None:
        self.inputs, self.rows = inputs, rows.to(graph.y.device)
        self.y = graph.y[graph.evaluated]
        self.validation = len(graph.val)

    def __call__(self, model: nn.Module) -> tuple[float, float]:
        right = (_logits(model, self.inputs)[self.rows].argmax(1) == self.y).double()
        return float(right[: self.validation].mean()), float(right[self.validation :].mean())


def _elsewhere(pairs: Tensor) -> Tensor:
    """As many random pairs of nodes, with the same number of pairs at each node."""
    i, j = pairs
    return torch.stack([i, j[torch.randperm(len(j)).to(j.device)]])


def _label_loss(graph: Graph) -> Loss:
    return lambda logits: F.cross_entropy(logits[graph.train], graph.y[graph.train])


def _logits(model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    model.eval()
    with torch.no_grad():
        return model(*inputs)  # type: ignore[no-any-return]
