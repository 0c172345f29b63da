"""What the training loop steps: a model, on one device or several."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import lightning as L
import torch
from torch import Tensor, nn

from harness.loading.splits import Batch
from harness.procedures.batches import Batches
from harness.procedures.outside import Outside
from harness.procedures.recipe import At, Recipe


class Networks(Protocol):
    """R models, and how they are trained by one step and evaluated."""

    optimizer: torch.optim.Optimizer
    rank: int
    ranks: int

    def train(self, mode: bool = True) -> None: ...

    def step(self, batch: Batch, at: Sequence[At]) -> Tensor:
        """Train on a batch, and return the losses: shape (R,), or () for a single model."""
        ...

    def batches(self, splits: Sequence[Batches], first: int) -> Iterable[Batch]:
        """Training batches for :meth:`step`, from those of each model, without the first ones."""
        ...

    def outputs(self, splits: Sequence[Batches]) -> Iterator[list[tuple[Tensor, Batch]]]:
        """Batch by batch, each model's output and the batch."""
        ...

    def check(
        self, training: Sequence[Batches], evaluation: Sequence[Batches], at: Sequence[At]
    ) -> None:
        """Refuse models that cannot be trained in this way, before the first step."""
        ...

    def models(self) -> list[nn.Module]:
        """The models as they are now."""
        ...

    def released(self) -> list[nn.Module]:
        """The models once training is over: their tensors are nobody else's."""
        ...

    def weights(self, index: int) -> dict[str, Tensor]:
        """Parameters and kept buffers of a model, which change it when they are written to."""
        ...

    def state(self) -> dict[str, Any]: ...

    def load(self, state: Mapping[str, Any]) -> None: ...

    def agreed(self, value: tuple[bool, bool]) -> tuple[bool, bool]:
        """What the first of several processes says."""
        ...

    def mean(self, value: Tensor) -> Tensor:
        """Over the processes that share the trial."""
        ...

    def gathered(self, value: list[Any]) -> list[Any]:
        """The lists of all processes that share the trial, one after the other."""
        ...


