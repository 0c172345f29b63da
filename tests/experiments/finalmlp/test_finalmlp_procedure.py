"""Training: loss by hand, learning rates and stopping on made-up curves, resuming."""

from pathlib import Path

import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score
from torch import nn

from baselines.ctr import DNN, FM
from experiments.finalmlp.data import Impressions, multiplicative
from experiments.finalmlp.model import FinalMLP
from experiments.finalmlp.procedure import ClickTraining, ParameterCount
from experiments.finalmlp.published import sizes
from harness.procedures.base import Diverged, Outcome, Trial
from harness.procedures.checkpoints import Checkpoints, Stopped
from harness.procedures.recipe import At

FAST = {"embedding_l2": 1e-3, "learning_rate": 1e-2, "batch_size": 256}
CPU = torch.device("cpu")
FIRST = At(seed=0, step=0, epoch=0, steps=1, epochs=1, device=CPU)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Products this small wait for a second thread longer than they gain from it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data() -> Impressions:
    return multiplicative(0, train=4000, val=1000, test=1000, vocabulary=8)


def trial(data: Impressions, **given: object) -> Trial:
    def model() -> nn.Module:
        return FinalMLP(64, 8, dimension=4, hidden1=[16], hidden2=[16], gates=None, heads=2)

    settings = {"model": model, "workdir": Path("."), "device": CPU, **given}
    return Trial(seed=0, data=data, **settings)


def run(data: Impressions, **settings: object) -> Outcome:
    torch.seed()  # nothing may depend on the state in which others leave the global generator
    return ClickTraining(**{**FAST, "epochs": 8, **settings}).run(trial(data))


def test_a_small_model_learns_interactions_and_stays_below_the_ceiling(data):
    outcome = run(data, epochs=25)
    assert set(outcome.metrics) == ClickTraining.produces({})
    assert outcome.metrics["auc"] > 0.7  # click rates of single values give 0.64
    assert outcome.metrics["lost_auc"] == pytest.approx(data.bayes_auc - outcome.metrics["auc"])
    assert outcome.metrics["lost_auc"] > 0
    assert outcome.metrics["val_auc"] == max(outcome.series["val_auc"].y)


def test_trials_repeat_bit_for_bit(data):
    assert run(data).metrics == run(data).metrics


def test_scores_are_those_of_the_whole_split(data):
    model = DNN(64, 8, hidden=[8]).eval()
    nn.init.normal_(model.embedding.table)
    procedure = ClickTraining(0.0, eval_batch_size=300)  # batches of unequal size
    found = procedure.scores(model, data.test)
    with torch.no_grad():
        logits = model(data.test.columns["ids"]).double()
    y, p = data.test.columns["y"].numpy(), torch.sigmoid(logits).numpy()
    assert found == pytest.approx((roc_auc_score(y, p), log_loss(y, p)), abs=1e-6)


def test_the_loss_is_cross_entropy_and_half_the_penalty(data):
    model, batch = FM(64), data.train[torch.arange(50)]
    nn.init.normal_(model.embedding.table, std=0.3)
    value = ClickTraining(0.4).training_loss(model, batch, FIRST)
    p = torch.sigmoid(model(batch["ids"]).detach().double()).numpy()
    squares = sum(
        float(t.detach().square().sum()) for t in (model.weights.table, model.embedding.table)
    )
    expected = log_loss(batch["y"].numpy(), p) + 0.2 * squares
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_the_penalty_shrinks_rows_that_no_example_has(data):
    """As a term of the loss on whole tables, not only on the rows of a batch."""
    batch = data.train[torch.arange(20)]
    absent = sorted(set(range(64)) - set(batch["ids"].unique().tolist()))
    for weight, moved in ((0.1, True), (0.0, False)):
        model = FM(64)
        ClickTraining(weight).training_loss(model, batch, FIRST).backward()
        assert bool(model.embedding.table.grad[absent].abs().sum() > 0) is moved


