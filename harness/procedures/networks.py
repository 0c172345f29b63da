"""What the training loop steps: a model, on one device or several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import lightning as L
import torch
from torch import Tensor, nn

from harness.loading.splits import Batch
from harness.procedures.base import Trial
from harness.procedures.batches import Batches
from harness.seeding import seed_all

if TYPE_CHECKING:
    from harness.procedures.fit import Fit


class Networks(Protocol):
    """The models of R trials, and how they are trained by one step and evaluated."""

    optimizer: torch.optim.Optimizer
    rank: int
    ranks: int

    def train(self, mode: bool = True) -> None: ...

    def step(self, batch: Batch, index: int) -> Tensor:
        """Train on a batch, and return the losses: shape (R,), or () for a single trial."""
        ...

    def batches(self, splits: Sequence[Batches]) -> Iterable[Batch]:
        """Training batches for :meth:`step`, from those of each trial."""
        ...

    def outputs(self, splits: Sequence[Batches]) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """Batch by batch, the model's output and the target for each trial."""
        ...

    def check(self, training: Sequence[Batches], evaluation: Sequence[Batches]) -> None:
        """Refuse models that cannot be trained in this way, before the first step."""
        ...

    def models(self) -> list[nn.Module]: ...

    def state(self) -> dict[str, Any]: ...

    def load(self, state: Mapping[str, Any]) -> None: ...

    def agreed(self, value: tuple[bool, bool]) -> tuple[bool, bool]:
        """What the first of several processes says."""
        ...

    def mean(self, value: Tensor) -> Tensor:
        """Over the processes that share the trial."""
        ...


class Objective(nn.Module):
    """The training loss of a batch, or with ``predict`` the output, as a module's forward."""

    def __init__(self, fit: Fit, model: nn.Module) -> None:
        super().__init__()
        self.fit = fit
        self.model = model

    def forward(self, batch: Batch, predict: bool = False) -> Tensor:
        if predict:
            return self.fit.predict(self.model, batch)
        return self.fit.training_loss(self.model, batch)


def fused(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Update all parameters by one kernel where torch has one and the spec leaves it open.

    On a CPU this took a step of a network of width 512 from 14 ms to 8.
    """
    for group in optimizer.param_groups:
        floating = all(parameter.is_floating_point() for parameter in group["params"])
        if floating and group.get("fused", False) is None and group["foreach"] is None:
            group["fused"] = True
    return optimizer


class Single:
    """One model, on as many devices as Fabric was given."""

    def __init__(self, fit: Fit, trial: Trial, fabric: L.Fabric) -> None:
        self.fit, self.fabric = fit, fabric
        self.rank, self.ranks = fabric.global_rank, fabric.world_size
        seed_all(trial.seed, "model")
        self.model = trial.model()
        self.objective = fabric.setup_module(Objective(fit, self.model))
        self.optimizer = fused(fit.optimizer(self.model.parameters()))
        self._optimizer: Any = fabric.setup_optimizers(self.optimizer)
        self._training: Batches | None = None

    def train(self, mode: bool = True) -> None:
        self.objective.train(mode)

    def step(self, batch: Batch, index: int) -> Tensor:
        loss: Tensor = self.objective(batch)
        if self._training is not None:  # gradients are averaged over ranks of unequal shares
            loss = loss * self._training.share(index)
        self._optimizer.zero_grad()
        self.fabric.backward(loss)
        if self.fit.clip_norm is not None or self.fit.clip_value is not None:
            self.fabric.clip_gradients(
                self.objective,
                self._optimizer,
                clip_val=self.fit.clip_value,
                max_norm=self.fit.clip_norm,
                error_if_nonfinite=False,
            )
        self._optimizer.step()
        return loss.detach()

    def batches(self, splits: Sequence[Batches]) -> Iterable[Batch]:
        self._training = splits[0] if self.ranks > 1 else None
        return (self._moved(batch) for batch in splits[0])

    def outputs(self, splits: Sequence[Batches]) -> Iterator[list[tuple[Tensor, Tensor]]]:
        for batch in map(self._moved, splits[0]):
            # Not through a wrapper that would wait for ranks without a batch.
            with self.fabric.autocast():
                yield [(self.fit.predict(self.model, batch), batch["y"])]

    def _moved(self, batch: Batch) -> Batch:
        """On the device, and in the model's precision where that is not single."""
        if self.fabric.device.type != "cpu":
            batch = self.fabric.to_device(batch)
        converted: Batch = self.fabric.strategy.precision.convert_input(batch)
        return converted

    def check(self, training: Sequence[Batches], evaluation: Sequence[Batches]) -> None:
        """Any model can be trained by itself."""

    def models(self) -> list[nn.Module]:
        return [self.model]

    def state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])

    def agreed(self, value: tuple[bool, bool]) -> tuple[bool, bool]:
        return self.fabric.broadcast(value)

    def mean(self, value: Tensor) -> Tensor:
        reduced: Tensor = self.fabric.all_reduce(value, reduce_op="mean")  # type: ignore[assignment]
        return reduced
