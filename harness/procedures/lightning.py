"""A user's own LightningModule and LightningDataModule, unchanged, as a variant of a paper.

The module is the variant's ``model``, the data module is what the dataset's ``class_path`` names.
What ``self.log`` was given becomes metrics and curves. Randomness depends on seed and epoch alone,
so that training which goes on from a checkpoint ends where it would have ended anyway.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import lightning.pytorch as L
import pytorch_lightning as old
import torch

from harness.procedures.base import Diverged, Outcome, Progress, Trial, exact
from harness.procedures.checkpoints import Stopped
from harness.records import MAX_POINTS, Measured, Series
from harness.seeding import seed_all

OURS = {
    "accelerator": "--accelerator",
    "callbacks": "callbacks",
    "devices": "fabric",
    "num_nodes": "fabric",
    "strategy": "fabric",
    "default_root_dir": "the trial's folder",
    "enable_progress_bar": "the harness's display",
    "logger": "records, curves and W&B of the harness",
}
QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "deterministic": "warn"}


class Trainer:
    """Fit a LightningModule with Lightning's Trainer, and test it if it has a ``test_step``.

    Args:
        metrics: names under which the module logs what is measured (the last value logged of
            each), or names of metrics with the logged ones: ``{accuracy: test/acc}``.
        trainer: arguments of Lightning's Trainer: ``max_epochs``, ``gradient_clip_val``, …
        callbacks: of ``lightning.pytorch.callbacks``, or one's own.
        select: which weights are tested and kept: the last ones, or the best of a ModelCheckpoint
            among the callbacks (which are validated where there is no ``test_step``).
        fabric: ``devices``, ``num_nodes``, ``strategy`` and ``precision``, as for ``Fit``.

    Raises:
        ValueError: an argument of the trainer that it does not have, or that is not for it to say.
    """

    def __init__(
        self,
        metrics: list[str] | dict[str, str],
        trainer: dict[str, Any] | None = None,
        callbacks: list[L.Callback | old.Callback] | None = None,
        select: Literal["last", "best"] = "last",
        fabric: dict[str, Any] | None = None,
    ) -> None:
        if problem := misuse({"trainer": trainer, "callbacks": callbacks, "select": select}):
            raise ValueError(problem)
        self.metrics = metrics if isinstance(metrics, dict) else {name: name for name in metrics}
        self.trainer = trainer or {}
        self.callbacks = callbacks or []
        self.select = select
        self.fabric = fabric or {}

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {*init_args.get("metrics", ()), "parameters"}

    def run(self, trial: Trial) -> Outcome:
        seed_all(trial.seed, "model")
        module: Any = trial.model()
        package = _package(module)
        folder = trial.workdir / "lightning"
        log = _mixed(_Log, package.loggers.logger.Logger)()
        course = _mixed(_Course, package.Callback)(trial, log, folder)
        trainer = self._trainer(package, trial, folder, log, course)
        trainer.fit(module, datamodule=trial.data, ckpt_path=course.resumed())
        self._evaluate(trainer, module, trial)
        trial.keep(module)
        log.refuse_non_finite(self.metrics.values())
        metrics: dict[str, float | Measured] = dict(self._measured(trainer, log))
        metrics["parameters"] = exact(sum(p.numel() for p in module.parameters()))
        curves = {name: log.curve(logged) for name, logged in self.metrics.items()}
        return Outcome(metrics, {name: curve for name, curve in curves.items() if curve})

    def _trainer(
        self, package: ModuleType, trial: Trial, folder: Path, log: Any, course: Any
    ) -> L.Trainer:
        saves = any(isinstance(c, package.callbacks.Checkpoint) for c in self.callbacks)
        made: L.Trainer = package.Trainer(
            **{
                **QUIET,
                "devices": 1,
                "enable_checkpointing": saves,  # without one of the user's there would be another
                **self.trainer,
                **self.fabric,
                "accelerator": trial.accelerator,
                "default_root_dir": folder,
                "logger": log,
                "callbacks": [course, *self.callbacks],
            }
        )
        return made

    def _evaluate(self, trainer: L.Trainer, module: L.LightningModule, trial: Trial) -> None:
        """Test the selected weights, and leave them in the module."""
        seed_all(trial.seed, "test")
        none: tuple[Any, ...] = (L.LightningModule.test_step, old.LightningModule.test_step)
        tests = type(module).test_step not in none
        evaluate = trainer.test if tests else trainer.validate
        if self.select == "best":
            evaluate(module, datamodule=trial.data, ckpt_path="best", verbose=False)
        elif tests:
            trainer.test(module, datamodule=trial.data, verbose=False)

    def _measured(self, trainer: L.Trainer, log: _Log) -> dict[str, float]:
        """The last value of each metric, also of those that are not for loggers."""
        found = {**log.last(), **{k: float(v) for k, v in trainer.callback_metrics.items()}}
        if lacking := [logged for logged in self.metrics.values() if logged not in found]:
            known = ", ".join(sorted(found)) or "nothing"
            raise ValueError(f"the module logged no {', '.join(lacking)}; it logged {known}")
        return {name: found[logged] for name, logged in self.metrics.items()}


def misuse(init_args: Mapping[str, Any]) -> str:
    """What is wrong with arguments of :class:`Trainer`, in one sentence; empty if nothing is."""
    known = inspect.signature(L.Trainer).parameters
    for name in init_args.get("trainer") or {}:
        if name not in known:
            return f"Lightning's Trainer has no argument {name!r}"
        if name in OURS:
            return f"trainer: {name} is not for the spec to say; it is up to {OURS[name]}"
    classes = [
        c.get("class_path", "") if isinstance(c, Mapping) else type(c).__name__
        for c in init_args.get("callbacks") or []
    ]
    if init_args.get("select") == "best" and not any("Checkpoint" in name for name in classes):
        return "select: best needs a ModelCheckpoint with a monitor among the callbacks"
    return ""


def _package(module: Any) -> ModuleType:
    """``lightning.pytorch``, or ``pytorch_lightning`` for modules that were written with it.

    Raises:
        TypeError: it is no LightningModule.
    """
    for package in (L, old):
        if isinstance(module, package.LightningModule):
            return importlib.import_module(package.__name__)
    raise TypeError(f"{type(module).__name__} is no LightningModule; Fit trains plain modules")


def _mixed(ours: type, base: type) -> Any:
    """Our class on the base class of whichever of the two packages."""
    return type(ours.__name__.strip("_"), (ours, base), {})


class _Log:
    """A logger that remembers: for each name epoch, step and value, as often as it was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, list[list[float]]] = {}

    name, version = "harness", 0

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The spec has them."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        epoch = float(metrics.get("epoch", 0)) + 1
        for name, value in metrics.items():
            if name != "epoch":
                self.rows.setdefault(name, []).append([epoch, float(step or 0), float(value)])

    def last(self) -> dict[str, float]:
        return {name: rows[-1][2] for name, rows in self.rows.items()}

    def refuse_non_finite(self, names: Iterable[str]) -> None:
        for name in names:
            for epoch, _, value in self.rows.get(name, []):
                if not math.isfinite(value):
                    raise Diverged(f"{name} was {value} in epoch {epoch:g}")

    def curve(self, name: str) -> Series | None:
        """Over epochs where it was logged once in each, otherwise over steps; if there are any."""
        rows = self.rows.get(name, [])
        rows = rows[:: -(-len(rows) // MAX_POINTS) or 1]
        if len(rows) < 2:
            return None
        epochs, steps, values = (list(column) for column in zip(*rows, strict=True))
        by_epoch = len(set(epochs)) == len(epochs)
        return Series(
            over="epoch" if by_epoch else "step", x=epochs if by_epoch else steps, y=values
        )


class _Course:
    """Seeds each epoch, reports on it, and keeps a checkpoint between it and the next.

    It is the first of the callbacks, so that a checkpoint is taken before any hook of the next
    epoch has run: those hooks run when training goes on from it.
    """

    def __init__(self, trial: Trial, log: _Log, folder: Path) -> None:
        super().__init__()
        self.trial, self.logged, self.folder = trial, log, folder
        self.begun = False

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.logged.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if not self.begun:  # the best weights are loaded together with what was known then
            self.logged.rows = state["rows"]

    def resumed(self) -> Path | None:
        """Lightning's checkpoint of an interrupted run, as a file."""
        state = self.trial.load()
        if state is None:
            return None
        return self._write(state["lightning"].numpy().tobytes())

    def _write(self, content: bytes) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "resumed.ckpt"
        path.write_bytes(content)
        return path

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        epoch = trainer.current_epoch
        if self.begun:
            self._report(trainer)
            self._save(trainer)
        rank = [trainer.global_rank] if trainer.global_rank else []  # ranks draw different noise
        seed_all(self.trial.seed, "epoch", epoch, *rank)
        if not self.begun:
            self._begin(trainer.fit_loop)
        self.begun = True

    def _begin(self, loop: Any) -> None:
        """Make the first epoch of this process like any other.

        Its order of examples was drawn before this hook, those of later ones are after it. And
        when training goes on, Lightning takes the epoch for the rest of the last one, which has
        no batches left.
        """
        iter(loop._data_fetcher)
        loop._restarting = loop.epoch_loop.restarting = False

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._report(trainer)

    def _report(self, trainer: L.Trainer) -> None:
        by_step = trainer.max_epochs in (None, -1)
        step = trainer.global_step if by_step else trainer.current_epoch
        steps = trainer.max_steps if by_step else trainer.max_epochs
        self.trial.report(Progress(step, int(steps or step), self.logged.last()))

    def _save(self, trainer: L.Trainer) -> None:
        """Keep a checkpoint if one is due.

        Raises:
            Stopped: the trial was asked to stop.
        """
        checkpoints = self.trial.checkpoints
        if checkpoints is None:
            return
        due, stopping = trainer.strategy.broadcast((checkpoints.due(), checkpoints.stopping()))
        if due:
            path = self.folder / "last.ckpt"
            trainer.save_checkpoint(path)
            if trainer.is_global_zero:
                content = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
                checkpoints.write(trainer.current_epoch, {"lightning": content})
                path.unlink()
        if stopping:
            raise Stopped(f"stopped after epoch {trainer.current_epoch}")
