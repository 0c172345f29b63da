"""Windows of daily closes: stocks, indices, and series whose season and leader are known.

Forecasts go from the closes of some days to the close of the next. Training, validation and test
days follow each other in time, with a whole window between them; a fold moves all three on by a
test period. Scales and the choice of correlated stocks are those of the training days alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from harness.loading.readers import BadFormat
from harness.loading.splits import Batch, Splits, Tensors
from harness.seeding import derive

Floats = npt.NDArray[np.float64]
Pick = Literal["strongest", "weakest"]
PREDICTED = ("XOM", "CVX", "JPM", "GS", "MSFT", "INTC")  # energy, finance, technology
INDICES = ("NASDAQ", "SP")


@dataclass(frozen=True)
class Prices:
    """Closes (days, stocks) on days that all stocks have in common."""

    names: list[str]
    dates: npt.NDArray[np.datetime64]
    close: Floats


@dataclass(frozen=True)
class Protocol:
    """Days of a window, and numbers of days to be forecast for training, validation and test."""

    days: int = 20
    train: int = 1000
    val: int = 200
    test: int = 240

    def spans(self, fold: int, total: int) -> dict[str, range]:
        """The days to be forecast, of ``total``; no window reaches back into another part's days.

        Raises:
            ValueError: when there are too few days for this fold.
        """
        first = self.days + 1 + fold * self.test  # one more, for the return of the first day
        spans = {}
        for name, count in (("train", self.train), ("val", self.val), ("test", self.test)):
            spans[name] = range(first, first + count)
            first += count + self.days
        if spans["test"].stop > total:
            raise ValueError(f"fold {fold} ends on day {spans['test'].stop} of {total}")
        return spans


@dataclass(frozen=True)
class Windows(Splits):
    """Examples are days times stocks, all stocks of a day in a row.

    ``x`` (n, days, features): closes (or log returns) of the stock itself and then of those
    chosen, each less its mean and over its standard deviation in training; ``t``
    (n, days, 3): place in the window, in the week, in the year; ``y`` (n,): the stock's next
    value. Besides, all (n,): ``close`` and ``next``, the last price and the one to be forecast;
    ``mean`` and ``std`` of the scale; ``span``, highest less lowest close in training.
    """

    stocks: int = 1
    returns: bool = False

    def price(self, batch: Batch, forecast: Tensor) -> Tensor:
        """The price (n,) that a forecast of ``y`` means."""
        value = batch["mean"] + batch["std"] * forecast
        return batch["close"] * value.exp() if self.returns else value


@dataclass(frozen=True)
class Settings:
    """What a model is shown.

    Attributes:
        returns: log returns instead of closes.
        companions: how many other stocks are beside each.
        pick: the most correlated ones, or the least (a control).
        permute: the others' days in random order within each part (a control).
        mistime: windows have the times of other windows of their part, in random order (a control).
        shuffle: training and validation targets in random order (a canary).
    """

    returns: bool = False
    companions: int = 2
    pick: Pick = "strongest"
    permute: bool = False
    mistime: bool = False
    shuffle: bool = False


PROTOCOL, SETTINGS = Protocol(), Settings()
GENERATED = Protocol(days=5, train=800, val=150, test=400)  # a week does not show a season


def stocks(
    root: Path, seed: int, protocol: Protocol = PROTOCOL, shown: Settings = SETTINGS
) -> Windows:
    """Six of 31 large US stocks, 2006 to 2017; each with the most correlated of the others.

    Args:
        root: files ``<ticker>_….csv``.
        seed: also the fold, from 0 to 6.
        protocol: how many days of what.
        shown: what a model is shown.
    """
    return windows(read_stocks(root), PREDICTED, protocol, seed, seed, shown)


def indices(
    root: Path, seed: int, protocol: Protocol = PROTOCOL, shown: Settings = SETTINGS
) -> Windows:
    """NASDAQ and S&P 500, 2010 to 2017, beside three other indices (CNNpred's files)."""
    files = {path.stem.removeprefix("Processed_"): path for path in root.glob("Processed_*.csv")}
    prices = read_prices(dict(sorted(files.items())))
    return windows(prices, INDICES, protocol, seed, seed, shown)


def pairs(
    root: Path, seed: int, protocol: Protocol = PROTOCOL, shown: Settings = SETTINGS
) -> Windows:
    """Stocks as they are provided: files ``<sector>/<ticker>.csv``, of which all are predicted."""
    prices = read_prices({path.stem: path for path in sorted(root.glob("*/*.csv"))})
    return windows(prices, prices.names, protocol, seed, seed, shown)


def sector(
    seed: int,
    season: float = 1.0,
    total: int = 1500,
    protocol: Protocol = GENERATED,
    shown: Settings = SETTINGS,
) -> Windows:
    """A generated sector (:func:`generated`); its followers are predicted."""
    prices = generated(seed, season, total)
    followers = [name for name in prices.names if name.startswith("follower")]
    return windows(prices, followers, protocol, 0, seed, shown)


def read_stocks(root: Path) -> Prices:
    """All stocks of the folder, from files ``<ticker>_….csv``."""
    return read_prices({path.name.split("_")[0]: path for path in sorted(root.glob("*_*.csv"))})


def read_prices(files: Mapping[str, Path]) -> Prices:
    """Closes by name, from CSV files with the columns ``Date`` and ``Close``.

    Days on which a file has no close are left out for all.

    Raises:
        BadFormat: a column is missing, a close is no positive number, or no day is common.
    """
    columns = {}
    for name, path in files.items():
        try:
            table = pd.read_csv(path, usecols=["Date", "Close"], parse_dates=["Date"])
        except ValueError as error:
            raise BadFormat(f"{path.name} is no table with Date and Close: {error}") from error
        columns[name] = table.set_index("Date")["Close"]
    if not columns:
        raise BadFormat("there is no file of prices")
    together = pd.concat(columns, axis=1, join="inner").dropna().sort_index()
    if together.empty or not (together.to_numpy(float) > 0).all():
        raise BadFormat(f"{', '.join(files)} have no days in common, or a close is not positive")
    dates = together.index.to_numpy().astype("datetime64[D]")
    return Prices([str(name) for name in together.columns], dates, together.to_numpy(float))


def generated(seed: int, season: float = 1.0, total: int = 1500) -> Prices:
    """Two followers, a leader and four stocks apart, whose log prices are stationary.

    f_t = 0.6 f_{t-1} + 0.8 e_t is the sector's factor. The leader is f_t + 0.3 e; a follower
    0.4 f_t + 0.9 f_{t-2} + season s_t + n_t, with n_t = 0.3 n_{t-1} + 0.9 e. So the leader of two
    days ago tells of a follower's tomorrow. s_t, a weekly and a quarterly sine with random
    phases, is the same for all followers, and repeats by the calendar. All e are N(0, 1).
    """
    rng = np.random.default_rng(derive(seed, "sector"))
    dates = np.busday_offset(np.datetime64("2006-01-02"), np.arange(total))
    calendar = 2 * np.pi * (calendar_times(dates) * [1, 4] + rng.random(2))
    factor = autoregression(0.6, 0.8 * rng.standard_normal((total + 2, 1)))
    own = autoregression(0.3, 0.9 * rng.standard_normal((total, 2)))
    followers = 0.4 * factor[2:] + 0.9 * factor[:-2] + own
    followers += season * np.sin(calendar).sum(1, keepdims=True)
    leader = factor[2:] + 0.3 * rng.standard_normal((total, 1))
    apart = autoregression(0.6, 0.8 * rng.standard_normal((total, 4)))
    names = [f"follower-{k}" for k in range(2)] + ["leader"] + [f"apart-{k}" for k in range(4)]
    log_price = np.concatenate([followers, leader, apart], axis=1)
    return Prices(names, dates, 100 * np.exp(0.05 * log_price))


def autoregression(weight: float, noise: Floats) -> Floats:
    """z_t = weight z_{t-1} + noise_t along the first axis, from z = 0."""
    state = np.zeros_like(noise)
    for day in range(len(noise)):
        state[day] = weight * state[day - 1] * (day > 0) + noise[day]
    return state


def calendar_times(dates: npt.NDArray[np.datetime64]) -> Floats:
    """Place of each day in the week (of five days) and in the year, from 0 to 1: (days, 2)."""
    days = dates.astype("datetime64[D]")
    weekday = (days.astype(int) - 4) % 7  # 1970-01-05 was a Monday
    year = days.astype("datetime64[Y]")
    first, following = year.astype("datetime64[D]"), (year + 1).astype("datetime64[D]")
    through = (days - first).astype(float) / (following - first).astype(float)
    return np.stack([weekday / 5, through], axis=1)


def correlated(log_returns: Floats, stock: int, count: int, pick: Pick = "strongest") -> list[int]:
    """The ``count`` other stocks whose returns correlate most (or least) with those of one.

    Args:
        log_returns: (days, stocks), of the training days.

    Returns:
        Columns by falling (rising) absolute value of Pearson's correlation.
    """
    strength = np.abs(np.atleast_2d(np.corrcoef(log_returns.T))[stock])
    order = np.argsort(strength if pick == "weakest" else -strength, kind="stable")
    return [int(other) for other in order if other != stock][:count]


def windows(
    prices: Prices,
    predicted: tuple[str, ...] | list[str],
    protocol: Protocol,
    fold: int,
    seed: int,
    shown: Settings,
) -> Windows:
    """Training, validation and test windows of one fold; see :class:`Windows`."""
    spans = protocol.spans(fold, len(prices.close))
    learned = slice(spans["train"].start - protocol.days, spans["train"].stop)
    log_returns = np.diff(np.log(prices.close), axis=0, prepend=np.nan)
    values = log_returns if shown.returns else prices.close
    columns = np.array(
        [
            [stock, *correlated(log_returns[learned], stock, shown.companions, shown.pick)]
            for stock in map(prices.names.index, predicted)
        ]
    )
    scale = Scale(
        values[learned].mean(0), values[learned].std(0), np.ptp(prices.close[learned], axis=0)
    )
    parts = {
        name: Tensors(
            **_examples(
                prices,
                (values - scale.mean) / scale.std,
                scale,
                columns,
                range(span.start - protocol.days, span.stop),
                protocol.days,
                shown,
                np.random.default_rng(derive(seed, "windows", name)),
                shuffle=shown.shuffle and name != "test",
            )
        )
        for name, span in spans.items()
    }
    dims = {"features": columns.shape[1], "days": protocol.days, "times": 3}
    return Windows(
        parts["train"],
        parts["test"],
        parts["val"],
        dims,
        stocks=len(predicted),
        returns=shown.returns,
    )


@dataclass(frozen=True)
class Scale:
    """Of each stock in training: mean and standard deviation of its values, range of its closes."""

    mean: Floats
    std: Floats
    span: Floats


def _examples(
    prices: Prices,
    scaled: Floats,
    scale: Scale,
    columns: npt.NDArray[np.int64],
    rows: range,
    days: int,
    shown: Settings,
    rng: np.random.Generator,
    shuffle: bool,
) -> dict[str, Tensor]:
    """All examples of one part: its days to be forecast are ``rows`` without the first ``days``."""
    part = slice(rows.start, rows.stop)
    own, block = columns[:, 0], scaled[part]
    others = rng.permutation(block) if shown.permute else block
    window = np.arange(len(block) - days)[:, None] + np.arange(days)
    x = np.concatenate(
        [block[window][..., columns[:, :1]], others[window][..., columns[:, 1:]]], -1
    )
    place = np.broadcast_to(np.arange(days)[:, None] / days, (len(window), days, 1))
    t = np.concatenate([place, calendar_times(prices.dates[part])[window]], axis=-1)
    if shown.mistime:
        t = rng.permuted(rng.permutation(t), axis=1)
    y, close = block[days:, own], prices.close[part][:, own]
    example = {
        "x": x.swapaxes(1, 2),
        "t": np.repeat(t[:, None], len(own), axis=1),
        "y": rng.permutation(y) if shuffle else y,
        "close": close[days - 1 : -1],
        "next": close[days:],
        "mean": np.broadcast_to(scale.mean[own], y.shape),
        "std": np.broadcast_to(scale.std[own], y.shape),
        "span": np.broadcast_to(scale.span[own], y.shape),
    }
    return {
        name: torch.tensor(value.reshape(-1, *value.shape[2:]), dtype=torch.float32)
        for name, value in example.items()
    }
