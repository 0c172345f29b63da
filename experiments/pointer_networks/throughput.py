"""How fast the networks are trained."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from experiments.pointer_networks.model import PAD
from experiments.pointer_networks.procedure import Pointing
from harness.loading.splits import Batch
from harness.procedures.base import Outcome, Trial
from harness.procedures.recipe import At


class Throughput(Pointing):
    """An epoch of :class:`Pointing`, timed: ``tokens_per_second``.

    Target tokens without padding, from the second batch to the last, over the wall time in
    between: getting a batch, both passes and the optimizer.
    """

    def __init__(self, **pointing: Any) -> None:
        super().__init__(**pointing)
        self.marks: list[tuple[float, Tensor]] = []

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"tokens_per_second"} | super().produces(init_args)

    @classmethod
    def sometimes(cls, init_args: Mapping[str, Any]) -> set[str]:
        """What decoding the test sets would give, which is not done."""
        return super().produces(init_args)

    def training_loss(self, model: nn.Module, batch: Batch, at: At) -> Tensor:
        if batch["y"].is_cuda:
            torch.cuda.synchronize()
        self.marks.append((time.perf_counter(), (batch["y"] != PAD).sum()))
        return super().training_loss(model, batch, at)

    def measure(self, model: nn.Module, trial: Trial) -> Outcome:
        *timed, (end, _) = self.marks
        if not timed:
            raise ValueError("a single batch cannot be timed")
        tokens = sum(int(count) for _, count in timed)
        return Outcome({"tokens_per_second": tokens / (end - timed[0][0])})
