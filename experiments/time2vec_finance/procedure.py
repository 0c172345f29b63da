"""Forecasts measured against the last value, and reference forecasts that need no training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from experiments.time2vec_finance.data import Windows
from harness.loading.splits import Batch, Split
from harness.procedures.base import Outcome, Trial
from harness.procedures.fit import Fit

Floats = npt.NDArray[np.float64]
FIGURES = {"theil", "rmse", "mae", "mape", "direction", "dm"}
STRENGTHS = 10.0 ** np.arange(-2, 6)  # of ridge regression's penalty


class ForecastFit(Fit):
    """Fit for windows of prices; the weights that were best on validation are measured.

    Besides what Fit reports: the figures of :func:`figures` on the test days, and
    ``val_theil`` on the validation days.
    """

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return super().produces(init_args) | FIGURES | {"val_theil"}

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        forecast: Tensor = model(x=batch["x"], t=batch["t"])
        return forecast

    @torch.no_grad()
    def measure(self, model: nn.Module, trial: Trial) -> Outcome:
        data: Windows = trial.data

        def prices(split: Split | None) -> Tensor:
            batch = whole(split)
            inputs = zip(torch.split(batch["x"], 512), torch.split(batch["t"], 512), strict=True)
            found = [model(x.to(trial.device), t.to(trial.device)).cpu() for x, t in inputs]
            return data.price(batch, torch.cat(found))

        return measured(data, prices(data.val), prices(data.test))


class Reference:
    """A forecast without training by gradients.

    - ``last``: the price stays what it is;
    - ``mean``: the mean over the training days (of prices, or of returns: a drift);
    - ``ridge``: linear in the window, with the penalty that is best on validation.
    """

    def __init__(self, kind: Literal["last", "mean", "ridge"]) -> None:
        self.kind = kind

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return FIGURES | {"val_theil"}

    def run(self, trial: Trial) -> Outcome:
        data: Windows = trial.data
        val, test = whole(data.val), whole(data.test)
        if self.kind == "last":
            return measured(data, val["close"], test["close"])
        if self.kind == "mean":
            forecasts = torch.zeros_like(val["y"]), torch.zeros_like(test["y"])
        else:
            forecasts = ridge(whole(data.train), val, test)
        return measured(data, data.price(val, forecasts[0]), data.price(test, forecasts[1]))


def ridge(train: Batch, val: Batch, test: Batch) -> tuple[Tensor, Tensor]:
    """Forecasts of a ridge regression, with the penalty that is best on validation."""
    found = []
    for strength in STRENGTHS:
        fit = Ridge(alpha=strength).fit(train["x"].flatten(1).numpy(), train["y"].numpy())
        forecasts = [torch.from_numpy(fit.predict(b["x"].flatten(1).numpy())) for b in (val, test)]
        loss = float((forecasts[0] - val["y"]).square().mean())
        found.append((loss, forecasts))
    best = min(found, key=lambda each: each[0])[1]
    return best[0], best[1]


def whole(split: Split | None) -> Batch:
    """All examples of a split as one batch."""
    assert split is not None
    return split[torch.arange(len(split))]


def measured(data: Windows, val: Tensor, test: Tensor) -> Outcome:
    """Figures of forecast prices on the test days, and Theil's U on the validation days."""
    return Outcome(
        {**figures(data, test, data.test), "val_theil": figures(data, val, data.val)["theil"]}
    )


def figures(data: Windows, forecast: Tensor, split: Split | None) -> dict[str, float]:
    """How far forecast prices are from true ones.

    - ``theil``: root mean squared error over that of the last price (Theil's U), the geometric
      mean over stocks: below 1 is better than no forecast;
    - ``rmse``, ``mae``: over the range that a stock's price had in training, means over stocks;
    - ``mape``: mean of absolute errors over prices;
    - ``direction``: share of changes whose sign was forecast;
    - ``dm``: statistic of Diebold and Mariano, of squared errors against the last price's.

    Args:
        forecast: prices of all examples of the split, (n,).
    """
    batch = whole(split)
    price, true, close, span = (
        values.double().numpy().reshape(-1, data.stocks)  # (days, stocks)
        for values in (forecast, batch["next"], batch["close"], batch["span"])
    )
    error, naive = price - true, close - true
    of_naive = np.square(naive).mean(0)
    moved = naive != 0
    right = np.sign(price - close) == np.sign(true - close)
    return {
        "theil": float(np.exp(0.5 * np.log(np.square(error).mean(0) / of_naive).mean())),
        "rmse": float(np.sqrt(np.square(error / span).mean(0)).mean()),
        "mae": float(np.abs(error / span).mean()),
        "mape": float(np.abs(error / true).mean()),
        "direction": float(right[moved].mean()),
        "dm": diebold_mariano(((np.square(naive) - np.square(error)) / of_naive).mean(1)),
    }


def diebold_mariano(gain: Floats, lags: int = 5) -> float:
    """Mean of a loss difference over its standard error (Diebold and Mariano, 1995).

    The variance is Newey and West's, with weights 1 - k / (lags + 1) of the autocovariances: a
    forecast as good as the other one has N(0, 1) of it. Zero where there is no difference.

    Args:
        gain: loss of the other forecast less that of this one, day by day.
    """
    centred = gain - gain.mean()
    variance = float((centred**2).mean())
    for lag in range(1, lags + 1):
        weight = 1 - lag / (lags + 1)
        variance += 2 * weight * float((centred[lag:] * centred[:-lag]).sum()) / len(gain)
    return float(gain.mean() / np.sqrt(variance / len(gain))) if variance > 0 else 0.0