def judged(
    data: Impressions, curve: list[tuple[float, float]], **settings: object
) -> tuple[Outcome, list[float]]:
    """What a made-up curve of validation AUC and logloss leads to, and each epoch's rate."""
    procedure = ClickTraining(0.0, batch_size=1000, epochs=len(curve), **settings)
    adam, scores = procedure.optimizer, procedure.scores
    made, rates = [], []

    def optimizer(parameters: object) -> torch.optim.Optimizer:
        made.append(adam(parameters))
        return made[0]

    def judge(model: nn.Module, split: object) -> tuple[float, float]:
        if split is not data.val:
            return scores(model, split)
        rates.append(made[0].param_groups[0]["lr"])
        return curve[len(rates) - 1]

    procedure.optimizer, procedure.scores = optimizer, judge
    return procedure.run(trial(data)), rates


def flat(*values: float) -> list[tuple[float, float]]:
    return [(value, 0.5) for value in values]


def test_the_first_epoch_without_gain_lowers_the_rate_and_a_gain_resets_the_count(data):
    curve = flat(0.5, 0.6, 0.6, 0.7, 0.7 + 8e-7, 0.8)
    outcome, rates = judged(data, curve)
    # twice, for a gain below 1e-6 is none
    assert rates == pytest.approx([1e-3, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5])
    assert outcome.metrics["epoch"] == 6
    assert judged(data, curve[:5])[0].metrics["epoch"] == 4


# Validation AUC of the authors' own runs, epoch by epoch (and the loss, where the difference is
# monitored), and the epochs after which their logs report a lower learning rate; the last one ends
# training. FinalMLP on Frappe is left out: one of its gains is 1e-6 as printed, and only unrounded
# more than that.
LOGGED = {
    "FinalMLP on MovieLens": (
        "0.939571 0.947405 0.949848 0.951878 0.953459 0.954723 0.955611 0.955632 0.956352"
        " 0.956738 0.957527 0.958320 0.957900 0.969740 0.972100 0.971802 0.972058",
        "",
        [13, 16, 17],
    ),
    "FinalMLP on Criteo": (
        "0.804593 0.807331 0.808377 0.809333 0.809723 0.810162 0.810490 0.810449 0.813866"
        " 0.814427 0.814554 0.814430 0.813827",
        "",
        [8, 12, 13],
    ),
    "FinalMLP on Avazu": (
        "0.728187 0.732383 0.740434 0.731555 0.744107 0.746713 0.747923 0.746786 0.749080"
        " 0.747825 0.747233",
        "",
        [4, 8, 10, 11],
    ),
    "DualMLP on Avazu": (
        "0.733865 0.736661 0.738517 0.734888 0.746693 0.746070 0.747098 0.744478 0.742902",
        "",
        [4, 6, 8, 9],
    ),
    "DualMLP on Frappe": (
        "0.933270 0.961401 0.973644 0.977548 0.979912 0.980918 0.981318 0.981468 0.984021"
        " 0.984765 0.985002 0.984985",
        "0.584338 0.241205 0.187512 0.172591 0.163834 0.161805 0.158942 0.175364 0.146393"
        " 0.145974 0.147781 0.150508",
        [8, 11, 12],
    ),
}


@pytest.mark.parametrize("name", LOGGED)
def test_the_authors_logged_curves_lower_the_rate_and_stop_where_theirs_did(data, name):
    auc, logloss = ([float(figure) for figure in text.split()] for text in LOGGED[name][:2])
    lowered = LOGGED[name][2]
    monitor, losses = ("auc-logloss", logloss) if logloss else ("auc", [0.5] * len(auc))
    # two worse epochs more than were logged: training must not get there
    curve = [*zip(auc, losses, strict=True), (0.0, 9.0), (0.0, 9.0)]
    outcome, rates = judged(data, curve, monitor=monitor)
    assert len(rates) == len(auc) == lowered[-1]
    falls = [sum(e < epoch for e in lowered) for epoch in range(1, len(auc) + 1)]
    assert rates == pytest.approx([max(1e-3 * 0.1**n, 1e-6) for n in falls])
    gains = [a - (loss if logloss else 0) for a, loss in zip(auc, losses, strict=True)]
    assert outcome.metrics["epoch"] == gains.index(max(gains)) + 1


