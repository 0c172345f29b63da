"""Fit and test: the procedure of most papers.

Reported for a metric ``m`` of the test split: ``m`` (of the weights that training ends with) and
``best_m`` (the best evaluation *chosen on the test split*, as many papers report it); with a
validation split also ``val_m`` and ``selected_m`` (the test value at the best evaluation on
validation). Besides: ``train_loss``, ``parameters``, ``m@name`` on further test sets, and a
series of each curve. A metric of which it is not known whether more or less is better has no
``best_m`` and no ``selected_m``, unless the recipe's ``mode`` says it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from harness.procedures import settings
from harness.procedures.base import Diverged, Outcome, Trial, exact
from harness.procedures.recipe import Recipe
from harness.procedures.training import Trained, deterministic, train, train_together
from harness.records import Measured, Series


class Fit(Recipe):
    """Train a model on ``data.train``, and evaluate it on ``data.val`` and ``data.test``.

    A subclass changes what a paper does differently: any of the recipe's hooks, and, for what is
    measured once training is over, :meth:`measure`.
    """

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        names = set(init_args.get("metrics") or {})
        directed = settings.directions(init_args.get("metrics") or {}, init_args.get("mode") or {})
        known = {p + m for p in ("best_", "selected_") for m in names if m in directed}
        tests = {f"{m}@{test}" for m in names for test in init_args.get("tests") or []}
        first = next(iter(init_args.get("metrics") or {}), None)
        epoch = {"best_epoch"} if first in directed else set()
        return (
            names
            | {f"val_{m}" for m in names}
            | known
            | tests
            | epoch
            | {"train_loss", "parameters"}
        )

    @classmethod
    def sometimes(cls, init_args: Mapping[str, Any]) -> set[str]:
        """What only data with a validation split give."""
        return {p + m for p in ("val_", "selected_") for m in init_args.get("metrics") or {}}

    def measure(self, model: nn.Module, trial: Trial) -> Outcome:
        """What else is measured of the trained model, in evaluation mode on the trial's device."""
        return Outcome({})

    def run(self, trial: Trial) -> Outcome:
        return self._outcome(train(trial.model, trial.data, self, trial), trial)

    def run_together(self, trials: Sequence[Trial]) -> list[Outcome | Diverged]:
        """Train the models of trials that differ only by seed as one.

        Raises:
            Separately: see :func:`harness.procedures.training.train_together`.
        """
        models, data = [trial.model for trial in trials], [trial.data for trial in trials]
        found = train_together(models, data, self, trials)
        return [
            each if isinstance(each, Diverged) else self._outcome(each, trial)
            for each, trial in zip(found, trials, strict=True)
        ]

    def _outcome(self, trained: Trained, trial: Trial) -> Outcome:
        metrics: dict[str, float | Measured] = {
            name: value for name, value in trained.row.items() if name not in ("epoch", "step")
        }
        for name in (name for name in self.metrics if name in self.directions):
            more = self.directions[name]
            row = trained.best(name, more)
            metrics[f"best_{name}"] = row[name]
            if name == next(iter(self.metrics)):
                metrics["best_epoch"] = row["epoch"]
            if f"val_{name}" in row:
                metrics[f"selected_{name}"] = trained.best(f"val_{name}", more)[name]
        metrics["parameters"] = exact(sum(p.numel() for p in trained.model.parameters()))
        series = trained.series()
        for name, value in trained.tests.items():
            if isinstance(value, Series):
                series[name] = value
            else:
                metrics[name] = value
        trial.keep(trained.model)
        with deterministic():
            further = self.measure(trained.model, trial)
        return Outcome(
            {**metrics, **further.metrics}, {**series, **further.series}, trained.samples
        )
