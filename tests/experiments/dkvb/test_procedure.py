import pytest
import torch
from torch import nn

from baselines.vision import MLP
from experiments.dkvb.data import Stream, digits, toy
from experiments.dkvb.encoders import Given
from experiments.dkvb.model import Bottleneck, MovingKeys
from experiments.dkvb.procedure import (
    ClassIncremental,
    Reference,
    Votes,
    by_class,
    forgetting,
    splits_of,
)
from harness.procedures.base import Trial
from harness.procedures.parts import Parts

SIZES = {"codebooks": 32, "pairs": 64, "key_dim": 8}
FAST = {"epochs": 2, "batch_size": 64, "key_epochs": 2, "key_batch": 64}


def run(procedure, stream, kind, tmp_path, **sizes):
    features, classes = stream.dims["features"], stream.dims["classes"]
    config = {"procedure": {"init_args": vars(procedure)}, "model": {"kind": str(kind), **sizes}}
    parts = Parts(tmp_path / "parts", {"data": stream.dims})
    trial = Trial(
        0,
        stream,
        lambda: kind(features, classes, **sizes),
        torch.device("cpu"),
        tmp_path,
        config=config,
        parts=parts,
    )
    return procedure.run(trial)


@pytest.fixture(scope="module")
def small():
    return digits(0, val=200, test=300, other=300)


def test_the_bottleneck_keeps_what_an_mlp_forgets_and_labels_make_the_difference(small, tmp_path):
    own = ClassIncremental(rates=[30.0], **FAST)
    kept = run(own, small, Bottleneck, tmp_path, **SIZES)
    mlp = run(ClassIncremental(rates=[0.3], **FAST), small, lambda f, c: MLP(f, [32], c), tmp_path)
    shuffled = digits(0, val=200, test=300, other=300, shuffle_labels=True)
    chance = run(own, shuffled, Bottleneck, tmp_path / "shuffled", **SIZES)
    assert kept.metrics["accuracy"] > 0.65
    assert mlp.metrics["accuracy"] < kept.metrics["accuracy"] - 0.2
    assert mlp.metrics["forgetting"] > kept.metrics["forgetting"] + 0.2
    assert abs(chance.metrics["accuracy"] - 0.1) < 0.1
    assert len(kept.series["accuracy_after"].y) == 5
    assert kept.series["accuracy_after"].y[-1] == kept.metrics["accuracy"]
    assert {*kept.metrics, *kept.series, "val_by_rate"} == ClassIncremental.produces({})


def test_what_is_looked_up_once_is_what_the_model_would_do(small, tmp_path):
    """Outputs of the values on the kept pairs, against the whole model on the features."""
    kept = []
    procedure = ClassIncremental(rates=[30.0], **FAST)
    learned = procedure._learned
    procedure._learned = lambda *a: kept.append(a[2]) or learned(*a)
    models = []
    features, classes = 64, 10
    trial = Trial(
        0,
        small,
        lambda: Bottleneck(features, classes, **SIZES),
        torch.device("cpu"),
        tmp_path,
        keep=models.append,
    )
    outcome = procedure.run(trial)
    (model,) = models
    images = small.images()
    z = small.encoder.fitted(trial, images)(images["test_x"])
    accuracy = by_class(model, z, images["test_y"]).mean()
    assert float(accuracy) == pytest.approx(outcome.metrics["accuracy"], abs=1e-9)
    stages = kept[0]
    assert [len(stage["train_y"].unique()) for stage in stages] == [2] * 5
    seen = torch.cat([stage["train_y"].unique() for stage in stages]).sort().values
    assert seen.tolist() == list(range(10)), "each class in one split"
    assert torch.equal(model.values(stages[-1]["test_x"]), model.eval()(z))
    assert model.fetched.any() and not model.fetched.all()


def test_keys_are_those_of_the_inputs_that_are_named(small, tmp_path):
    found = {}
    for keys, epochs in (("own", 2), ("other", 2), ("own", 0)):
        procedure = ClassIncremental(rates=[1.0], **{**FAST, "key_epochs": epochs}, keys=keys)
        trial = Trial(0, small, lambda: Bottleneck(64, 10, **SIZES), torch.device("cpu"), tmp_path)
        found[keys, epochs] = procedure._initialised(trial)["keys"]
    assert not torch.equal(found["own", 2], found["other", 2])
    assert float(found["own", 2].norm(dim=2).mean()) != float(found["own", 0].norm(dim=2).mean())


