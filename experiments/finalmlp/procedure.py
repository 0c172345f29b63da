"""Training of click models as the authors' library does it, and counting of parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from baselines.ctr import squared_embeddings
from experiments.finalmlp.data import Impressions, auc
from harness.loading.splits import Batch, Split
from harness.procedures.base import Diverged, Outcome, Progress, Trial, exact
from harness.procedures.batches import Batches
from harness.records import Series
from harness.seeding import seed_all

LEAST_GAIN = 1e-6
LOWEST_RATE = 1e-6


class ParameterCount:
    """Builds the model without memory for its parameters, and counts them."""

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"parameters"}

    def run(self, trial: Trial) -> Outcome:
        with torch.device("meta"):
            model = trial.model()
        return Outcome({"parameters": exact(sum(p.numel() for p in model.parameters()))})


class ClickTraining:
    """Adam on ``mean cross-entropy + λ/2 Σ v²`` over all rows of all embedding tables.

    After each epoch the model is validated. Whenever the monitored value does not exceed its
    best by 1e-6, the learning rate falls to a tenth; after ``patience`` such epochs in a row
    training stops. What is measured belongs to the best epoch on the validation split: ``auc``,
    ``logloss`` (test), ``val_auc``, ``val_logloss``, ``epoch``, ``parameters``, and where the
    data's true probabilities are known, ``lost_auc``, how far ``auc`` stays below theirs.

    Args:
        embedding_l2: λ.
        learning_rate: the first one.
        batch_size: examples a step.
        epochs: at most.
        patience: epochs without gain, in a row, after which training stops.
        monitor: ``auc``, or ``auc-logloss`` for the difference.
        clip_norm: bound on the norm of the whole gradient.
        eval_batch_size: examples at once in validation and test.

    Raises:
        Diverged: when the training loss is not finite.
    """

    def __init__(
        self,
        embedding_l2: float,
        learning_rate: float = 1e-3,
        batch_size: int = 4096,
        epochs: int = 100,
        patience: int = 2,
        monitor: Literal["auc", "auc-logloss"] = "auc",
        clip_norm: float = 10.0,
        eval_batch_size: int = 16384,
    ) -> None:
        if epochs < 1 or patience < 1:
            raise ValueError("epochs and patience must be at least 1")
        self.embedding_l2 = embedding_l2
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.epochs = epochs
        self.patience = patience
        self.monitor = monitor
        self.clip_norm = clip_norm
        self.eval_batch_size = eval_batch_size

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        names = {"auc", "logloss", "val_auc", "val_logloss", "lost_auc"}
        return names | {"epoch", "parameters", "train_loss"}

    def run(self, trial: Trial) -> Outcome:
        training = _Training(self, trial)
        while not training.over:
            training.epoch()
        return training.outcome()

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy of a batch with the penalty on whole tables."""
        fit = binary_cross_entropy_with_logits(_logits(model, batch), batch["y"])
        return fit + 0.5 * self.embedding_l2 * squared_embeddings(model)

    def scores(self, model: nn.Module, split: Split, device: torch.device) -> tuple[float, float]:
        """AUC and mean cross-entropy over a whole split, from logits in double precision."""
        model.eval()
        with torch.no_grad():
            batches = [_moved(batch, device) for batch in Batches(split, self.eval_batch_size)]
            logits = torch.cat([_logits(model, batch).cpu() for batch in batches]).double()
            y = torch.cat([batch["y"].cpu() for batch in batches]).double()
        logloss = float(binary_cross_entropy_with_logits(logits, y))
        return auc(logits.numpy(), y.numpy().astype(np.int8)), logloss


