import math

import pytest
import torch
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from experiments.rnn_review.data import IGNORED, latch, look_ahead, order
from experiments.rnn_review.model import SequenceModel
from experiments.rnn_review.procedure import CrossEntropy, TunedFit
from harness.loading.splits import Splits, Tensors
from harness.procedures.base import Diverged, Trial


def adam(parameters):
    return torch.optim.Adam(parameters, lr=1e-2)


def fit(classes, **settings):
    accuracy = MulticlassAccuracy(classes, average="micro", ignore_index=IGNORED)
    base = {
        "loss": nn.CrossEntropyLoss(),
        "metrics": {"accuracy": accuracy},
        "optimizer": adam,
        "clip_norm": 1.0,
    }
    return TunedFit(**(base | settings))


def trial(data, tmp_path, seed=0, **model):
    def made():
        return SequenceModel(**(data.dims | model))

    return Trial(seed, data, made, torch.device("cpu"), tmp_path)


def run(data, tmp_path, seed=0, steps=100, rates=None, probe=10, optimizer=adam, **model):
    settings = {"steps": steps, "rates": rates, "probe": probe, "optimizer": optimizer}
    return fit(data.dims["outputs"], **settings).run(trial(data, tmp_path, seed, **model))


def shuffled(data):
    columns = dict(data.train.columns)
    columns["y"] = columns["y"][torch.randperm(len(columns["y"]))]
    return Splits(Tensors(**columns), data.test, data.val, data.dims)


def test_only_a_network_that_reads_from_the_end_knows_what_comes(tmp_path):
    data = look_ahead(0, length=20, train=6400, test=300)
    settings = {"parameters": 1200, "every_step": True}
    both = run(data, tmp_path, both_directions=True, **settings)
    assert both.metrics["accuracy"] > 0.99
    assert run(data, tmp_path, **settings).metrics["accuracy"] == pytest.approx(0.5, abs=0.03)


def test_trained_on_shuffled_labels_it_falls_to_chance(tmp_path):
    data = order(0, length=10, train=3200, test=1000)
    assert run(data, tmp_path, parameters=1500).metrics["accuracy"] > 0.9
    found = run(shuffled(data), tmp_path, parameters=1500)
    assert found.metrics["accuracy"] == pytest.approx(0.25, abs=0.05)


def test_a_window_shorter_than_the_lag_leaves_chance(tmp_path):
    data = order(0, length=20, train=3200, test=1000)  # the second symbol is 8 steps from the end
    found = run(data, tmp_path, parameters=1500, window=5)
    assert found.metrics["accuracy"] < 0.35


def test_the_rate_is_the_one_that_is_best_on_validation_data(tmp_path):
    data = latch(0, length=5, train=640, test=200)
    outcome = run(data, tmp_path, steps=20, rates=[1e-6, 3e-2, 1e-5], hidden=8)
    assert outcome.metrics["rate"] == 3e-2
    declared = TunedFit.produces({"metrics": {"accuracy": None}, "rates": [1.0]})
    assert set(outcome.metrics) <= declared | {"best_epoch", "best_accuracy", "selected_accuracy"}
    assert "rate" not in run(data, tmp_path, steps=1, hidden=8).metrics


def test_the_test_split_does_not_choose_the_rate(tmp_path):
    data = latch(0, length=5, train=640, test=200)
    mirrored = Tensors(**(data.test.columns | {"y": 1 - data.test.columns["y"]}))
    hostile = Splits(data.train, mirrored, data.val, data.dims)
    outcome = run(hostile, tmp_path, steps=20, rates=[1e-6, 3e-2], hidden=8)
    assert outcome.metrics["rate"] == 3e-2 and outcome.metrics["accuracy"] < 0.1


def test_the_chosen_rate_is_the_one_that_training_uses(tmp_path):
    data = latch(0, length=5, train=640, test=200)
    recipe = fit(2)
    recipe.rate = 0.125
    (group,) = recipe.parameter_groups(SequenceModel(2, features=1, hidden=3))
    assert group["lr"] == 0.125 and len(group["params"]) == 6
    still = run(data, tmp_path, steps=5, rates=[1e-12], hidden=8)
    untrained = run(data, tmp_path, steps=5, rates=[1e-13], hidden=8)
    assert still.metrics["accuracy"] == untrained.metrics["accuracy"]


def test_rates_that_diverge_are_passed_over(tmp_path):
    data = latch(0, length=5, train=640, test=200)

    def sgd(parameters):
        return torch.optim.SGD(parameters, lr=1.0)

    settings = {"steps": 4, "hidden": 8, "optimizer": sgd, "cell": "relu"}
    assert run(data, tmp_path, rates=[math.inf, 0.1], **settings).metrics["rate"] == 0.1
    with pytest.raises(Diverged, match="every"):
        run(data, tmp_path, rates=[math.inf], **settings)


def test_seeds_differ_and_are_the_same_again(tmp_path):
    data = latch(0, length=5, train=640, test=200)
    losses = [
        run(data, tmp_path, seed, steps=5, hidden=8).metrics["train_loss"] for seed in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_cross_entropy_is_the_mean_over_targets_that_count():
    meter = CrossEntropy()
    scores, y = torch.randn(6, 3, 5), torch.randint(3, (6, 5))
    y[0, :3] = IGNORED
    meter.update(scores[:2], y[:2])
    meter.update(scores[2:], y[2:])
    expected = nn.functional.cross_entropy(scores.double(), y, ignore_index=IGNORED)
    torch.testing.assert_close(meter.compute(), expected)
