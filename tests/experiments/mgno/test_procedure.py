import pytest
import torch
from torch import nn

from baselines.operators import RelativeError, RelativeLoss, relative_errors
from experiments.mgno.data import darcy, vorticity
from experiments.mgno.model import MgNO
from experiments.mgno.procedure import Decoded, OperatorFit, StepFit
from harness.procedures.base import Trial
from harness.seeding import seed_all

METRICS = {"l2": RelativeError(), "h1": RelativeError("h1")}


def network():
    return MgNO(8, 6, 2, ((1, 0), (2, 0)))


def run(*args, **settings):
    return trained(*args, **settings).metrics


def trained(tmp_path, data, model=network, epochs=8, rate=1e-2, kind=OperatorFit):
    seed_all(0)
    fit = kind(
        loss=RelativeLoss("h1"),
        metrics={name: metric.clone() for name, metric in METRICS.items()},
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=rate),
        epochs=epochs,
        batch_size=8,
        eval_every=max(1, epochs // 2),
        eval_batch_size=32,
        select="best",
    )
    return fit.run(Trial(0, data, model, torch.device("cpu"), tmp_path))


def chance(data):
    """The error of the mean training solution."""
    train, test = (s[torch.arange(len(s))]["y"] for s in (data.train, data.test))
    return float(relative_errors(train.mean(0, keepdim=True).expand_as(test), test).mean())


def small(**settings):
    return darcy(side=8, train=64, val=16, test=32, **settings)


def test_training_measures_what_it_declares_and_beats_the_mean_solution(tmp_path):
    data = small()
    found = run(tmp_path, data)
    assert set(found) == OperatorFit.produces({"metrics": METRICS})
    assert found["l2"] < 0.8 * chance(data)


def test_on_shuffled_solutions_training_ends_at_chance(tmp_path):
    data = small(shuffled=True)
    assert run(tmp_path, data)["l2"] > 0.95 * chance(data)


class Constant(nn.Module):
    """Says the same everywhere."""

    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(0.5))
        self.phase = nn.Parameter(torch.zeros(3, dtype=torch.complex64), requires_grad=False)

    def forward(self, x):
        return self.value.expand(len(x), 1, *x.shape[2:])


def test_outputs_are_decoded_and_errors_are_those_of_whole_splits(tmp_path):
    data = darcy(side=8, train=20, val=4, test=6)
    found = run(tmp_path, data, Constant, epochs=3, rate=0.0)
    said = data.mean + 0.5 * data.deviation
    errors = {}
    for name in ("train", "test"):
        y = getattr(data, name)[torch.arange(len(getattr(data, name)))]["y"]
        errors[name] = float(
            (((y - said) ** 2).sum((1, 2, 3)) / (y**2).sum((1, 2, 3))).sqrt().mean()
        )
    assert found["l2"] == pytest.approx(errors["test"], rel=1e-5)
    assert found["train_l2"] == pytest.approx(errors["train"], rel=1e-5)
    gap = torch.tensor(errors["test"] / errors["train"]).log10()
    assert found["log_gap"] == pytest.approx(float(gap), abs=1e-5)
    assert 10 ** found["log_l2"] == pytest.approx(errors["test"], rel=1e-5)
    assert 10 ** found["early_log_loss"] == pytest.approx(found["train_loss"], rel=1e-4)
    assert found["parameters"].value == 7 and found["parameters"].exact


def test_the_early_loss_is_that_of_the_first_half(tmp_path):
    data = darcy(side=8, train=20, val=4, test=6)
    one, two = (run(tmp_path, data, Constant, epochs=e, rate=0.05) for e in (1, 2))
    assert two["early_log_loss"] == pytest.approx(one["early_log_loss"], rel=1e-6)
    assert two["train_loss"] != pytest.approx(one["train_loss"], rel=1e-3)


def test_the_early_loss_is_the_mean_of_logarithms(tmp_path):
    data = darcy(side=8, train=20, val=4, test=6)
    found = trained(tmp_path, data, Constant, epochs=3, rate=1.0)
    losses = torch.tensor(found.series["train_loss"].y)
    assert len(losses) == 3 and float(losses.std()) > 0.01
    expected = float(losses[:2].log10().mean())
    assert found.metrics["early_log_loss"] == pytest.approx(expected, rel=1e-5)
    other = float(losses[:2].mean().log10())
    assert other != pytest.approx(expected, rel=1e-4)


def test_pointwise_statistics_decode_every_point_by_its_own():
    mean, deviation = torch.rand(2, 4, 4)
    decoded = Decoded(nn.Identity(), mean, deviation)
    x = torch.randn(3, 1, 4, 4)
    assert torch.equal(decoded(x)[2, 0], x[2, 0] * deviation + mean)


class Halved(nn.Module):
    """Each state is half the one before."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        return self.weight * x


def test_roll_outs_go_on_from_what_was_predicted(tmp_path):
    data = vorticity(side=8, train=2, val=1, test=3, steps=4)
    found = run(tmp_path, data, Halved, epochs=1, rate=0.0, kind=StepFit)
    states = data.rollout.columns
    said = states["x"] * torch.tensor([0.5, 0.25, 0.125, 0.0625])[:, None, None]
    squares = ((said - states["y"]) ** 2).sum((1, 2, 3)) / (states["y"] ** 2).sum((1, 2, 3))
    assert found["rollout_l2"] == pytest.approx(float(squares.sqrt().mean()), rel=1e-5)
    assert set(found) == StepFit.produces({"metrics": METRICS})
