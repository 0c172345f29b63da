"""Training with the learning rate that a short trial finds best on validation data."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric

from experiments.rnn_review.data import IGNORED
from harness.loading.splits import Splits
from harness.procedures.base import Diverged, Outcome, Trial
from harness.procedures.fit import Fit
from harness.procedures.selection import best
from harness.procedures.training import train


class TunedFit(Fit):
    """Fit with one of several learning rates, each tried for some steps from weights of its own.

    Every network of a comparison gets the same rates and as many steps to try them. Besides what
    Fit reports: ``rate``, the one that was chosen by the first metric on validation data.

    Args:
        rates: learning rates; without, the optimizer's own.
        probe: steps of a try.
    """

    def __init__(self, rates: list[float] | None = None, probe: int = 100, **fit: Any) -> None:
        super().__init__(**fit)
        self.rates = rates or []
        self.probe = probe
        self.rate: float | None = None

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return super().produces(init_args) | ({"rate"} if init_args.get("rates") else set())

    def run(self, trial: Trial) -> Outcome:
        if self.rates:
            self.rate = self.best_rate(trial)
        return super().run(trial)

    def run_together(self, trials: Sequence[Trial]) -> list[Outcome | Diverged]:
        if not self.rates:
            return super().run_together(trials)
        return [copy.copy(self).run(trial) for trial in trials]

    def best_rate(self, trial: Trial) -> float:
        """The rate whose short training ends best on validation data; of equals the first.

        Raises:
            Diverged: with every rate.
        """
        figures: list[float] = []
        rates: list[float] = []
        for rate in self.rates:
            try:
                figures.append(self._tried(rate, trial))
                rates.append(rate)
            except Diverged:
                continue
        if not rates:
            raise Diverged("training diverged with every learning rate")
        return rates[best(figures, self.directions[next(iter(self.metrics))])]

    def _tried(self, rate: float, trial: Trial) -> float:
        short = copy.copy(self)
        short.rate, short.steps, short.epochs = rate, self.probe, None
        short.eval_steps, short.select, short.tests = self.probe, "last", []
        data = Splits(trial.data.train, trial.data.val)
        trained = train(trial.model, data, short, trial, f"rate-{rate:g}")
        return trained.row[next(iter(self.metrics))]

    def parameter_groups(self, model: nn.Module) -> Iterable[Any]:
        if self.rate is None:
            return super().parameter_groups(model)
        return [{"params": list(model.parameters()), "lr": self.rate}]

    def measure(self, model: nn.Module, trial: Trial) -> Outcome:
        return Outcome({} if self.rate is None else {"rate": self.rate})


class CrossEntropy(Metric):
    """Mean negative logarithm (in nats) of the probability of each target that counts."""

    is_differentiable, higher_is_better, full_state_update = False, False, False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, scores: Tensor, y: Tensor) -> None:
        """Scores (batch, classes, …) and classes (batch, …)."""
        self.total += F.cross_entropy(scores.double(), y, reduction="sum", ignore_index=IGNORED)
        self.count += (y != IGNORED).sum()

    def compute(self) -> Tensor:
        return self.total / self.count
