"""Which weights a training ends with, when it stops, and what may decide that."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from torchmetrics.regression import MeanSquaredError, PearsonCorrCoef

from harness.loading.splits import Splits, Tensors
from harness.procedures.fit import Fit
from harness.procedures.recipe import Recipe
from harness.procedures.selection import Selection
from harness.procedures.training import Trained, train, train_together


def accuracy(model: nn.Module, split) -> float:
    batch = split[torch.arange(len(split))]
    with torch.no_grad():
        return float((model(batch["x"]).argmax(1) == batch["y"]).double().mean())


class Line(nn.Module):
    """Correlates better and better with its target."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 0.0]))

    def forward(self, x):
        return x @ self.weight


def line() -> Splits:
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    part = Tensors(x=x, y=x[:, 1] - 0.5 * x[:, 0])
    return Splits(part, part, part)


def correlating(**changes) -> Fit:
    sgd = lambda parameters: torch.optim.SGD(parameters, lr=0.1)  # noqa: E731
    metrics = {"pearson": PearsonCorrCoef()}
    return Fit(nn.MSELoss(), metrics, sgd, epochs=10, batch_size=64, **changes)


def test_a_metric_that_may_be_better_either_way_has_no_best_epoch(trial) -> None:
    found = correlating().run(trial(data=line(), model=Line))
    curve = found.series["pearson"].y
    assert curve == sorted(curve) and curve[0] < 0.4 < 0.9 < curve[-1]
    assert {*found.metrics} == {"pearson", "val_pearson", "train_loss", "parameters"}
    directed = correlating(mode={"pearson": "max"}).run(trial("b", data=line(), model=Line))
    assert directed.metrics["best_pearson"] == curve[-1] == directed.metrics["selected_pearson"]
    assert directed.metrics["best_epoch"] == 10


def test_such_a_metric_selects_nothing_unless_told_how() -> None:
    spec = {"pearson": {"class_path": "torchmetrics.regression.PearsonCorrCoef"}}
    for setting in ({"select": "best"}, {"patience": 3}):
        (problem,) = Fit.refused({"metrics": spec, **setting})
        assert "whether more or less pearson is better" in problem
        assert not list(Fit.refused({"metrics": spec, "mode": {"pearson": "max"}, **setting}))
        with pytest.raises(ValueError, match="pearson is better"):
            correlating(**setting)
    assert not list(Fit.refused({"metrics": spec})), "unless it selects"
    produced = Fit.produces({"metrics": spec})
    assert "pearson" in produced and not any(name.startswith("best") for name in produced)


def noisy(settings: dict, **changes) -> Recipe:
    """Steps so large that accuracies go up and down."""
    sgd = lambda parameters: torch.optim.SGD(parameters, lr=2.0)  # noqa: E731
    return Recipe(**settings | {"optimizer": sgd, "epochs": 8, **changes})


def test_the_best_weights_on_validation_are_those_that_are_measured(
    trial, splits, settings, net
) -> None:
    last = train(net, splits, noisy(settings), trial("a"))
    found = train(net, splits, noisy(settings, select="best"), trial("b"))
    curve = [row["val_accuracy"] for row in found.curves]
    assert max(curve) > curve[-1], "otherwise this shows nothing"
    assert found.row == found.curves[curve.index(max(curve))]
    assert accuracy(found.model, splits.val) == pytest.approx(max(curve))
    assert accuracy(found.model, splits.test) == pytest.approx(found.row["accuracy"])
    assert last.curves == found.curves and last.row == last.curves[-1]


class Measuring(Fit):
    def measure(self, model, trial):
        from harness.procedures.base import Outcome

        return Outcome({"measured": accuracy(model, trial.data.test)})


def test_weights_are_restored_before_anything_is_measured(trial, settings) -> None:
    fit = Measuring(**vars_of(noisy(settings)) | {"select": "best"})
    found = fit.run(trial())
    assert found.metrics["measured"] == pytest.approx(found.metrics["accuracy"])
    assert found.metrics["accuracy"] == found.metrics["selected_accuracy"]


def vars_of(recipe: Recipe) -> dict:
    names = ("loss", "metrics", "optimizer", "epochs", "batch_size")
    return {name: getattr(recipe, name) for name in names}


