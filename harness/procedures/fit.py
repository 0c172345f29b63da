"""Fit and test: the procedure of most papers, on Lightning's Trainer.

Reported for a metric ``m`` of the test split: ``m`` (last epoch) and ``best_m`` (the best epoch
*chosen on the test split*, as many papers report it); with a validation split also ``val_m``
and ``selected_m`` (the test value at the best validation epoch). Besides: ``train_loss``,
``parameters``, and a series over epochs of each curve.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from harness.data.splits import Batch, Splits
from harness.procedures.base import Diverged, Outcome, Progress, Trial, exact
from harness.procedures.batches import Batches
from harness.procedures.checkpoints import Checkpoints
from harness.records import Measured, Series
from harness.seeding import seed_all


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

    A subclass changes what a paper does differently: :meth:`training_loss`, :meth:`predict`.
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

    def run(self, trial: Trial) -> Outcome:
        module = _Module(self, trial)
        trainer = self._trainer(trial, module)
        resume = Checkpoints.latest(trial.workdir)
        trainer.fit(
            module,
            train_dataloaders=module.train_batches(),
            val_dataloaders=module.eval_batches(),
            ckpt_path=resume,
            weights_only=True,
        )
        return module.outcome()

    def _trainer(self, trial: Trial, module: _Module) -> L.Trainer:
        clip = self.clip_norm if self.clip_norm is not None else self.clip_value
        return L.Trainer(
            accelerator=trial.accelerator,
            devices=1,
            max_epochs=self.epochs,
            check_val_every_n_epoch=1,
            gradient_clip_val=clip,
            gradient_clip_algorithm="norm" if self.clip_norm is not None else "value",
            callbacks=[Checkpoints(trial.workdir)],
            default_root_dir=trial.workdir,
            deterministic="warn",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )


class _Module(L.LightningModule):
    """What Lightning runs; keeps the curves, which are part of its checkpoint."""

    def __init__(self, fit: Fit, trial: Trial) -> None:
        super().__init__()
        self.fit = fit
        self.trial = trial
        seed_all(trial.seed, "model")
        self.model = trial.model()
        splits: Splits = trial.data
        self.splits = {"val": splits.val, "": splits.test} if splits.val else {"": splits.test}
        self.meters = nn.ModuleDict(
            {
                f"{split}_meters": nn.ModuleDict({n: m.clone() for n, m in fit.metrics.items()})
                for split in self.splits
            }
        )
        self.curves: dict[str, list[float]] = {}
        self._loss_sum = torch.zeros((), dtype=torch.float64)
        self._steps = 0

    def train_batches(self) -> Batches:
        fit, trial = self.fit, self.trial
        order = lambda: (trial.seed, self.trainer.current_epoch)  # noqa: E731
        return Batches(trial.data.train, fit.batch_size, order, fit.drop_last)

    def eval_batches(self) -> list[Batches]:
        return [Batches(split, self.fit.eval_batch_size) for split in self.splits.values()]

    def configure_optimizers(self) -> Any:
        optimizer = self.fit.optimizer(self.model.parameters())
        if self.fit.schedule is None:
            return optimizer
        schedule = {
            "scheduler": self.fit.schedule(optimizer),
            "interval": self.fit.schedule_every,
        }
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_train_epoch_start(self) -> None:
        seed_all(self.trial.seed, "epoch", self.current_epoch)
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self._steps = 0

    def training_step(self, batch: Batch, index: int) -> Tensor:
        loss = self.fit.training_loss(self.model, batch)
        self._loss_sum += loss.detach()
        self._steps += 1
        return loss

    def validation_step(self, batch: Batch, index: int, dataloader_idx: int = 0) -> None:
        if not self._evaluates_now():
            return
        output = self.fit.predict(self.model, batch)
        split = list(self.splits)[dataloader_idx]
        for meter in self.meters[f"{split}_meters"].values():  # type: ignore[operator]
            meter.update(output, batch["y"])

    def _evaluates_now(self) -> bool:
        epoch = self.current_epoch + 1
        return epoch % self.fit.eval_every == 0 or epoch == self.fit.epochs

    def on_train_epoch_end(self) -> None:
        """Runs after the epoch's validation: close the epoch's row of every curve."""
        train_loss = float(self._loss_sum) / max(self._steps, 1)
        if not torch.isfinite(torch.tensor(train_loss)):
            raise Diverged(f"the training loss became {train_loss} in epoch {self.current_epoch}")
        row = {"epoch": self.current_epoch + 1.0, "train_loss": train_loss}
        if self._evaluates_now():
            row |= self._read_meters()
            for name, value in row.items():
                self.curves.setdefault(name, []).append(value)
        self.trial.report(Progress(self.current_epoch + 1, self.fit.epochs, row))

    def _read_meters(self) -> dict[str, float]:
        values = {}
        for split in self.splits:
            for name, meter in self.meters[f"{split}_meters"].items():  # type: ignore[operator]
                values[f"{split}_{name}" if split else name] = float(meter.compute())
                meter.reset()
        return values

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["curves"] = {name: list(values) for name, values in self.curves.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.curves = {name: list(values) for name, values in checkpoint["curves"].items()}

    def outcome(self) -> Outcome:
        epochs = self.curves["epoch"]
        metrics: dict[str, float | Measured] = {
            name: values[-1] for name, values in self.curves.items() if name != "epoch"
        }
        for name, meter in self.fit.metrics.items():
            pick = max if meter.higher_is_better else min
            best = pick(range(len(epochs)), key=self.curves[name].__getitem__)
            metrics[f"best_{name}"] = self.curves[name][best]
            if name == next(iter(self.fit.metrics)):
                metrics["best_epoch"] = epochs[best]
            if "val" in self.splits:
                chosen = pick(range(len(epochs)), key=self.curves[f"val_{name}"].__getitem__)
                metrics[f"selected_{name}"] = self.curves[name][chosen]
        metrics["parameters"] = exact(sum(p.numel() for p in self.model.parameters()))
        series = {
            name: Series(over="epoch", x=epochs, y=values)
            for name, values in self.curves.items()
            if name != "epoch"
        }
        return Outcome(metrics, series)