def test_the_validation_accuracy_decides_on_the_rate(tmp_path):
    images = digits(0, val=200, test=300, other=300).images()
    images["test_y"] = (images["test_y"] + 1) % 10  # the best rate is the worst one in the test
    wrong = Stream(lambda: dict(images), Given(64), {"features": 64, "classes": 10})
    procedure = ClassIncremental(split_size=None, rates=[1e-5, 0.3], **FAST)
    outcome = run(procedure, wrong, nn.Linear, tmp_path)
    assert outcome.metrics["rate"] == 0.3
    low, high = outcome.series["val_by_rate"].y
    assert high == outcome.metrics["val_accuracy"] > 0.5 > low
    assert outcome.metrics["accuracy"] < 0.2
    assert "forgetting" not in outcome.metrics


def test_moving_keys_forget_in_the_plane(tmp_path):
    settings = {"optimizer": "adam", "rates": [0.001], "batch_size": 100, "clip_norm": None}
    settings |= {"label_smoothing": 0.0, "key_epochs": 1, "key_batch": 100, "threshold": 0.0}
    sizes = {"codebooks": 1, "pairs": 400, "heads": "chunk", "scale": 0.001}
    stream = toy(0, test=100)
    frozen = run(ClassIncremental(epochs=50, **settings), stream, Bottleneck, tmp_path, **sizes)
    assert frozen.metrics["accuracy"] > 0.9
    moving = run(
        ClassIncremental(epochs=50, **settings),
        stream,
        MovingKeys,
        tmp_path,
        threshold=0.025,
        **sizes,
    )
    assert moving.metrics["accuracy"] < frozen.metrics["accuracy"] - 0.1


def test_one_optimizer_goes_on_over_splits_and_new_ones_begin_anew():
    parameters = [nn.Parameter(torch.zeros(2))]
    for one, same in ((True, True), (False, False)):
        recipe = ClassIncremental(optimizer="adam", one_optimizer=one)._recipe(0.1, 0.0)
        first, second = (recipe.optimizer(parameters) for _ in range(2))
        assert (first is second) == same
    other = ClassIncremental(optimizer="adam")._recipe(0.1, 0.0)
    assert other.optimizer(parameters) is not first


def test_the_order_of_classes_is_drawn_and_cut():
    stream = digits(0)
    splits = splits_of(stream, 2, 0)
    assert sorted(label for split in splits for label in split) == list(range(10))
    assert [len(split) for split in splits] == [2] * 5
    assert splits == splits_of(stream, 2, 0) != splits_of(stream, 2, 1)
    assert splits_of(stream, None, 0) == [list(range(10))]
    assert splits_of(toy(0), 2, 0) == [[0, 4], [1, 5], [2, 6], [3, 7]]
    with pytest.raises(ValueError, match="splits of 3"):
        splits_of(stream, 3, 0)


def test_accuracies_are_of_classes_and_ties_are_wrong():
    logits = torch.tensor([[1.0, 0, 0], [0, 2, 0], [0, 2, 0], [0, 0, 0], [3, 3, 0]])
    y = torch.tensor([0, 1, 2, 0, 1])
    assert by_class(nn.Identity(), logits, y).tolist() == [0.5, 0.5, 0.0]


def test_forgetting_is_what_was_known_right_after_a_split():
    found = torch.tensor([[0.9, 0.7, 0.0, 0.0], [0.5, 0.5, 0.8, 0.0], [0.2, 0.2, 0.2, 1.0]])
    assert forgetting(found, [[0, 1], [2], [3]]) == pytest.approx((0.6 + 0.6) / 2)


def test_references_are_the_nearest_mean_and_the_nearest_examples(small, tmp_path):
    z, y = torch.tensor([[0.0], [1.0], [10.0], [3.0]]), torch.tensor([0, 0, 1, 1])
    (means,) = Reference("mean")._votes(z, y, 2)
    assert means(torch.tensor([[3.4], [3.6]])).argmax(1).tolist() == [0, 1]
    votes = Votes(z, y, 3, 2)(torch.tensor([[1.9], [6.0]]))
    assert votes.argmax(1).tolist() == [0, 1]
    tied = Votes(z, y, 2, 2)(torch.tensor([[1.9], [2.1]]))
    assert tied.argmax(1).tolist() == [0, 1], "the nearest decides"
    found = run(Reference("examples"), small, nn.Linear, tmp_path).metrics
    assert found["accuracy"] > 0.9 and found["val_accuracy"] != found["accuracy"]
