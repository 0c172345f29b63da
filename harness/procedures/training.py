"""The training loop: epochs, evaluation, curves, and the state that a checkpoint holds."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torchmetrics import Metric

from harness.procedures.base import Diverged, Progress, Separately, Trial
from harness.procedures.batches import Batches
from harness.procedures.checkpoints import Stopped
from harness.procedures.networks import Networks
from harness.seeding import seed_all

if TYPE_CHECKING:
    from harness.procedures.fit import Fit


class Training:
    """Training of one trial, or of several as one.

    Attributes:
        curves: for each trial, values by name, one for every ``epoch`` that was evaluated.
        diverged: trials whose loss became infinite, by index; the others go on.
    """

    def __init__(self, fit: Fit, trials: Sequence[Trial], networks: Networks) -> None:
        self.fit, self.trials, self.networks = fit, trials, networks
        self.epoch = 0
        self.curves: list[dict[str, list[float]]] = [{} for _ in trials]
        self.diverged: dict[int, Diverged] = {}
        self.schedule: Any = fit.schedule(networks.optimizer) if fit.schedule else None
        self.train = [self._training(trial) for trial in trials]
        self.evaluation = {"": [self._evaluation(trial.data.test) for trial in trials]}
        if trials[0].data.val:
            vals = [self._evaluation(trial.data.val) for trial in trials]
            self.evaluation = {"val_": vals, **self.evaluation}
        _refuse_unequal(self.train, *self.evaluation.values())
        self.meters: list[dict[str, Metric]] = [
            {
                prefix + name: meter.clone().to(trial.device)
                for prefix in self.evaluation
                for name, meter in fit.metrics.items()
            }
            for trial in trials
        ]
        networks.check(self.train, self.evaluation[""])
        self._resume()

    def run(self) -> None:
        """Train until the last epoch, or until every trial has diverged."""
        while self.epoch < self.fit.epochs and len(self.diverged) < len(self.trials):
            self._close(self._pass())
            self._save()

    def samples(self, index: int) -> int:
        """Examples that a trial's model was trained on, over all epochs so far."""
        return self.epoch * self.train[index].examples

    def _training(self, trial: Trial) -> Batches:
        fit, networks = self.fit, self.networks
        return Batches(
            trial.data.train,
            fit.batch_size,
            lambda: (trial.seed, self.epoch),
            fit.drop_last,
            lambda: (networks.rank, networks.ranks),
        )

    def _evaluation(self, split: Any) -> Batches:
        networks = self.networks
        size = self.fit.eval_batch_size
        return Batches(split, size, shard=lambda: (networks.rank, networks.ranks))

    def _pass(self) -> list[float]:
        """One pass over the training examples; each trial's mean loss."""
        networks, every_step = self.networks, self.fit.schedule_every == "step"
        rank = [networks.rank] if networks.rank else []  # ranks draw different noise
        seed_all(self.trials[0].seed, "epoch", self.epoch, *rank)
        networks.train()
        device = self.trials[0].device
        total = torch.zeros(len(self.trials), dtype=torch.float64, device=device)
        steps = 0
        for steps, batch in enumerate(networks.batches(self.train), 1):
            total += networks.step(batch, steps - 1)
            if every_step and self.schedule is not None:
                self.schedule.step()
        self.epoch += 1
        mean: list[float] = (networks.mean(total) / max(steps, 1)).tolist()
        return mean

    def _close(self, losses: Sequence[float]) -> None:
        """Evaluate, and add the epoch's row to every curve."""
        found: list[dict[str, float]] = [{} for _ in self.trials]
        evaluates = self.fit.evaluates_after(self.epoch)
        for index, loss in enumerate(losses):
            if not math.isfinite(loss) and index not in self.diverged:
                text = f"the training loss became {loss} in epoch {self.epoch}"
                self.diverged[index] = Diverged(text)
        if evaluates:
            found = self._evaluate()
        if self.schedule is not None and self.fit.schedule_every == "epoch":
            self.schedule.step()
        for index in self._alive():
            row = {"epoch": float(self.epoch), "train_loss": losses[index], **found[index]}
            if evaluates:
                for name, value in row.items():
                    self.curves[index].setdefault(name, []).append(value)
            self.trials[index].report(Progress(self.epoch, self.fit.epochs, row))

    def _alive(self) -> list[int]:
        return [index for index in range(len(self.trials)) if index not in self.diverged]

    def _evaluate(self) -> list[dict[str, float]]:
        self.networks.train(False)
        found: list[dict[str, float]] = [{} for _ in self.trials]
        with torch.inference_mode():
            for prefix, splits in self.evaluation.items():
                names = [prefix + name for name in self.fit.metrics]
                for outputs in self.networks.outputs(splits):
                    for index in self._alive():
                        for name in names:
                            self.meters[index][name].update(*outputs[index])
                for index in self._alive():
                    for name in names:
                        found[index][name] = float(self.meters[index][name].compute())
                        self.meters[index][name].reset()
        return found

    def _save(self) -> None:
        """Keep a checkpoint of the epoch, if the time has come.

        Raises:
            Stopped: the trial was asked to stop.
        """
        checkpoints = self.trials[0].checkpoints
        if checkpoints is None:
            return
        due, stopping = self.networks.agreed((checkpoints.due(), checkpoints.stopping()))
        if due and self.networks.rank == 0:
            checkpoints.write(self.epoch, self._state())
        if stopping:
            raise Stopped(f"stopped after epoch {self.epoch}")

    def _state(self) -> dict[str, Any]:
        return {
            "seeds": [trial.seed for trial in self.trials],
            "epoch": self.epoch,
            "curves": self.curves,
            "diverged": {index: str(error) for index, error in self.diverged.items()},
            "loss": self.fit.loss.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule else None,
            "networks": self.networks.state(),
        }

    def _resume(self) -> None:
        state: Mapping[str, Any] | None = self.trials[0].load()
        if state is None or state["seeds"] != [trial.seed for trial in self.trials]:
            return  # of this trial in other company, where floating-point sums may differ
        self.epoch, self.curves = state["epoch"], state["curves"]
        self.diverged = {index: Diverged(text) for index, text in state["diverged"].items()}
        self.fit.loss.load_state_dict(state["loss"])
        self.networks.load(state["networks"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])


def _refuse_unequal(*kinds: Sequence[Batches]) -> None:
    """Trials that are trained together make the same steps."""
    for splits in kinds:
        if len({len(each.split) for each in splits}) > 1:
            raise Separately("the trials have different numbers of examples")


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """Let torch choose algorithms that give the same result every time, where it has them."""
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = False  # it would cost every new tensor
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        memory.fill_uninitialized_memory = filled
