import pytest
import torch
from torch import nn
from torchmetrics import MeanSquaredError

from experiments.flow_equivariant_rnn.data import ring
from experiments.flow_equivariant_rnn.model import TranslationForecaster
from experiments.flow_equivariant_rnn.procedure import ForecastFit
from harness.procedures.base import Trial
from harness.seeding import seed_all


def run(tmp_path, data, steps, model=None, rate=1e-2, **settings):
    def network():
        return TranslationForecaster(1, 16, hidden=8, reach=1, decoder_layers=1)

    seed_all(0)
    fit = ForecastFit(
        loss=nn.MSELoss(),
        metrics={"mse": MeanSquaredError()},
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=rate),
        steps=steps,
        batch_size=16,
        eval_steps=max(1, steps // 4),
        tests=["speed"],
        **settings,
    )
    return fit.run(Trial(0, data, model or network, torch.device("cpu"), tmp_path))


def small(**settings):
    return ring(cells=16, fastest=1, train=2000, test=100, far=9, frames=4, **settings)


def chance(data):
    y = data.test[torch.arange(100)]["y"]
    return float(y.var(correction=0))


def test_training_measures_what_it_declares_and_beats_the_mean_frame(tmp_path):
    data = small()
    outcome = run(tmp_path, data, 100)
    declared = ForecastFit.produces({"metrics": {"mse": MeanSquaredError()}, "tests": ["speed"]})
    assert set(outcome.metrics) | set(outcome.series) >= declared - {"best_mse", "selected_mse"}
    assert outcome.metrics["mse"] < 0.85 * chance(data)


def test_on_shuffled_targets_training_ends_at_chance(tmp_path):
    data = small(shuffled=True)
    assert run(tmp_path, data, 100).metrics["mse"] > 0.92 * chance(data)


class Still(nn.Module):
    """Predicts half the last frame seen, for ever."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))

    def forward(self, x, steps):
        return (self.weight * x[:, -1:]).repeat(1, steps, 1, 1, 1)


def test_errors_by_the_step_are_means_over_pixels_and_sequences_of_the_test(tmp_path):
    data = small()
    outcome = run(tmp_path, data, 1, model=Still, rate=0.0, eval_batch_size=7)
    batch = data.far[torch.arange(len(data.far))]
    errors = (0.5 * batch["x"][:, -1:] - batch["y"]).pow(2).mean((0, 2, 3, 4))
    series = outcome.series["mse_over_time"]
    assert series.x == [float(t) for t in range(1, 10)]
    assert series.y == pytest.approx(errors.tolist(), rel=1e-5)
    found = outcome.metrics
    assert found["mse_beyond"] == pytest.approx(float(errors[4:].mean()), rel=1e-5)
    assert found["log_mse_beyond"] == pytest.approx(float(errors[4:].mean().log10()), rel=1e-5)
    assert found["log_mse"] == pytest.approx(float(errors[:4].mean().log10()), rel=1e-5)


def test_errors_by_speed_are_those_of_test_sequences_of_that_speed(tmp_path):
    data = small()
    found = run(tmp_path, data, 1, model=Still, rate=0.0).series["mse@speed"]
    assert found.x == [0.0, 1.0, 2.0]
    for speed, error in zip(found.x, found.y, strict=True):
        batch = data.tests["speed"][speed][torch.arange(50)]
        assert float((0.5 * batch["x"][:, -1:] - batch["y"]).pow(2).mean()) == pytest.approx(error)


def test_the_early_error_is_the_mean_over_the_first_half_of_the_evaluations(tmp_path):
    outcome = run(tmp_path, small(), 20)
    curve = torch.tensor(outcome.series["val_mse"].y)
    assert len(curve) == 4 and curve[0] > curve[3]
    expected = float(curve[:2].log10().mean())
    assert outcome.metrics["early_log_mse"] == pytest.approx(expected, rel=1e-5)