def test_two_failures_in_a_row_stop(data):
    outcome, rates = judged(data, flat(0.5, 0.4, 0.6, 0.5, 0.5, 0.9))
    assert (len(rates), outcome.metrics["epoch"], outcome.metrics["val_auc"]) == (5, 3, 0.6)
    assert outcome.samples == 5 * len(data.train)
    assert judged(data, flat(*[0.5] * 6), patience=9)[1][-1] == pytest.approx(1e-6)


def test_the_best_epoch_is_tested_not_the_last(data):
    once, _ = judged(data, flat(0.9))
    thrice, _ = judged(data, flat(0.9, 0.1, 0.1), patience=9)
    rising, _ = judged(data, flat(0.7, 0.8, 0.9), patience=9)
    assert thrice.metrics["auc"] == once.metrics["auc"] != rising.metrics["auc"]
    assert thrice.metrics["train_loss"] == once.metrics["train_loss"]


def test_the_best_model_is_kept_for_those_who_want_it(data):
    kept: list[nn.Module] = []
    procedure = ClickTraining(**FAST, epochs=2)
    outcome = procedure.run(trial(data, keep=kept.append))
    assert procedure.scores(kept[0], data.test)[0] == outcome.metrics["auc"]


@pytest.mark.parametrize(("monitor", "epoch"), [("auc", 1), ("auc-logloss", 2)])
def test_the_difference_can_be_monitored(data, monitor, epoch):
    outcome, _ = judged(data, [(0.6, 0.5), (0.55, 0.3)], monitor=monitor)
    assert outcome.metrics["epoch"] == epoch


def test_the_gradient_is_bounded(data):
    def reached(clip_norm: float) -> float:
        return run(data, epochs=5, clip_norm=clip_norm, patience=9).series["train_loss"].y[-1]

    assert reached(1e-9) > reached(10.0) + 0.01  # below Adam's epsilon


def test_settings_are_judged_before_anything_is_built():
    assert not list(ClickTraining.refused({"monitor": "auc-logloss", "patience": 2}))
    assert any("epochs" in problem for problem in ClickTraining.refused({"epochs": 0}))


def test_an_interrupted_trial_ends_in_the_same_metrics(data, tmp_path):
    stop_after = iter([False, False, True])
    first = Checkpoints(tmp_path / "c", every=0.0, stopping=lambda: next(stop_after, True))
    with pytest.raises(Stopped):
        ClickTraining(**FAST, epochs=8).run(trial(data, checkpoints=first))
    torch.seed()
    resumed = Checkpoints(tmp_path / "c", every=0.0)
    assert resumed.load() is not None
    again = ClickTraining(**FAST, epochs=8).run(trial(data, checkpoints=resumed))
    whole = run(data)
    assert again.metrics == whole.metrics and again.series == whole.series


def test_parameters_are_counted_without_data():
    dims = sizes("movielens").dims
    procedure = ParameterCount()

    def model() -> nn.Module:
        return FinalMLP(dims["rows"], dims["fields"], hidden2=[800], gates=[800], heads=10)

    found = procedure.run(trial(sizes("movielens"), model=model)).metrics["parameters"]
    assert (found.value, found.exact) == (1040902, True)


def test_a_loss_that_is_not_finite_stops_the_trial(data):
    def broken() -> nn.Module:
        model = FM(64)
        nn.init.constant_(model.bias, float("nan"))
        return model

    with pytest.raises(Diverged, match="nan in epoch 1"):
        ClickTraining(**FAST).run(trial(data, model=broken))


def test_a_trial_without_validation_is_refused(data):
    without = Impressions(train=data.train, test=data.test)
    with pytest.raises(ValueError, match="validation split"):
        ClickTraining(0.1).run(trial(without))
