"""A recipe says how a model is trained: settings, and hooks for what a paper does differently."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from harness.loading.splits import Batch, Splits
from harness.procedures import settings
from harness.seeding import derive


class At:
    """Where training is.

    Attributes:
        seed: of the training.
        step: optimizer steps made before this one, over all epochs.
        epoch: whole passes over the training examples made before this one.
        steps, epochs: of the whole training.
    """

    def __init__(
        self, seed: int, step: int, epoch: int, steps: int, epochs: int, device: torch.device
    ) -> None:
        self.seed, self.step, self.epoch = seed, step, epoch
        self.steps, self.epochs = steps, epochs
        self._device = device

    @cached_property
    def generator(self) -> torch.Generator:
        """Random numbers on the batch's device that depend on seed, epoch and step alone."""
        purpose = derive(self.seed, "step", self.epoch, self.step)
        return torch.Generator(self._device).manual_seed(purpose)


class Missing(nn.Module):
    """Stands for the loss of a recipe that has none; it cannot be called."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        raise ValueError("the recipe has no loss, and no training_loss of its own")


class Recipe:
    """Settings of a training, and hooks.

    Args:
        loss: called with the model's output and the target ``y``; not needed where
            :meth:`training_loss` does without.
        metrics: torchmetrics by name, updated by :meth:`scored`.
        optimizer: from the parameters.
        epochs: passes over the training examples; 10 unless ``steps`` are given.
        steps: optimizer steps, instead of epochs.
        batch_size: examples a step.
        accumulate: parts in which the model is given a step's batch, one after the other, where
            the whole does not fit into memory; the loss has to be a mean over examples.
        schedule: learning-rate schedule from the optimizer; one that wants a figure
            (``ReduceLROnPlateau``) gets that of ``monitor`` at every evaluation.
        schedule_every: whether the schedule advances by epoch or by step.
        clip_norm: bound on the global gradient norm.
        clip_value: bound on each gradient element.
        drop_last: leave out an incomplete last training batch.
        ema: evaluate and return a running mean of the weights, the decay of which this is.
        eval_every: epochs between evaluations (training always ends with one).
        eval_steps: steps between evaluations, instead of epochs.
        eval_batch_size: examples an evaluation step; default ``batch_size``.
        tests: names of ``data.tests`` to measure once training is over.
        select: weights of the ``last`` step, or of the ``best`` evaluation by ``monitor``.
        monitor: the figure that decides which evaluation is best: ``val_…``, ``train_loss`` or
            one of :meth:`watch`; default the first metric on the validation split.
        mode: whether the most or the least is best, for figures that do not say it themselves.
        ties: which of equal evaluations is the best one; with ``last``, an equal one renews
            the patience.
        min_delta: by how much an evaluation has to be better than the best one.
        patience: evaluations without a better one, after which training stops.
        fabric: arguments of Lightning's Fabric (``devices``, ``strategy``, ``precision``, …), for
            strategies that keep the whole model on every device. With several devices
            ``batch_size`` is still that of one step of all of them together, and the loss has
            to be a mean over examples.

    Attributes:
        scores_diverged: whether models are evaluated like any other whose loss became infinite,
            or whose outputs are no numbers; otherwise they end in ``Diverged``.

    Raises:
        ValueError: when settings contradict each other.
    """

    scores_diverged = False

    def __init__(
        self,
        loss: nn.Module | None = None,
        metrics: dict[str, Metric] | None = None,
        optimizer: OptimizerCallable = torch.optim.Adam,
        epochs: int | None = None,
        steps: int | None = None,
        batch_size: int = 64,
        accumulate: int = 1,
        schedule: LRSchedulerCallable | None = None,
        schedule_every: Literal["epoch", "step"] = "epoch",
        clip_norm: float | None = None,
        clip_value: float | None = None,
        drop_last: bool = False,
        ema: float | None = None,
        eval_every: int = 1,
        eval_steps: int | None = None,
        eval_batch_size: int | None = None,
        tests: list[str] | None = None,
        select: Literal["last", "best"] = "last",
        monitor: str | None = None,
        mode: dict[str, Literal["min", "max"]] | None = None,
        ties: Literal["first", "last"] = "first",
        min_delta: float = 0.0,
        patience: int | None = None,
        fabric: dict[str, Any] | None = None,
    ) -> None:
        self.loss: nn.Module = Missing() if loss is None else loss
        self.metrics = metrics or {}
        self.optimizer = optimizer
        self.epochs = 10 if epochs is None and steps is None else epochs
        self.steps = steps
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.schedule = schedule
        self.schedule_every = schedule_every
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        self.drop_last = drop_last
        self.ema = ema
        self.eval_every = eval_every
        self.eval_steps = eval_steps
        self.eval_batch_size = eval_batch_size or batch_size
        self.tests = tests or []
        self.select = select
        self.monitor = monitor or settings.monitored({"metrics": self.metrics})
        self.mode = dict(mode or {})
        self.ties, self.min_delta = ties, min_delta
        self.patience = patience
        self.fabric = fabric or {}
        for problem in settings.contradictions(vars(self) | {"epochs": epochs, "monitor": monitor}):
            raise ValueError(problem)

    @classmethod
    def refused(cls, init_args: Mapping[str, Any]) -> Iterator[str]:
        """What contradicts itself in a spec's ``init_args``, told before anything is built."""
        yield from settings.contradictions(init_args)

    @property
    def directions(self) -> dict[str, bool]:
        """Whether more is better, for each figure of which that is known."""
        return settings.directions(self.metrics, self.mode)

    def training_loss(self, model: nn.Module, batch: Batch, at: At) -> Tensor:
        """The scalar to be minimised on one batch."""
        value: Tensor = self.loss(self.predict(model, batch), batch["y"])
        return value

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        """The output that loss and metrics are given."""
        output: Tensor = model(**{k: v for k, v in batch.items() if k != "y"})
        return output

    def scored(self, meter: Metric, output: Tensor, batch: Batch) -> None:
        """Update a metric; a split without ``y`` may be scored by the output alone."""
        meter.update(output, batch["y"])

    def watch(self, model: nn.Module, data: Splits, at: At) -> Mapping[str, float]:
        """Further figures of every evaluation, of the model in evaluation mode."""
        return {}

    def augment(self, batch: Batch, at: At) -> Batch:
        """What becomes of a training batch; draws from ``at.generator`` are the same again when
        training is resumed."""
        return batch

    def parameter_groups(self, model: nn.Module) -> Iterable[Any]:
        """What the optimizer is given: parameters, or groups of them with settings."""
        return model.parameters()

    def gradients(self, model: nn.Module, at: At) -> None:
        """Change the gradients, after clipping and before the step."""
        found = {n: p.grad[None] for n, p in model.named_parameters() if p.grad is not None}
        self.gradients_together(found, [at])

    def gradients_together(self, gradients: Mapping[str, Tensor], at: Sequence[At]) -> None:
        """The same for R models at once, where a call for each would be slow.

        ``gradients`` are (R, …) by the parameter's name, to be changed in place; a recipe has
        this hook or :meth:`gradients`.
        """

    def converged(self, row: Mapping[str, float]) -> bool:
        """Whether to stop after the epoch or evaluation whose figures these are."""
        return False

    def overrides(self, *hooks: str) -> bool:
        """Whether a paper has one of these hooks of its own."""
        return any(getattr(type(self), hook) is not getattr(Recipe, hook) for hook in hooks)
