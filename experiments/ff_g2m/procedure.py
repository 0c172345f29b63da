"""Distillation of a graph network into a perceptron, as FF-G2M trains and selects its models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from experiments.ff_g2m.data import UNLABELLED, Graph, Whole
from experiments.ff_g2m.losses import (
    HighFrequencyLoss,
    Loss,
    LowFrequencyLoss,
    NodeLoss,
    StudentLoss,
    low_frequency,
    pairwise_difference,
)
from harness.loading.splits import Splits
from harness.procedures.base import Outcome, Trial
from harness.procedures.recipe import Recipe
from harness.procedures.training import train
from harness.seeding import derive

Term = Literal["node", "low", "high", "low-elsewhere", "high-elsewhere"]
TEACHING = ("teacher", "teacher_learning_rate", "weight_decay", "epochs", "patience")


class Distillation:
    """Train a teacher on the graph, then a student that sees single nodes, full batch.

    The student minimises ``λ L_labels + (1 - λ) Σ L_term``; without terms there is no teacher
    and the loss is ``L_labels``. Teacher and student stop when the validation accuracy has stayed
    below its best for ``patience`` epochs; what is measured belongs to the last best epoch.

    Where the graph has ``unseen`` nodes (inductive), neither network sees them or their edges in
    training. The student is then asked about them by their features, the teacher with all edges
    of the graph; of the other nodes the teacher's logits are those on the observed graph, as in
    the official code. ``accuracy`` is that of all test nodes together, GLNN's *production*
    average, and ``unseen_accuracy`` and ``observed_accuracy`` are those of its two parts.

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
        return names | cls.sometimes(init_args)

    @classmethod
    def sometimes(cls, init_args: Mapping[str, Any]) -> set[str]:
        """Where training does not see all nodes."""
        whose = ("", "teacher_") if init_args.get("terms") else ("",)
        return {f"{who}{part}_accuracy" for who in whose for part in ("unseen", "observed")}

    def run(self, trial: Trial) -> Outcome:
        graph: Graph = trial.data.to(trial.device)
        seen = graph.seen()
        taught: dict[str, Any] = {"logits": None, "passes": 0}
        if self.terms:  # all variants of a seed learn from the same teacher
            taught = trial.part("teacher", trial.settings(*TEACHING), self._taught)
        knowledge = taught["logits"]
        terms = self._terms(seen, knowledge[graph.observed], trial.seed) if self.terms else []
        known = Whole(x=seen.x, y=seen.labels(seen.train))
        held_out = Whole(x=graph.rows(graph.val), y=graph.y[graph.val])
        loss = StudentLoss(terms, self.supervision)
        recipe = self._recipe(self.learning_rate, loss)
        student = train(trial.model, _splits(known, held_out), recipe, trial, "student")
        logits = _logits(student.model, x=graph.x)
        metrics = _accuracies(logits, graph)
        metrics["val_accuracy"] = student.row["val_accuracy"]
        metrics["selected_epoch"] = student.row["epoch"]
        if self.terms:
            of_teacher = _accuracies(knowledge, graph)
            metrics |= {f"teacher_{name}": value for name, value in of_teacher.items()}
        passes = taught["passes"] + student.samples
        kept = self._kept(logits, knowledge, graph)
        return Outcome(metrics | kept, samples=passes * len(seen.y))

    def _taught(self, trial: Trial) -> dict[str, Any]:
        """The trained teacher's logits (N, C), and how often it was trained on the graph."""
        graph: Graph = trial.data.to(trial.device)
        seen = graph.seen()
        model = self.teacher(graph.dims["features"], graph.dims["classes"])
        inputs = _with_edges(model, seen)
        known, held_out = (Whole(**inputs, y=seen.labels(n)) for n in (seen.train, seen.val))
        loss = nn.CrossEntropyLoss(ignore_index=UNLABELLED)
        recipe = self._recipe(self.teacher_learning_rate, loss)
        teacher = train(model, _splits(known, held_out), recipe, trial, "teacher")
        logits = _logits(teacher.model, **inputs)
        if len(graph.unseen):
            everywhere = _logits(teacher.model, **_with_edges(teacher.model, graph))
            logits = everywhere.index_copy(0, graph.observed, logits)
        return {"logits": logits, "passes": teacher.samples}

    def _recipe(self, learning_rate: float, loss: nn.Module) -> Recipe:
        """Of both: the last best epoch on the validation nodes is selected."""
        right = MulticlassAccuracy(average="micro", ignore_index=UNLABELLED, validate_args=False)
        return Recipe(
            loss=loss,
            metrics={"accuracy": right},
            optimizer=partial(torch.optim.Adam, lr=learning_rate, weight_decay=self.weight_decay),
            epochs=self.epochs,
            select="best",
            ties="last",
            patience=self.patience,
        )

    def _terms(self, graph: Graph, teacher: Tensor, seed: int) -> list[Loss]:
        pairs, generator = graph.pairs, torch.Generator().manual_seed(derive(seed, "elsewhere"))
        made: dict[str, Callable[[], Loss]] = {
            "node": lambda: NodeLoss(teacher),
            "low": lambda: LowFrequencyLoss(teacher, pairs),
            "high": lambda: HighFrequencyLoss(teacher, pairs, self.temperature),
            "low-elsewhere": lambda: LowFrequencyLoss(teacher, _elsewhere(pairs, generator)),
            "high-elsewhere": lambda: HighFrequencyLoss(
                teacher, _elsewhere(pairs, generator), self.temperature
            ),
        }
        return [made[name]() for name in self.terms]

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


def _elsewhere(pairs: Tensor, generator: torch.Generator) -> Tensor:
    """As many random pairs of nodes, with the same number of pairs at each node."""
    i, j = pairs
    return torch.stack([i, j[torch.randperm(len(j), generator=generator).to(j.device)]])


def _splits(train: Whole, val: Whole) -> Splits:
    """Test nodes are not among them: they are measured once, with the selected weights."""
    return Splits(train=train, val=val, test=None)  # type: ignore[arg-type]


def _with_edges(model: nn.Module, graph: Graph) -> dict[str, Tensor]:
    """What a teacher looks at: the features of all nodes, and what it made of the edges."""
    return {"x": graph.x, "operator": model.operator(graph.pairs, len(graph.y))}  # type: ignore[operator]


def _accuracies(logits: Tensor, graph: Graph) -> dict[str, float]:
    """The share of test nodes that are classified rightly: of all, of those unseen, of the rest."""
    right = (logits.argmax(1) == graph.y).double()
    found = {"accuracy": float(right[graph.test].mean())}
    if len(graph.unseen):
        observed = graph.test[~torch.isin(graph.test, graph.unseen)]
        found["unseen_accuracy"] = float(right[graph.unseen].mean())
        found["observed_accuracy"] = float(right[observed].mean())
    return found


@torch.no_grad()
def _logits(model: nn.Module, **seen: Tensor) -> Tensor:
    return model(**seen)  # type: ignore[no-any-return]
