"""Do stocks of one industry move together? Correlations of daily returns, period by period."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiments.time2vec_finance.data import Floats, Prices, generated, read_prices, read_stocks
from harness.procedures.base import Outcome, Trial
from harness.seeding import derive

PERIOD = 250  # trading days, about a year
SECTORS = {  # of the Global Industry Classification Standard, in 2017
    "consumer discretionary": ("AMZN", "DIS", "HD", "MCD", "NKE"),
    "consumer staples": ("KO", "PG", "WMT"),
    "energy": ("CVX", "XOM"),
    "financials": ("AXP", "GS", "JPM", "TRV"),
    "health care": ("JNJ", "MRK", "PFE", "UNH"),
    "industrials": ("BA", "CAT", "GE", "MMM", "UTX"),
    "information technology": ("AABA", "AAPL", "CSCO", "GOOGL", "IBM", "INTC", "MSFT"),
    "telecommunication": ("VZ",),
}


@dataclass(frozen=True)
class Board:
    """Log returns (days, stocks) of one period, and each stock's industry."""

    returns: Floats
    industries: Sequence[str]
    dims: dict[str, int] = field(default_factory=dict)


def stocks(root: Path, seed: int) -> Board:
    """31 US stocks in the period that the seed says, of 12 from 2006 to 2017."""
    industry = {ticker: name for name, tickers in SECTORS.items() for ticker in tickers}
    prices = read_stocks(root)
    return board(prices, [industry[ticker] for ticker in prices.names], seed)


def provided(root: Path, seed: int) -> Board:
    """Stocks in files ``<industry>/<ticker>.csv``."""
    files = {path.stem: path for path in sorted(root.glob("*/*.csv"))}
    prices = read_prices(files)
    return board(prices, [files[ticker].parent.name for ticker in prices.names], seed)


def sector(seed: int) -> Board:
    """A generated sector of three stocks, and four others that have nothing to do with it."""
    prices = generated(seed, total=PERIOD + 1)
    apart = [name if name.startswith("apart") else "sector" for name in prices.names]
    return board(prices, apart, 0)


def board(prices: Prices, industries: Sequence[str], period: int) -> Board:
    """The returns of one period.

    Raises:
        ValueError: when the prices end before it.
    """
    returns = np.diff(np.log(prices.close), axis=0)
    found = returns[period * PERIOD : (period + 1) * PERIOD]
    if len(found) < PERIOD:
        raise ValueError(f"there are {len(returns) // PERIOD} periods; {period} is not one of them")
    return Board(found, industries)


class Industries:
    """``within``: mean correlation of stocks of one industry; ``excess``: that less the mean
    correlation of stocks of different ones.

    Args:
        shuffle: give industries to stocks at random (a control).
    """

    def __init__(self, shuffle: bool = False) -> None:
        self.shuffle = shuffle

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"within", "excess"}

    def run(self, trial: Trial) -> Outcome:
        shown: Board = trial.data
        names = np.array(shown.industries)
        if self.shuffle:
            names = np.random.default_rng(derive(trial.seed, "industries")).permutation(names)
        same = names[:, None] == names
        np.fill_diagonal(same, False)
        apart = names[:, None] != names
        correlation = np.atleast_2d(np.corrcoef(shown.returns.T))
        within = float(correlation[same].mean())
        return Outcome({"within": within, "excess": within - float(correlation[apart].mean())})