def test_patience_counts_evaluations_without_a_better_one(trial, splits, settings, net) -> None:
    whole = train(net, splits, noisy(settings, epochs=20), trial("a"))
    curve = [row["val_accuracy"] for row in whole.curves]
    found = train(net, splits, noisy(settings, epochs=20, patience=3), trial("b"))
    best, since, epoch = curve[0], 0, 1
    while since < 3:
        epoch += 1
        value = curve[epoch - 1]
        best, since = (value, 0) if value > best else (best, since + 1)
    assert 3 < epoch < 20 and len(found.curves) == epoch
    assert found.samples == epoch * 90 and found.curves == whole.curves[:epoch]


@pytest.mark.parametrize(
    ("changes", "best", "since"),
    [
        ({}, 2, 3),
        ({"ties": "last"}, 4, 1),  # an equal one is the best, and renews the patience
        ({"min_delta": 0.15}, 1, 4),  # from 0.5 on, a gain of 0.1 is none
        ({"min_delta": 0.15, "mode": {"gap": "min"}}, 5, 0),
    ],
)
def test_which_of_evaluations_that_are_as_good_or_hardly_better_is_best(
    changes, best, since
) -> None:
    recipe = Recipe(select="best", monitor="gap", **{"mode": {"gap": "max"}, **changes})
    selection = Selection(recipe)
    for epoch, value in enumerate((0.5, 0.6, 0.4, 0.6, 0.2), 1):
        selection.look({"epoch": epoch, "gap": value}, {})
    assert (selection.row["epoch"], selection.since) == (best, since)


@pytest.mark.parametrize("changes", [{"min_delta": -0.1}, {"min_delta": 0.1, "ties": "last"}])
def test_a_least_gain_is_refused_where_it_makes_no_sense(changes) -> None:
    (problem,) = Fit.refused(changes)
    assert "min_delta" in problem


def test_each_model_of_a_group_stops_and_selects_by_itself(trial, splits, settings, net) -> None:
    seeds = [1, 2, 3]
    for changes in ({"patience": 2}, {"select": "best"}, {"patience": 2, "select": "best"}):
        recipe = noisy(settings, epochs=12, **changes)
        trials = [trial(seed=seed, checkpoints=None) for seed in seeds]
        together = train_together([net] * 3, [splits] * 3, recipe, trials)
        for one, each in zip(together, trials, strict=True):
            alone = train(net, splits, recipe, each)
            assert isinstance(one, Trained)
            assert [r["epoch"] for r in one.curves] == [r["epoch"] for r in alone.curves]
            assert one.row["epoch"] == alone.row["epoch"] and one.samples == alone.samples
            for name, tensor in alone.model.state_dict().items():
                torch.testing.assert_close(
                    one.model.state_dict()[name], tensor, rtol=1e-3, atol=1e-4
                )
        assert len({len(t.curves) for t in together}) > 1 or "patience" not in changes


class Stops(Recipe):
    def converged(self, row) -> bool:
        return row["train_loss"] < 0.6


def test_a_recipe_may_stop_of_its_own_accord(trial, splits, settings, net) -> None:
    found = train(net, splits, Stops(**settings | {"epochs": 50, "eval_every": 100}), trial())
    assert found.row["train_loss"] < 0.6 and found.row["epoch"] < 50
    assert len(found.curves) == 1 and "accuracy" in found.row, "the end is evaluated"


def test_selecting_needs_a_validation_split_and_never_takes_the_test_split(
    trial, splits, settings, net
) -> None:
    bare = Splits(splits.train, splits.test)
    with pytest.raises(ValueError, match="no validation split for val_accuracy"):
        train(net, bare, Recipe(**settings, select="best"), trial())
    with pytest.raises(ValueError, match="val_accuracy is of the validation split"):
        Recipe(**settings, select="best", monitor="accuracy")
    found = train(net, bare, Recipe(**settings, select="best", monitor="train_loss"), trial("b"))
    assert found.row == min(found.curves, key=lambda row: row["train_loss"])


class Watching(Recipe):
    """Its figure is best at epoch 2."""

    def watch(self, model, data, at):
        assert not model.training and not torch.is_grad_enabled()
        return {"gap": abs(at.epoch - 2.0)}