class Objective(nn.Module):
    """The training loss of a batch, or with ``predict`` the output, as a module's forward."""

    at: At

    def __init__(self, recipe: Recipe, model: nn.Module) -> None:
        super().__init__()
        self.recipe = recipe
        self.model = model

    def forward(self, batch: Batch, predict: bool = False) -> Tensor:
        if predict:
            return self.recipe.predict(self.model, batch)
        return self.recipe.training_loss(self.model, batch, self.at)


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
    """One model, on as many devices as Fabric was given; it is trained in place."""

    def __init__(self, recipe: Recipe, model: nn.Module, fabric: L.Fabric) -> None:
        self.recipe, self.fabric, self.model = recipe, fabric, model
        self.rank, self.ranks = fabric.global_rank, fabric.world_size
        self._objective = Objective(recipe, model)
        self.objective = fabric.setup_module(self._objective)
        self.optimizer = fused(recipe.optimizer(recipe.parameter_groups(model)))
        self._optimizer: Any = fabric.setup_optimizers(self.optimizer)
        closure = inspect.signature(self.optimizer.step).parameters.get("closure")
        self._closure = closure is not None and closure.default is closure.empty
        self._augments = recipe.overrides("augment")
        self._changes = recipe.overrides("gradients", "gradients_together")
        self._outside = Outside(model, recipe)
        self._training: Batches | None = None
        self._index = 0

    def train(self, mode: bool = True) -> None:
        self.objective.train(mode)

    def step(self, batch: Batch, at: Sequence[At]) -> Tensor:
        self._objective.at = at[0]
        if self._augments:
            batch = self.recipe.augment(batch, at[0])
        if self._closure:  # the optimizer asks for as many passes as it needs
            losses: list[Tensor] = []

            def closure() -> Tensor:
                losses.append(self._backward(batch, at[0]))
                return losses[-1]

            self._optimizer.step(closure)
            loss = losses[0]
        else:
            loss = self._backward(batch, at[0])
            self._optimizer.step()
        self._index += 1
        return loss

    def _backward(self, batch: Batch, at: At) -> Tensor:
        """Gradients of a batch, ready for the step; the loss."""
        if self.recipe.accumulate > 1:
            loss = self._in_parts(batch)
        else:
            value = self._share(self.objective(batch))
            self._optimizer.zero_grad()
            self.fabric.backward(value)
            loss = value.detach()
        clips = self.recipe.clip_norm is not None or self.recipe.clip_value is not None
        if clips:
            self.fabric.clip_gradients(
                self.objective,
                self._optimizer,
                clip_val=self.recipe.clip_value,
                max_norm=self.recipe.clip_norm,
                error_if_nonfinite=False,
            )
        if self._changes:
            if not clips:
                self.fabric.strategy.precision.unscale_gradients(self.optimizer)
            self.recipe.gradients(self.model, at)
        return loss

    def _in_parts(self, batch: Batch) -> Tensor:
        """The same gradients, but for rounding, from one part of the batch after the other."""
        size = len(next(iter(batch.values())))
        count = min(self.recipe.accumulate, size)
        parts = {name: torch.tensor_split(column, count) for name, column in batch.items()}
        losses = []
        self._optimizer.zero_grad()
        for index in range(count):
            part = {name: pieces[index] for name, pieces in parts.items()}
            weight = len(next(iter(part.values()))) / size
            last = index == count - 1
            with self.fabric.no_backward_sync(self.objective, enabled=self.ranks > 1 and not last):
                value = self._share(self.objective(part) * weight)
                self.fabric.backward(value)
            losses.append(value.detach())
        return torch.stack(losses).sum()

    def _share(self, loss: Tensor) -> Tensor:
        """Gradients are averaged over ranks, which may have unequal shares of a batch."""
        return loss if self._training is None else loss * self._training.share(self._index)

    def batches(self, splits: Sequence[Batches], first: int) -> Iterable[Batch]:
        self._training = splits[0] if self.ranks > 1 else None
        self._index = first
        return (self._moved(batch) for batch in splits[0].starting(first))

    def outputs(self, splits: Sequence[Batches]) -> Iterator[list[tuple[Tensor, Batch]]]:
        for batch in map(self._moved, splits[0]):
            # Not through a wrapper that would wait for ranks without a batch.
            with self.fabric.autocast():
                yield [(self.recipe.predict(self.model, batch), batch)]

    def _moved(self, batch: Batch) -> Batch:
        """On the device, and in the model's precision where that is not single."""
        if self.fabric.device.type != "cpu":
            batch = self.fabric.to_device(batch)
        converted: Batch = self.fabric.strategy.precision.convert_input(batch)
        return converted

    def check(
        self, training: Sequence[Batches], evaluation: Sequence[Batches], at: Sequence[At]
    ) -> None:
        """Any model can be trained by itself."""

    def models(self) -> list[nn.Module]:
        return [self.model]

    def released(self) -> list[nn.Module]:
        return [self.model]

    def weights(self, index: int) -> dict[str, Tensor]:
        return self.model.state_dict()

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "outside": self._outside.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._outside.load(state["outside"])

    def agreed(self, value: tuple[bool, bool]) -> tuple[bool, bool]:
        return self.fabric.broadcast(value)

    def mean(self, value: Tensor) -> Tensor:
        reduced: Tensor = self.fabric.all_reduce(value, reduce_op="mean")  # type: ignore[assignment]
        return reduced

    def gathered(self, value: list[Any]) -> list[Any]:
        if self.ranks == 1:
            return value
        found: list[list[Any]] = [[] for _ in range(self.ranks)]
        torch.distributed.all_gather_object(found, value)
        return [item for each in found for item in each]
