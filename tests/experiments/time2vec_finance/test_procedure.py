import numpy as np
import pytest
import torch
from torchmetrics import MeanSquaredError

from experiments.time2vec_finance.data import Protocol, Settings, Windows, sector
from experiments.time2vec_finance.model import EncoderForecaster
from experiments.time2vec_finance.procedure import (
    STRENGTHS,
    ForecastFit,
    Reference,
    diebold_mariano,
    figures,
    measured,
    ridge,
    whole,
)
from harness.loading.splits import Tensors
from harness.procedures.base import Trial
from harness.seeding import seed_all

SHORT = Protocol(days=5, train=500, val=80, test=300)


def series(seed=0, **shown):
    return sector(seed, total=920, protocol=SHORT, shown=Settings(**shown))


def fitted(data, tmp_path, epochs=10, code="time2vec"):
    def model():
        size = {"width": 16, "heads": 2, "layers": 1, "hidden": 32, "dropout": 0.0}
        return EncoderForecaster(**data.dims, code=code, **size)

    seed_all(0)
    fit = ForecastFit(
        loss=torch.nn.MSELoss(),
        metrics={"mse": MeanSquaredError()},
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=5e-3),
        epochs=epochs,
        select="best",
    )
    return fit.run(Trial(0, data, model, torch.device("cpu"), tmp_path)).metrics


def referred(kind, data, tmp_path):
    trial = Trial(0, data, lambda: None, torch.device("cpu"), tmp_path)
    return Reference(kind).run(trial).metrics


def two_stocks():
    """Three days of two stocks, with prices about 100 and about 10."""
    part = Tensors(
        y=torch.zeros(6),
        close=torch.tensor([100.0, 10, 102, 11, 101, 11]),
        next=torch.tensor([102.0, 11, 101, 11, 103, 10]),
        mean=torch.zeros(6),
        std=torch.ones(6),
        span=torch.tensor([20.0, 4] * 3),
    )
    return Windows(part, part, part, stocks=2)


def test_figures_by_hand():
    data = two_stocks()
    forecast = torch.tensor([103.0, 10, 101, 12, 102, 9])
    found = figures(data, forecast, data.test)
    # errors 1, 0, -1 and -1, 1, -1; of the last price 2, -1, 2 (as squares) and 1, 0, 1
    assert found["theil"] == pytest.approx(((2 / 9) * (3 / 2)) ** 0.25)
    assert found["rmse"] == pytest.approx(((2 / 3) ** 0.5 / 20 + 1 / 4) / 2)
    assert found["mae"] == pytest.approx((2 / 20 + 3 / 4) / 6)
    shares = [1 / 102, 0, 1 / 103, 1 / 11, 1 / 11, 1 / 10]
    assert found["mape"] == pytest.approx(np.mean(shares))
    # of the five changes: up, (none forecast), down, up, down
    assert found["direction"] == pytest.approx(4 / 5)


def test_validation_is_of_validation_days():
    data = series()
    val, test = whole(data.val), whole(data.test)
    halfway = (val["close"] + val["next"]) / 2
    found = measured(data, halfway, test["close"]).metrics
    assert found["val_theil"] == pytest.approx(0.5, rel=1e-4) and found["theil"] == 1


def test_the_last_price_has_a_theil_of_one_and_nothing_else_to_show(tmp_path):
    found = referred("last", series(), tmp_path)
    assert found["theil"] == found["val_theil"] == 1
    assert found["dm"] == found["direction"] == 0


def test_diebold_mariano_is_mean_over_newey_wests_error():
    gain = np.random.default_rng(0).standard_normal(40).cumsum() * 0.1 + 0.2
    centred = gain - gain.mean()
    apart = np.abs(np.subtract.outer(np.arange(40), np.arange(40)))
    weights = np.clip(1 - apart / 6, 0, None)
    variance = centred @ weights @ centred / 40
    assert diebold_mariano(gain) == pytest.approx(gain.mean() / (variance / 40) ** 0.5)
    assert diebold_mariano(-gain) == pytest.approx(-diebold_mariano(gain))


def test_diebold_mariano_is_standard_normal_for_equal_forecasts():
    draws = np.random.default_rng(1).standard_normal((1000, 302))
    gains = draws[:, 2:] + 0.5 * draws[:, 1:-1] + 0.5 * draws[:, :-2]
    found = np.array([diebold_mariano(gain) for gain in gains])
    assert abs(found.mean()) < 0.12
    assert 0.03 < (np.abs(found) > 1.96).mean() < 0.12  # without the lags it would be 0.25


def test_ridge_is_its_closed_form_with_the_strength_that_validation_likes_best():
    data = series()
    train, val, test = (whole(part) for part in (data.train, data.val, data.test))
    found, found_test = ridge(train, val, test)

    def design(batch):
        return batch["x"].flatten(1).double()

    centre, target = design(train).mean(0), train["y"].double()
    x = design(train) - centre
    losses = []
    for strength in STRENGTHS:
        penalty = strength * torch.eye(x.shape[1], dtype=torch.float64)
        weight = torch.linalg.solve(x.T @ x + penalty, x.T @ (target - target.mean()))
        forecast = (design(val) - centre) @ weight + target.mean()
        other = (design(test) - centre) @ weight + target.mean()
        losses.append((float((forecast - val["y"]).square().mean()), forecast, other))
    _, forecast, other = min(losses, key=lambda each: each[0])
    torch.testing.assert_close(found.double(), forecast, atol=1e-3, rtol=0)
    torch.testing.assert_close(found_test.double(), other, atol=1e-3, rtol=0)


def test_training_measures_what_it_declares_and_beats_the_last_price(tmp_path):
    data = series()
    found = fitted(data, tmp_path)
    init_args = {"metrics": {"mse": {"class_path": "torchmetrics.MeanSquaredError"}}}
    assert set(found) == ForecastFit.produces(init_args)
    mean, last = (referred(kind, data, tmp_path) for kind in ("mean", "last"))
    assert found["theil"] < 0.95 * last["theil"] < last["theil"] < mean["theil"]
    assert found["dm"] > 2 and found["direction"] > 0.6


def test_on_shuffled_targets_nothing_is_learned_but_their_mean(tmp_path):
    data = series(shuffle=True)
    found = fitted(data, tmp_path, epochs=5)
    assert found["theil"] > 0.95 * referred("mean", data, tmp_path)["theil"] > 0.95


def test_train_validation_and_test_examples_are_disjoint():
    data = series()
    parts = (data.train, data.val, data.test)
    rows = [{tuple(row.tolist()) for row in part.columns["x"].flatten(1)} for part in parts]
    assert [len(found) for found in rows] == [len(part) for part in parts]
    assert not (rows[0] & rows[1] or rows[1] & rows[2] or rows[0] & rows[2])