def test_what_a_recipe_watches_may_decide(trial, splits, settings, net) -> None:
    with pytest.raises(ValueError, match=r"mode: \{gap: max\} or min"):
        Watching(**settings, select="best", monitor="gap")
    recipe = Watching(**settings, select="best", monitor="gap", mode={"gap": "min"})
    found = train(net, splits, recipe, trial())
    assert found.row["epoch"] == 2 and [row["gap"] for row in found.curves] == [1, 0, 1, 2]


def test_a_schedule_that_wants_a_figure_gets_it(trial, splits, settings, net) -> None:
    rates: list[float] = []

    class Rates(Recipe):
        def gradients(self, model, at) -> None:
            rates.append(optimizers[-1].param_groups[0]["lr"])

    optimizers: list[torch.optim.Optimizer] = []

    def sgd(parameters):
        optimizers.append(torch.optim.SGD(parameters, lr=2.0))
        return optimizers[-1]

    plateau = lambda o: ReduceLROnPlateau(o, mode="max", factor=0.5, patience=0)  # noqa: E731
    recipe = Rates(**settings | {"optimizer": sgd, "epochs": 8, "schedule": plateau})
    found = train(net, splits, recipe, trial())
    rate, best, expected = 2.0, -1.0, []
    for row in found.curves:
        expected += [rate] * 3
        rate, best = (rate, row["val_accuracy"]) if row["val_accuracy"] > best else (rate / 2, best)
    assert rates == expected and rates[-1] < 2.0


def test_a_schedule_by_a_figure_in_the_wrong_direction_is_refused(
    trial, splits, settings, net
) -> None:
    least = {"class_path": "torch.optim.lr_scheduler.ReduceLROnPlateau"}
    spec = {"accuracy": {"class_path": "torchmetrics.classification.MulticlassAccuracy"}}
    (problem,) = Fit.refused({"metrics": spec, "schedule": least})
    assert "more val_accuracy is better" in problem
    assert not list(Fit.refused({"metrics": spec, "schedule": least, "monitor": "train_loss"}))
    (problem,) = Fit.refused(
        {
            "metrics": spec,
            "schedule": least | {"init_args": {"mode": "max"}},
            "schedule_every": "step",
        }
    )
    assert "advances by evaluations" in problem
    with pytest.raises(ValueError, match="wrong mode for val_accuracy"):
        train(net, splits, Recipe(**settings, schedule=ReduceLROnPlateau), trial())


def test_a_running_mean_of_weights_is_evaluated_and_returned(trial, splits, settings, net) -> None:
    decay, kept = 0.8, []

    class Kept(Recipe):
        def gradients(self, model, at) -> None:
            kept.append(copy.deepcopy(model.state_dict()))

    plain = train(net, splits, Kept(**settings), trial("a"))
    steps = [*kept, plain.model.state_dict()]
    mean = steps[0]
    for weights in steps[1:]:
        mean = {name: decay * mean[name] + (1 - decay) * weights[name] for name in mean}
    found = train(net, splits, Recipe(**settings, ema=decay), trial("b"))
    for name, tensor in found.model.state_dict().items():
        torch.testing.assert_close(tensor, mean[name])
    assert found.row["train_loss"] == plain.row["train_loss"], "training is the same"
    assert accuracy(found.model, splits.test) == pytest.approx(found.row["accuracy"])
    assert not torch.allclose(mean["layers.0.weight"], steps[-1]["layers.0.weight"], atol=1e-3)
    both = train(net, splits, noisy(settings, ema=decay, select="best"), trial("c"))
    assert accuracy(both.model, splits.val) == pytest.approx(both.row["val_accuracy"])


def test_an_error_selects_by_its_least(trial) -> None:
    decaying = lambda optimizer: StepLR(optimizer, 1)  # noqa: E731
    metrics = {"mse": MeanSquaredError()}
    fit = Fit(nn.MSELoss(), metrics, epochs=3, select="best", schedule=decaying)
    found = fit.run(trial(data=line(), model=Line))
    assert found.metrics["best_mse"] == min(found.series["mse"].y) == found.metrics["mse"]
