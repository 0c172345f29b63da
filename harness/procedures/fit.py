"""Fit and test: the procedure of most papers, on Lightning's Trainer.

Reported for a metric ``m`` of the test split: ``m`` (last epoch) and ``best_m`` (the best epoch
*chosen on the test split*, as many papers report it); with a validation split also ``val_m``
and ``selected_m`` (the test value at the best validation epoch). Besides: ``train_loss``,
``parameters``, and a series over epochs of each curve.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from harness.data.splits import Batch, Splits
from harness.procedures.base import Diverged, Outcome, Progress, Trial, exact
from harness.procedures.batches import Batches
from harness.procedures.checkpoints import Checkpoints, Stopped
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
        trainer: arguments of Lightning's Trainer (``devices``, ``strategy``, ``precision``, …).
            With several devices ``batch_size`` is still that of one step of all of them together,
            and ``loss`` has to be a mean over examples.

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
        trainer: dict[str, Any] | None = None,
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
        self.trainer = trainer or {}

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
        checkpoints = trial.checkpoints or Checkpoints(trial.workdir / "checkpoints")
        trainer = self._trainer(trial, checkpoints)
        trainer.fit(
            module,
            train_dataloaders=module.train_batches(),
            val_dataloaders=module.eval_batches(),
            ckpt_path=checkpoints.latest(),
            weights_only=True,
        )
        return module.outcome()

    def _trainer(self, trial: Trial, checkpoints: Checkpoints) -> L.Trainer:
        clip = self.clip_norm if self.clip_norm is not None else self.clip_value
        return L.Trainer(
            accelerator=trial.accelerator,
            max_epochs=self.epochs,
            check_val_every_n_epoch=1,
            gradient_clip_val=clip,
            gradient_clip_algorithm="norm" if self.clip_norm is not None else "value",
            callbacks=[_AtEpochEnds(checkpoints)],
            plugins=[_Files(checkpoints)],
            default_root_dir=trial.workdir,
            deterministic="warn",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            **{"devices": 1, **self.trainer},
        )


class _AtEpochEnds(Checkpoint):
    """Keeps a checkpoint of the epoch; a ``Checkpoint`` is called after the module's own hook."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        agreed = trainer.strategy.broadcast((self.checkpoints.due(), self.checkpoints.stopping()))
        if agreed[0]:
            trainer.save_checkpoint(self.checkpoints.folder / str(trainer.current_epoch + 1))
        if agreed[1]:
            raise Stopped(f"stopped after epoch {trainer.current_epoch + 1}")


class _Files(TorchCheckpointIO):
    """How Lightning reads and writes them: the last part of the path is the epoch."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        self.checkpoints.write(int(Path(path).name), checkpoint)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        return self.checkpoints.read(Path(path))


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
        self.schedule: Any = None
        self._schedule_state: dict[str, Any] | None = None
        self._loss_sum = torch.zeros((), dtype=torch.float64)
        self._steps = 0
        self._train_batches = Batches(
            trial.data.train, fit.batch_size, self._order, fit.drop_last, self._shard
        )

    def _order(self) -> tuple[int, int]:
        return self.trial.seed, self.trainer.current_epoch

    def _shard(self) -> tuple[int, int]:
        return self.trainer.global_rank, self.trainer.world_size

    def train_batches(self) -> Batches:
        return self._train_batches

    def eval_batches(self) -> list[Batches]:
        size = self.fit.eval_batch_size
        return [Batches(split, size, shard=self._shard) for split in self.splits.values()]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer for Lightning; the schedule is advanced here.

        Lightning would advance a schedule after the epoch's checkpoint is written, and a resumed
        trial would lack that step.
        """
        optimizer = self.fit.optimizer(self.model.parameters())
        self.schedule = self.fit.schedule(optimizer) if self.fit.schedule else None
        return optimizer

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if self.schedule is not None and self.fit.schedule_every == "step":
            self.schedule.step()

    def on_train_epoch_start(self) -> None:
        rank = [self.global_rank] if self.global_rank else []  # ranks draw different noise
        seed_all(self.trial.seed, "epoch", self.current_epoch, *rank)
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self._steps = 0

    def training_step(self, batch: Batch, index: int) -> Tensor:
        loss = self.fit.training_loss(self.model, batch)
        if self.trainer.world_size > 1:  # gradients are averaged over ranks of unequal shares
            loss = loss * self._train_batches.share(index)
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
        if self.schedule is not None and self.fit.schedule_every == "epoch":
            self.schedule.step()
        total = self.trainer.strategy.reduce(self._loss_sum, reduce_op="mean")
        train_loss = float(total) / max(self._steps, 1)
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
        checkpoint["loss"] = self.fit.loss.state_dict()
        checkpoint["schedule"] = self.schedule.state_dict() if self.schedule else None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.curves = {name: list(values) for name, values in checkpoint["curves"].items()}
        self.fit.loss.load_state_dict(checkpoint["loss"])
        self._schedule_state = checkpoint["schedule"]

    def on_train_start(self) -> None:
        """The schedule goes on once the optimizer is there and has its own state back."""
        if self.schedule is not None and self._schedule_state is not None:
            self.schedule.load_state_dict(self._schedule_state)

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
