"""Training on frames to come, and what is measured of the forecasts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from experiments.flow_equivariant_rnn.data import FlowSplits
from harness.loading.splits import Batch
from harness.procedures.base import Outcome, Trial
from harness.procedures.fit import Fit
from harness.procedures.training import Trained
from harness.records import Series


class ForecastFit(Fit):
    """Fit for forecasts: ``x`` frames seen, ``y`` frames to come, (batch, steps, 1, height, width).

    Besides what Fit reports, on test sequences with more frames to come than in training:
    ``mse_over_time``, the error by the step ahead, ``mse_beyond``, its mean over the steps that
    were not trained on, and ``log_mse_beyond`` and ``log_mse`` (of the trained steps), decimal
    logarithms, whose differences are those of orders of magnitude. ``early_log_mse``: that of the
    validation error, the mean over the evaluations of the first half of training.
    """

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        own = {"mse_over_time", "mse_beyond", "log_mse_beyond", "log_mse", "early_log_mse"}
        return super().produces(init_args) | own

    def _outcome(self, trained: Trained, trial: Trial) -> Outcome:
        outcome = super()._outcome(trained, trial)
        errors = torch.tensor([row["val_mse"] for row in trained.curves if "val_mse" in row])
        early = errors[: -(-len(errors) // 2)].log10().mean()
        return replace(outcome, metrics={**outcome.metrics, "early_log_mse": float(early)})

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        output: Tensor = model(batch["x"], batch["y"].shape[1])
        return output

    @torch.no_grad()
    def measure(self, model: nn.Module, trial: Trial) -> Outcome:
        data: FlowSplits = trial.data
        assert data.far is not None
        trained = data.train[torch.tensor([0])]["y"].shape[1]
        errors = self._errors(model, data.far, trial.device)
        beyond, within = errors[trained:].mean(), errors[:trained].mean()
        steps = [float(step) for step in range(1, len(errors) + 1)]
        return Outcome(
            {
                "mse_beyond": float(beyond),
                "log_mse_beyond": float(beyond.log10()),
                "log_mse": float(within.log10()),
            },
            {"mse_over_time": Series(over="steps ahead", x=steps, y=errors.tolist())},
        )

    def _errors(self, model: nn.Module, split: Any, device: torch.device) -> Tensor:
        """Squared error by the step ahead, the mean over sequences and pixels: (steps,)."""
        totals = []
        for indices in torch.split(torch.arange(len(split)), self.eval_batch_size):
            batch = {name: column.to(device) for name, column in split[indices].items()}
            squares = (self.predict(model, batch) - batch["y"]).double() ** 2
            totals.append(squares.mean((2, 3, 4)).sum(0).cpu())
        return torch.stack(totals).sum(0) / len(split)
