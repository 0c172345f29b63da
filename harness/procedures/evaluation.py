"""Metrics of models over a split, batch by batch or over all outputs at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassStatScores

from harness.loading.splits import Batch
from harness.procedures.base import Diverged
from harness.procedures.batches import Batches
from harness.procedures.networks import Networks
from harness.procedures.recipe import Recipe

Output = tuple[Tensor, Batch]


def needs_all_outputs(meter: Metric) -> bool:
    """Whether a metric's value depends on how the outputs are divided into batches.

    Metrics of classes take outputs for logits as soon as *one in the batch* lies outside [0, 1],
    so that AUROC over batches mixes logits and probabilities. Those that only look for the
    largest output do not care.
    """
    if isinstance(meter, MulticlassStatScores | MulticlassConfusionMatrix):
        return False
    modules = (base.__module__ for base in type(meter).__mro__)
    return any(
        m.startswith(("torchmetrics.classification", "torchmetrics.wrappers")) for m in modules
    )


class Evaluation:
    """Metrics of R models, each over a split of its own.

    Args:
        recipe: how outputs are made and scored.
        networks: the models.
        splits: one for each model.
        devices: of the models.
    """

    def __init__(
        self,
        recipe: Recipe,
        networks: Networks,
        splits: Sequence[Batches],
        devices: Sequence[torch.device],
    ) -> None:
        self.recipe, self.networks, self.splits = recipe, networks, splits
        self.meters = [
            {name: meter.clone().to(device) for name, meter in recipe.metrics.items()}
            for device in devices
        ]
        gathered = {name for name, meter in recipe.metrics.items() if needs_all_outputs(meter)}
        self.gathered, self.streamed = gathered, set(recipe.metrics) - gathered

    def __call__(self, alive: Sequence[int]) -> dict[int, dict[str, float] | Diverged]:
        """Values by name of each model in ``alive``; an error for one whose outputs have NaN."""
        kept: dict[int, list[Output]] = {index: [] for index in alive}
        broken: dict[int, Tensor] = {}
        for outputs in self.networks.outputs(self.splits):
            for index in alive:
                output, batch = outputs[index]
                nan = torch.isnan(output).any()
                broken[index] = broken[index] | nan if index in broken else nan
                for name in self.streamed:
                    self.recipe.scored(self.meters[index][name], output, batch)
                if self.gathered:
                    kept[index].append((output, batch))
        lost = {index for index, flag in broken.items() if self._anywhere(flag)}
        return {index: self._values(index, kept[index], index in lost) for index in alive}

    def _anywhere(self, flag: Tensor) -> bool:
        """On any of the processes, unless the recipe does not mind."""
        if self.recipe.scores_diverged:
            return False
        return bool(self.networks.mean(flag.float()) if self.networks.ranks > 1 else flag)

    def _values(self, index: int, kept: list[Output], lost: bool) -> dict[str, float] | Diverged:
        meters = self.meters[index]
        if self.gathered and not lost:
            self._score_at_once(index, self.networks.gathered(kept))
        found = {} if lost else {name: float(meter.compute()) for name, meter in meters.items()}
        for meter in meters.values():
            meter.reset()
        return Diverged("an output is not a number") if lost else found

    def _score_at_once(self, index: int, kept: Sequence[Output]) -> None:
        device = next(iter(self.meters[index].values())).device
        output = torch.cat([output.to(device) for output, _ in kept])
        batch = {
            name: torch.cat([each[name].to(device) for _, each in kept]) for name in kept[0][1]
        }
        for name in self.gathered:
            meter = self.meters[index][name]
            meter.sync_on_compute = False  # every process has all outputs
            self.recipe.scored(meter, output, batch)
