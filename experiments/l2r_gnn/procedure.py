"""Training on graphs, plain and with graph weights, and what is measured of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric

from experiments.l2r_gnn.decorrelation import across, effective_share
from experiments.l2r_gnn.model import GraphNetwork
from experiments.l2r_gnn.weights import LookAhead
from harness.loading.splits import Batch, Split
from harness.procedures.base import Outcome, Trial
from harness.procedures.fit import Fit
from harness.procedures.recipe import At

Weighting = Callable[[int, int, int], nn.Module]


class GraphFit(Fit):
    """Fit for graphs. The loss has to be one without reduction.

    Besides what Fit reports: ``fitted_loss``, that of the training graphs at the end of training
    (in evaluation mode, every graph counting alike); ``gap``, the loss of validation graphs minus
    that; and ``alike_gap``, the same of test graphs drawn like the training graphs, if there are.
    """

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return super().produces(init_args) | {"fitted_loss", "gap", "alike_gap"}

    @classmethod
    def sometimes(cls, init_args: Mapping[str, Any]) -> set[str]:
        return super().sometimes(init_args) | {"alike_gap"}

    def training_loss(self, model: nn.Module, batch: Batch, at: At) -> Tensor:
        return self._losses(self.predict(model, batch), batch["y"]).mean()

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        output: Tensor = model(batch["x"], batch["edges"], batch["graph"])
        return output

    def scored(self, meter: Metric, output: Tensor, batch: Batch) -> None:
        if isinstance(meter, MeanMetric):
            meter.update(self._losses(output, batch["y"]))
        else:
            super().scored(meter, output, batch)

    @torch.no_grad()
    def measure(self, model: nn.Module, trial: Trial) -> Outcome:
        data = trial.data
        fitted = self._loss_on(model, data.train, trial)
        found = {"fitted_loss": fitted, "gap": self._loss_on(model, data.val, trial) - fitted}
        if "alike" in data.tests:
            found["alike_gap"] = self._loss_on(model, data.tests["alike"], trial) - fitted
        return Outcome(found)

    def _losses(self, output: Tensor, target: Tensor) -> Tensor:
        losses: Tensor = self.loss(output, target)
        return losses

    def _loss_on(self, model: nn.Module, split: Split, trial: Trial) -> float:
        losses = []
        for indices in torch.split(torch.arange(len(split)), self.eval_batch_size):
            batch = _on(split[indices], trial.device)
            losses.append(self._losses(self.predict(model, batch), batch["y"]))
        return float(torch.cat(losses).mean())


class Reweighted(GraphFit):
    """Fit with a weight for every training graph: Σ_n w_n ℓ(g(Φ(G_n)), y_n).

    Also reported: ``ess``, the effective sample size as a share of the training graphs;
    ``weight_spread``, the standard deviation of the weights (of mean 1); ``crossing``, the share
    of pairs of coordinates in different clusters; and where the data say which graphs are rare
    (the star disagrees with the label), ``rare_weight``, their mean weight.

    Args:
        weighting: makes the module that learns weights, from how many training graphs there
            are, the width of representations, and the batch size.
        look_ahead: η, the step of the classifier to which validation losses belong.
        permuted: every weight is given to another graph of its batch (control).
        settings: of Fit.
    """

    def __init__(
        self,
        weighting: Weighting,
        look_ahead: float = 1.0,
        permuted: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.weighting, self.look_ahead, self.permuted = weighting, look_ahead, permuted
        self.learner: nn.Module = nn.Identity()
        self._trial: Trial | None = None

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        own = {"ess", "weight_spread", "crossing", "rare_weight"}
        return super().produces(init_args) | own

    @classmethod
    def sometimes(cls, init_args: Mapping[str, Any]) -> set[str]:
        return super().sometimes(init_args) | {"rare_weight"}

    def run(self, trial: Trial) -> Outcome:
        network = trial.model()
        assert isinstance(network, GraphNetwork)
        width = network.head.in_features
        made = self.weighting(len(trial.data.train), width, self.batch_size)
        self.learner, self._trial = made.to(trial.device), trial
        return super().run(trial)

    def training_loss(self, model: nn.Module, batch: Batch, at: At) -> Tensor:
        assert isinstance(model, GraphNetwork)
        z = model.represent(batch["x"], batch["edges"], batch["graph"])

        def validation() -> LookAhead:
            held_out = self._held_out(model, at)
            both = (z.detach(), batch["y"]), held_out
            return LookAhead(model.head, self._losses, self.look_ahead, *both)

        weights = self.learner(z, batch["index"], at.epoch, at.generator, validation)
        if self.permuted:
            order = torch.randperm(len(z), generator=at.generator, device=z.device)
            weights = weights[order]
        loss: Tensor = (weights * self._losses(model.classify(z), batch["y"])).mean()
        return loss

    @torch.no_grad()
    def _held_out(self, model: GraphNetwork, at: At) -> tuple[Tensor, Tensor]:
        """Representations and targets of as many validation graphs as a batch has."""
        assert self._trial is not None
        split, device = self._trial.data.val, self._trial.device
        order = torch.randperm(len(split), generator=at.generator, device=device)
        batch = _on(split[order[: self.batch_size].cpu()], device)
        model.eval()
        z = model.represent(batch["x"], batch["edges"], batch["graph"])
        model.train()
        return z, batch["y"]

    @torch.no_grad()
    def measure(self, model: nn.Module, trial: Trial) -> Outcome:
        found = dict(super().measure(model, trial).metrics)
        weights, clusters = self.learner.weights, self.learner.clusters
        assert isinstance(weights, Tensor) and isinstance(clusters, Tensor)
        d = len(clusters)
        found["ess"] = float(effective_share(weights))
        found["weight_spread"] = float((weights / weights.mean()).std(correction=0))
        found["crossing"] = float(across(clusters).sum()) / (d * (d - 1) / 2)
        rare = getattr(trial.data, "rare", None)
        if rare is not None:
            found["rare_weight"] = float(weights[rare.to(weights.device)].mean() / weights.mean())
        return Outcome(found)


def _on(batch: Batch, device: torch.device) -> Batch:
    return {name: column.to(device) for name, column in batch.items()}