class _Training:
    """One trial's progress; its state is what a checkpoint holds."""

    def __init__(self, procedure: ClickTraining, trial: Trial) -> None:
        self.procedure, self.trial = procedure, trial
        self.data: Impressions = trial.data
        if self.data.val is None:
            raise ValueError("without a validation split there is no best epoch")
        seed_all(trial.seed, "model")
        self.model = trial.model().to(trial.device)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=procedure.learning_rate, fused=True
        )
        self.curves: dict[str, list[float]] = {"train_loss": [], "val_auc": [], "val_logloss": []}
        self.best: dict[str, Any] = {"value": -float("inf"), "epoch": 0, "model": {}}
        self.failures = 0
        self._resume()

    @property
    def done(self) -> int:
        """Epochs so far."""
        return len(self.curves["val_auc"])

    @property
    def over(self) -> bool:
        limits = self.procedure
        return self.done >= limits.epochs or self.failures >= limits.patience

    def epoch(self) -> None:
        """Train for one pass, validate, and keep a checkpoint."""
        seed_all(self.trial.seed, "epoch", self.done)
        train_loss = self._train()
        assert self.data.val is not None
        auc, logloss = self.procedure.scores(self.model, self.data.val, self.trial.device)
        row = {"train_loss": train_loss, "val_auc": auc, "val_logloss": logloss}
        for name, value in row.items():
            self.curves[name].append(value)
        self._judge(auc - logloss if self.procedure.monitor == "auc-logloss" else auc)
        self.trial.report(Progress(self.done, self.procedure.epochs, row))
        self.trial.save(self.done, self._state())

    def _train(self) -> float:
        order = (self.trial.seed, self.done)
        batches = Batches(self.data.train, self.procedure.batch_size, lambda: order)
        self.model.train()
        total = torch.zeros((), dtype=torch.float64, device=self.trial.device)
        for batch in batches:
            self.optimizer.zero_grad()
            loss = self.procedure.loss(self.model, _moved(batch, self.trial.device))
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.model.parameters(), self.procedure.clip_norm)
            self.optimizer.step()
            total += loss.detach()
        mean = float(total) / len(batches)
        if not np.isfinite(mean):
            raise Diverged(f"the training loss became {mean} in epoch {self.done + 1}")
        return mean

    def _judge(self, value: float) -> None:
        """Keep the model if it is the best so far, else lower the learning rate."""
        if value >= self.best["value"] + LEAST_GAIN:
            kept = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
            self.best = {"value": value, "epoch": self.done, "model": kept}
            self.failures = 0
            return
        self.failures += 1
        for group in self.optimizer.param_groups:
            group["lr"] = max(group["lr"] * 0.1, LOWEST_RATE)

    def _state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "curves": self.curves,
            "best": self.best,
            "failures": self.failures,
        }

    def _resume(self) -> None:
        state = self.trial.load()
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.curves, self.best = state["curves"], state["best"]
        self.failures = state["failures"]

    def outcome(self) -> Outcome:
        """Measure the best epoch's model on the test split."""
        self.model.load_state_dict(self.best["model"])
        auc, logloss = self.procedure.scores(self.model, self.data.test, self.trial.device)
        index = self.best["epoch"] - 1
        metrics = {
            "auc": auc,
            "logloss": logloss,
            "epoch": float(self.best["epoch"]),
            **{name: values[index] for name, values in self.curves.items()},
        }
        if self.data.bayes_auc is not None:
            metrics["lost_auc"] = self.data.bayes_auc - auc
        epochs = [float(e) for e in range(1, self.done + 1)]
        count = exact(sum(p.numel() for p in self.model.parameters()))
        series = {n: Series(over="epoch", x=epochs, y=y) for n, y in self.curves.items()}
        samples = self.done * len(self.data.train)
        return Outcome({**metrics, "parameters": count}, series, samples)


def _logits(model: nn.Module, batch: Batch) -> Tensor:
    return model(**{name: column for name, column in batch.items() if name != "y"})  # type: ignore[no-any-return]


def _moved(batch: Batch, device: torch.device) -> Batch:
    return {name: column.to(device, non_blocking=True) for name, column in batch.items()}
