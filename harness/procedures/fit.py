"""Fit and test: the procedure of most papers.

Reported for a metric ``m`` of the test split: ``m`` (last epoch) and ``best_m`` (the best epoch
*chosen on the test split*, as many papers report it); with a validation split also ``val_m``
and ``selected_m`` (the test value at the best validation epoch). Besides: ``train_loss``,
``parameters``, and a series over epochs of each curve.

The loop is written out on Lightning Fabric, which brings devices, strategies and precisions and
costs next to nothing a step; the hooks of Lightning's Trainer cost half a millisecond.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from harness.loading.splits import Batch
from harness.procedures.base import Diverged, Outcome, Separately, Trial, exact
from harness.procedures.networks import Networks, Single
from harness.procedures.stacked import Stacked
from harness.procedures.training import Training, deterministic
from harness.records import Measured, Series


class Fit:
    """Train a model on ``data.train``, and evaluate it on ``data.val`` and ``data.test``.

    Args:
        loss: called with the model's output and the target ``y``.
        metrics: torchmetrics by name, updated with the model's output and ``y``; the first one
            decides which epoch is best.
        optimizer: from the parameters.
        epochs: passes over the training examples.
        batch_size: examples a step.
        schedule: learning-rate schedule from the optimizer.
        schedule_every: whether the schedule advances by epoch or by step.
        clip_norm: bound on the global gradient norm.
        clip_value: bound on each gradient element.
        drop_last: leave out an incomplete last training batch.
        eval_every: epochs between evaluations (the last epoch is always evaluated).
        eval_batch_size: examples an evaluation step; default ``batch_size``.
        fabric: arguments of Lightning's Fabric (``devices``, ``strategy``, ``precision``, …), for
            strategies that keep the whole model on every device. With several devices
            ``batch_size`` is still that of one step of all of them together, and ``loss`` has to
            be a mean over examples.

    A subclass changes what a paper does differently: :meth:`training_loss`, :meth:`predict`,
    and, for what is measured once training is over, :meth:`measure`.
    """

    def __init__(
        self,
        loss: nn.Module,
        metrics: dict[str, Metric],
        optimizer: OptimizerCallable = torch.optim.Adam,
        epochs: int = 10,
        batch_size: int = 64,
        schedule: LRSchedulerCallable | None = None,
        schedule_every: Literal["epoch", "step"] = "epoch",
        clip_norm: float | None = None,
        clip_value: float | None = None,
        drop_last: bool = False,
        eval_every: int = 1,
        eval_batch_size: int | None = None,
        fabric: dict[str, Any] | None = None,
    ) -> None:
        if clip_norm is not None and clip_value is not None:
            raise ValueError("give clip_norm or clip_value, not both")
        self.loss = loss
        self.metrics = metrics
        self.optimizer = optimizer
        self.epochs = epochs
        self.batch_size = batch_size
        self.schedule = schedule
        self.schedule_every = schedule_every
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        self.drop_last = drop_last
        self.eval_every = eval_every
        self.eval_batch_size = eval_batch_size or batch_size
        self.fabric = fabric or {}

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        names = set(init_args.get("metrics", {}))
        split_names = {p + m for p in ("", "best_", "val_", "selected_") for m in names}
        return split_names | {"train_loss", "parameters", "best_epoch"}

    def training_loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The scalar to be minimised on one batch."""
        value: Tensor = self.loss(self.predict(model, batch), batch["y"])
        return value

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        """The output that loss and metrics are given."""
        output: Tensor = model(**{k: v for k, v in batch.items() if k != "y"})
        return output

    def measure(self, model: nn.Module, trial: Trial) -> Outcome:
        """What else is measured of the trained model, in evaluation mode on the trial's device."""
        return Outcome({})

    def evaluates_after(self, epoch: int) -> bool:
        """Whether the model is evaluated after ``epoch`` epochs."""
        return epoch % self.eval_every == 0 or epoch == self.epochs

    def run(self, trial: Trial) -> Outcome:
        fabric = L.Fabric(accelerator=trial.accelerator, **{"devices": 1, **self.fabric})
        fabric.launch()
        (outcome,) = self._train([trial], Single(self, trial, fabric))
        if isinstance(outcome, Diverged):
            raise outcome
        return outcome

    def run_together(self, trials: Sequence[Trial]) -> list[Outcome | Diverged]:
        """Train the models of trials that differ only by seed as one, vectorised.

        Each has its own initialisation, data order, metrics and schedule, and ends in what it
        would come to by itself but for the order of floating-point sums. On the first batch,
        losses, gradients and outputs are compared with those of each model by itself.

        Raises:
            Separately: the model draws random numbers in training (dropout), has no vectorised
                form, or came out otherwise; its trials have to be run one by one.
        """
        if self.fabric:
            raise Separately("devices, strategy or precision are set")
        return self._train(trials, Stacked(self, trials))

    def _train(self, trials: Sequence[Trial], networks: Networks) -> list[Outcome | Diverged]:
        with deterministic():
            training = Training(self, trials, networks)
            training.run()
            models = networks.models()
            return [
                training.diverged.get(i) or self._outcome(models[i], trial, training, i)
                for i, trial in enumerate(trials)
            ]

    def _outcome(self, model: nn.Module, trial: Trial, training: Training, index: int) -> Outcome:
        curves, samples = training.curves[index], training.samples(index)
        epochs = curves["epoch"]
        metrics: dict[str, float | Measured] = {
            name: values[-1] for name, values in curves.items() if name != "epoch"
        }
        for name, meter in self.metrics.items():
            pick = max if meter.higher_is_better else min
            best = pick(range(len(epochs)), key=curves[name].__getitem__)
            metrics[f"best_{name}"] = curves[name][best]
            if name == next(iter(self.metrics)):
                metrics["best_epoch"] = epochs[best]
            if f"val_{name}" in curves:
                chosen = pick(range(len(epochs)), key=curves[f"val_{name}"].__getitem__)
                metrics[f"selected_{name}"] = curves[name][chosen]
        metrics["parameters"] = exact(sum(p.numel() for p in model.parameters()))
        series = {
            name: Series(over="epoch", x=epochs, y=values)
            for name, values in curves.items()
            if name != "epoch"
        }
        trial.keep(model)
        further = self.measure(model.eval(), trial)
        return Outcome({**metrics, **further.metrics}, {**series, **further.series}, samples)
