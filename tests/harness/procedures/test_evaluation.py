"""Figures do not depend on how a split is divided into batches, and NaN is no answer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC, MulticlassAccuracy
from torchmetrics.regression import MeanSquaredError

from harness.loading.splits import Splits, Tensors
from harness.procedures.base import Diverged
from harness.procedures.evaluation import needs_all_outputs
from harness.procedures.fit import Fit
from harness.procedures.recipe import Recipe
from harness.procedures.training import train, train_together


class Passing(nn.Module):
    """Its output is its input: the figures are those of the data."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return x + 0 * self.unused


def logits(count: int = 200) -> Tensors:
    """In the first half all lie within [0, 1], and would be taken for probabilities."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(count, generator=generator)
    x[count // 2 :] = 6 * x[count // 2 :] - 4
    y = (torch.rand(count, generator=generator) < x.sigmoid()).long()
    return Tensors(x=x, y=y)


@pytest.mark.parametrize("metric", [BinaryAUROC, BinaryAccuracy])
@pytest.mark.parametrize("size", [10, 64])
def test_logits_are_told_from_probabilities_over_the_whole_split(trial, metric, size) -> None:
    split = logits()
    recipe = Recipe(nn.MSELoss(), {"m": metric()}, epochs=1, eval_batch_size=size)
    recipe.training_loss = lambda model, batch, at: model(batch["x"]).mean()
    found = train(Passing(), Splits(split, split), recipe, trial())
    whole = metric()(split.columns["x"].sigmoid(), split.columns["y"])
    assert found.row["m"] == pytest.approx(float(whole))
    by_parts = metric()
    for indices in torch.arange(200).split(size):
        by_parts.update(**dict(zip(("preds", "target"), split[indices].values(), strict=True)))
    if size == 10:
        assert float(by_parts.compute()) != pytest.approx(float(whole)), "the trap is there"


def test_only_metrics_that_need_it_hold_all_outputs() -> None:
    assert needs_all_outputs(BinaryAUROC()) and needs_all_outputs(BinaryAccuracy())
    assert not needs_all_outputs(MulticlassAccuracy(3)) and not needs_all_outputs(
        MeanSquaredError()
    )


class Broken(Passing):
    """One of its outputs is NaN in evaluation; as an argmax it would count as class 0."""

    def forward(self, x):
        x = super().forward(x)
        if not self.training:
            x = x.clone()
            x[0, 0] = torch.nan
        return x


def test_outputs_that_are_no_numbers_are_no_figure(trial, splits, settings, net) -> None:
    class Six(Broken):
        def forward(self, x):
            return super().forward(x)[:, :2]

    with pytest.raises(Diverged, match="not a number after epoch 1"):
        train(Six(), splits, Recipe(**settings), trial())


def test_in_a_group_the_other_models_go_on(trial, splits, settings, net) -> None:
    def poisoned():
        model = net(nn.BatchNorm1d(8))
        model.layers[2].running_mean.fill_(torch.nan)  # training does not look at it
        return model

    recipe = Recipe(**settings | {"epochs": 1})
    trials = [trial(seed=seed, checkpoints=None) for seed in (1, 2)]
    makers = [poisoned, lambda: net(nn.BatchNorm1d(8))]
    broken, fine = train_together(makers, [splits] * 2, recipe, trials)
    assert isinstance(broken, Diverged) and 0 <= fine.row["accuracy"] <= 1


def test_the_training_loss_weighs_examples(trial) -> None:
    """Of 65 examples in batches of 64 the last is no half of the mean."""
    split = Tensors(x=torch.arange(65.0)[:, None] / 64, y=torch.zeros(65, 1))
    recipe = Recipe(nn.MSELoss(), optimizer=lambda p: torch.optim.SGD(p, lr=0.0), epochs=1)
    found = train(Passing(), split, recipe, trial())
    assert found.row["train_loss"] == pytest.approx(float(split.columns["x"].square().mean()))


class Density(Fit):
    """Nats of a normal density: there is no target."""

    def training_loss(self, model, batch, at) -> Tensor:
        return self.predict(model, batch).mean()

    def predict(self, model, batch) -> Tensor:
        return (batch["x"] - model.unused).square().sum(-1) / 2

    def scored(self, meter, output, batch) -> None:
        meter.update(output)


def test_splits_without_a_target_are_scored_by_the_output(trial, splits) -> None:
    bare = Splits(*(Tensors(x=s.columns["x"]) for s in (splits.train, splits.test)))
    density = Density(metrics={"nats": MeanMetric()}, mode={"nats": "min"}, epochs=2)
    found = density.run(trial(data=bare, model=Passing))
    assert found.metrics["best_nats"] == min(found.series["nats"].y) > 0


def test_further_test_sets_and_a_swept_one(trial, splits, settings) -> None:
    test = splits.test
    flipped = Tensors(x=-test.columns["x"], y=test.columns["y"])
    shifted = {s: Tensors(x=test.columns["x"] + s, y=test.columns["y"]) for s in (2.0, 0.0, 9.0)}
    data = Splits(splits.train, test, tests={"flipped": flipped, "shift": shifted, "other": test})
    fit = Fit(**settings, tests=["flipped", "shift"])
    found = fit.run(trial(data=data))
    accuracy = found.metrics["accuracy"]
    assert found.metrics["accuracy@flipped"] < 0.5 < accuracy
    series = found.series["accuracy@shift"]
    assert (series.over, series.x) == ("shift", [0.0, 2.0, 9.0])
    assert series.y[0] == accuracy > series.y[2]
    produced = Fit.produces({"metrics": {"accuracy": None}, "tests": ["flipped", "shift"]})
    assert {*found.metrics, *found.series} <= produced
    together = fit.run_together([trial(data=data, seed=s, checkpoints=None) for s in (3, 4)])[0]
    assert together.series["accuracy@shift"].y == pytest.approx(series.y, abs=0.04)
    with pytest.raises(ValueError, match="no test set 'noise'; it has flipped, shift, other"):
        Fit(**settings | {"epochs": 1}, tests=["noise"]).run(trial("b", data=data))
