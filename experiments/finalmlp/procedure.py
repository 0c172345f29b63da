"""Training of click models as the authors' library does it, and counting of parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim.lr_scheduler import ReduceLROnPlateau

from baselines.ctr import penalised_squares
from experiments.finalmlp.data import Impressions, auc
from harness.loading.splits import Batch, Split, Splits
from harness.procedures.base import Outcome, Trial, exact
from harness.procedures.batches import Batches
from harness.procedures.recipe import At, Recipe
from harness.procedures.training import train
from harness.records import Measured

LEAST_GAIN = 1e-6
LOWEST_RATE = 1e-6
CURVES = ("train_loss", "val_auc", "val_logloss")
MORE_IS_BETTER: dict[str, Literal["min", "max"]] = {"auc": "max", "auc-logloss": "max"}


class ParameterCount:
    """Builds the model without memory for its parameters, and counts them."""

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"parameters"}

    def run(self, trial: Trial) -> Outcome:
        with torch.device("meta"):
            model = trial.model()
        return Outcome({"parameters": exact(sum(p.numel() for p in model.parameters()))})


class ClickTraining(Recipe):
    """Adam on ``mean cross-entropy + λ/2 Σ v²``, over all rows of all embedding tables.

    Of FM the bias is penalised as well (:func:`baselines.ctr.penalised_squares`).

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
        super().__init__(
            loss=nn.BCEWithLogitsLoss(),
            optimizer=partial(torch.optim.Adam, lr=learning_rate),
            schedule=partial(
                ReduceLROnPlateau, mode="max", factor=0.1, patience=0, threshold=LEAST_GAIN,
                threshold_mode="abs", min_lr=LOWEST_RATE,
            ),
            epochs=epochs,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            clip_norm=clip_norm,
            select="best",
            monitor=f"val_{monitor}",
            mode=MORE_IS_BETTER,
            min_delta=LEAST_GAIN,
            patience=patience,
        )  # fmt: skip
        self.embedding_l2 = embedding_l2

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"auc", "logloss", "lost_auc", "epoch", "parameters", *CURVES}

    @classmethod
    def sometimes(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"lost_auc"}

    @classmethod
    def refused(cls, init_args: Mapping[str, Any]) -> Iterator[str]:
        yield from super().refused({**init_args, "mode": MORE_IS_BETTER})

    def training_loss(self, model: nn.Module, batch: Batch, at: At) -> Tensor:
        fit = super().training_loss(model, batch, at)
        return fit + 0.5 * self.embedding_l2 * penalised_squares(model)

    def watch(self, model: nn.Module, data: Splits, at: At) -> Mapping[str, float]:
        assert data.val is not None
        auc, logloss = self.scores(model, data.val)
        return {"val_auc": auc, "val_logloss": logloss, "val_auc-logloss": auc - logloss}

    def run(self, trial: Trial) -> Outcome:
        data: Impressions = trial.data
        if data.val is None:
            raise ValueError("without a validation split there is no best epoch")
        trained = train(trial.model, data, self, trial)
        trial.keep(trained.model)
        auc, logloss = self.scores(trained.model, data.test)
        metrics: dict[str, float | Measured] = {"auc": auc, "logloss": logloss}
        metrics |= {name: trained.row[name] for name in ("epoch", *CURVES)}
        metrics["parameters"] = exact(sum(p.numel() for p in trained.model.parameters()))
        if data.bayes_auc is not None:
            metrics["lost_auc"] = data.bayes_auc - auc
        series = {name: y for name, y in trained.series().items() if name in CURVES}
        return Outcome(metrics, series, trained.samples)

    @torch.no_grad()
    def scores(self, model: nn.Module, split: Split) -> tuple[float, float]:
        """AUC and mean cross-entropy over a whole split, from logits in double precision."""
        device = next(model.parameters()).device
        outputs, targets = [], []
        for batch in Batches(split, self.eval_batch_size):
            moved = {name: column.to(device) for name, column in batch.items()}
            outputs.append(self.predict(model, moved).double().cpu())
            targets.append(batch["y"].double().cpu())
        logits, y = torch.cat(outputs), torch.cat(targets)
        logloss = float(binary_cross_entropy_with_logits(logits, y))
        return auc(logits.numpy(), y.numpy().astype(np.int8)), logloss
