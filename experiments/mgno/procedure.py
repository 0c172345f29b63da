"""Training of operators by relative errors, and what is measured of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from baselines.operators import relative_errors
from experiments.mgno.data import OperatorSplits
from harness.procedures.base import Diverged, Outcome, Trial, exact
from harness.procedures.fit import Fit
from harness.procedures.training import Trained


class Decoded(nn.Module):
    """A network whose output is multiplied by a deviation and added to a mean."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Module, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.network(x) * self.deviation + self.mean
        return output


class OperatorFit(Fit):
    """Fit for operators: networks learn standardised outputs and are judged in the data's units.

    Besides what Fit reports: ``train_l2``, the relative L2 error on the training functions of the
    weights that are measured; ``log_l2`` and ``log_gap``, decimal logarithms of the test error and
    of test over training error; ``early_log_loss``, that of the training loss, the mean over
    the first half of the epochs. ``parameters`` are real numbers, two for a complex one.
    """

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        own = {"train_l2", "log_l2", "log_gap", "early_log_loss"}
        return super().produces(init_args) | own

    def run(self, trial: Trial) -> Outcome:
        return super().run(_decoding(trial))

    def run_together(self, trials: Sequence[Trial]) -> list[Outcome | Diverged]:
        return super().run_together([_decoding(trial) for trial in trials])

    def _outcome(self, trained: Trained, trial: Trial) -> Outcome:
        outcome = super()._outcome(trained, trial)
        losses = torch.tensor([row["train_loss"] for row in trained.curves])
        early = losses[: -(-len(losses) // 2)].log10().mean()
        return replace(outcome, metrics={**outcome.metrics, "early_log_loss": float(early)})

    @torch.no_grad()
    def measure(self, model: nn.Module, trial: Trial) -> Outcome:
        train, test = (self._error(model, s, trial) for s in (trial.data.train, trial.data.test))
        weights = sum(p.numel() * (2 if p.is_complex() else 1) for p in model.parameters())
        return Outcome(
            {
                "train_l2": float(train),
                "log_l2": float(test.log10()),
                "log_gap": float((test / train).log10()),
                "parameters": exact(weights),
            }
        )

    def _error(self, model: nn.Module, split: Any, trial: Trial) -> Tensor:
        errors = []
        for indices in torch.split(torch.arange(len(split)), self.eval_batch_size):
            batch = {name: column.to(trial.device) for name, column in split[indices].items()}
            errors.append(relative_errors(self.predict(model, batch), batch["y"]).double())
        return torch.cat(errors).mean()


class StepFit(OperatorFit):
    """For steps in time, also ``rollout_l2``: the relative L2 error of whole trajectories, each
    state predicted from the one predicted before."""

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return super().produces(init_args) | {"rollout_l2"}

    @torch.no_grad()
    def measure(self, model: nn.Module, trial: Trial) -> Outcome:
        outcome = super().measure(model, trial)
        data: OperatorSplits = trial.data
        assert data.rollout is not None
        truth = data.rollout.to(trial.device).columns
        states = [truth["x"]]
        for _ in range(truth["y"].shape[1]):
            states.append(model(states[-1]))
        error = relative_errors(torch.cat(states[1:], 1), truth["y"]).mean()
        return Outcome({**outcome.metrics, "rollout_l2": float(error)})


def _decoding(trial: Trial) -> Trial:
    data: OperatorSplits = trial.data

    def decoded() -> nn.Module:
        return Decoded(trial.model(), data.mean, data.deviation)

    return replace(trial, model=decoded)
