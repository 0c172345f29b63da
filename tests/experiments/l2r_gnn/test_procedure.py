"""Training with weights: what is reported, the canaries, and what may not leak."""

from functools import partial

import pytest
import torch
from torchmetrics import MeanMetric, MeanSquaredError
from torchmetrics.classification import MulticlassAccuracy

pytest.importorskip("torch_geometric")

from experiments.l2r_gnn.model import GraphNetwork
from experiments.l2r_gnn.motifs import motifs
from experiments.l2r_gnn.procedure import GraphFit, Reweighted
from experiments.l2r_gnn.released import ReleasedWeights
from experiments.l2r_gnn.weights import GraphWeights
from harness.procedures.base import Trial
from harness.seeding import seed_all

SMALL = {"train": 60, "val": 30, "test": 40}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Products this small wait for a second thread longer than they gain from it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def settings(data, epochs, rate=0.01):
    regression = data.dims["outputs"] == 1
    quality = MulticlassAccuracy(2, average="micro")
    metrics = {"rmse": MeanSquaredError(squared=False)} if regression else {"accuracy": quality}
    loss = torch.nn.MSELoss if regression else torch.nn.CrossEntropyLoss
    return {
        "loss": loss(reduction="none"),
        "metrics": metrics | {"loss": MeanMetric()},
        "optimizer": lambda parameters: torch.optim.Adam(parameters, lr=rate),
        "epochs": epochs,
        "batch_size": 20,
        "eval_batch_size": 200,
        "eval_every": max(1, epochs // 2),
        "tests": [name for name in data.tests if name == "alike"],
        "mode": {"loss": "min"},
    }


def run(tmp_path, data, weighting=None, epochs=3, seed=0, own=None, **more):
    seed_all(seed)
    kind = GraphFit if weighting is None else partial(Reweighted, weighting, **(own or {}))
    fit = kind(**settings(data, epochs, **more))
    model = partial(GraphNetwork, data.dims["features"], data.dims["outputs"], 8, 2)
    found = fit.run(Trial(seed, data, model, torch.device("cpu"), tmp_path)).metrics
    return {k: v if isinstance(v, float) else v.value for k, v in found.items()}, fit


WEIGHTINGS = {
    "plain": None,
    "l2r": partial(GraphWeights, clusters=2),
    "one level": partial(GraphWeights, clusters=2, bilevel=0.0),
    "no decorrelation": partial(GraphWeights, decorrelation=False),
    "released": ReleasedWeights,
}


@pytest.mark.parametrize("weighting", WEIGHTINGS.values(), ids=WEIGHTINGS)
@pytest.mark.parametrize("regression", [False, True], ids=["classes", "regression"])
def test_what_is_declared_is_measured(tmp_path, weighting, regression):
    data = motifs(0, **SMALL, regression=regression)
    found, fit = run(tmp_path, data, weighting)
    declared = {"metrics": fit.metrics, "tests": ["alike"], "mode": {"loss": "min"}}
    assert set(found) == type(fit).produces(declared)
    if weighting is not None:
        assert 0 < found["ess"] <= 1 and found["weight_spread"] > 0


def test_equal_weights_are_no_weights(tmp_path):
    """Without a step of the weights, training is that of the network alone."""
    data = motifs(0, **SMALL)
    plain, _ = run(tmp_path / "a", data)
    equal, _ = run(tmp_path / "b", data, partial(GraphWeights, clusters=0, steps=0))
    assert equal["ess"] == 1 and equal["rare_weight"] == 1
    for name in ("accuracy", "loss", "fitted_loss", "gap", "alike_gap"):
        assert equal[name] == pytest.approx(plain[name], rel=1e-4, abs=1e-5)


class Lopsided(GraphWeights):
    """All the weight for graphs of class 0."""

    def forward(self, z, index, epoch, generator=None, validation=None):
        weights = (self.labels[index] == 0).float() + 1e-6
        return weights / weights.mean()


@pytest.mark.parametrize("permuted", [False, True])
def test_weights_count_for_their_own_graphs(tmp_path, permuted):
    """A network whose examples of class 1 weigh nothing says 0; with permuted weights it learns."""
    data = motifs(0, bias=1.0, train=100, val=60, test=60)

    def weighting(graphs, width, batch):
        made = Lopsided(graphs, width, batch)
        made.labels = data.train.y
        return made

    found, _ = run(tmp_path, data, weighting, epochs=12, own={"permuted": permuted}, rate=0.02)
    zeros = float((data.tests["alike"].y == 0).float().mean())
    if permuted:
        assert found["accuracy@alike"] > zeros + 0.15
    else:
        assert found["accuracy@alike"] == pytest.approx(zeros, abs=0.05)


def test_losses_and_gaps_are_those_of_whole_splits(tmp_path):
    data = motifs(0, **SMALL)
    found, _ = run(tmp_path, data)
    trained = kept_model(tmp_path / "again", data)
    losses = {}
    for name, split in {"train": data.train, "val": data.val, **data.tests}.items():
        batch = split[torch.arange(len(split))]
        with torch.no_grad():
            output = trained(batch["x"], batch["edges"], batch["graph"])
        losses[name] = float(torch.nn.functional.cross_entropy(output, batch["y"]))
    assert found["fitted_loss"] == pytest.approx(losses["train"], rel=1e-4)
    assert found["gap"] == pytest.approx(losses["val"] - losses["train"], abs=1e-4)
    assert found["alike_gap"] == pytest.approx(losses["alike"] - losses["train"], abs=1e-4)
    assert found["val_loss"] == pytest.approx(losses["val"], rel=1e-4)


def kept_model(tmp_path, data):
    kept = []
    fit = GraphFit(**settings(data, 3))
    model = partial(GraphNetwork, 12, 2, 8, 2)
    fit.run(Trial(0, data, model, torch.device("cpu"), tmp_path, keep=kept.append))
    return kept[0]


def test_weights_of_rare_graphs_are_told(tmp_path):
    data = motifs(0, **SMALL)
    _, fit = run(tmp_path, data, WEIGHTINGS["l2r"])
    fit.learner.weights.copy_(1 + data.rare.float())
    found = fit.measure(GraphNetwork(12, 2, 8, 2).eval(), fit._trial).metrics
    share = float(data.rare.float().mean())
    assert found["rare_weight"] == pytest.approx(2 / (1 + share), rel=1e-4)
    assert found["weight_spread"] == pytest.approx(
        (share * (1 - share)) ** 0.5 / (1 + share), rel=1e-4
    )


def test_a_star_that_tells_the_label_is_learned(tmp_path):
    found, _ = run(tmp_path, motifs(0, bias=1.0, train=120, val=40, test=80), epochs=12, rate=0.02)
    assert found["accuracy@alike"] > 0.75


@pytest.mark.parametrize("weighting", [None, WEIGHTINGS["l2r"]], ids=["plain", "l2r"])
def test_on_shuffled_labels_training_ends_at_chance(tmp_path, weighting):
    data = motifs(0, bias=1.0, train=120, val=40, test=300, shuffled=True)
    found, _ = run(tmp_path, data, weighting, epochs=8)
    assert abs(found["accuracy@alike"] - 0.5) < 0.15


def test_validation_graphs_move_the_weights_and_test_graphs_do_not(tmp_path):
    seen = []
    data = motifs(0, **SMALL)
    flipped = {
        "as they are": data,
        "other validation": type(data)(**vars(data) | {"val": data.val.labelled(1 - data.val.y)}),
        "other test": type(data)(**vars(data) | {"test": data.test.labelled(1 - data.test.y)}),
    }
    for name, each in flipped.items():
        _, fit = run(tmp_path / name, each, WEIGHTINGS["l2r"])
        seen.append(fit.learner.weights)
    torch.testing.assert_close(seen[0], seen[2])
    assert (seen[0] - seen[1]).abs().max() > 1e-3
