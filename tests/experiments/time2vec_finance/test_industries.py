import numpy as np
import pandas as pd
import pytest
import torch

from experiments.time2vec_finance import industries
from experiments.time2vec_finance.data import Prices
from experiments.time2vec_finance.industries import PERIOD, SECTORS, Board, Industries
from harness.procedures.base import Trial


def measured(board, tmp_path, seed=0, **settings):
    trial = Trial(seed, board, lambda: None, torch.device("cpu"), tmp_path)
    return Industries(**settings).run(trial).metrics


def test_correlations_within_and_between_industries_pair_by_pair(tmp_path):
    returns = np.random.default_rng(0).standard_normal((50, 5)).cumsum(1)
    names = ["a", "b", "a", "b", "c"]
    found = measured(Board(returns, names), tmp_path)
    within, between = [], []
    for i in range(5):
        for j in range(i):
            pair = np.corrcoef(returns[:, i], returns[:, j])[0, 1]
            (within if names[i] == names[j] else between).append(pair)
    assert found["within"] == pytest.approx(np.mean(within))
    assert found["excess"] == pytest.approx(np.mean(within) - np.mean(between))


def test_shuffled_industries_say_nothing(tmp_path):
    boards = [industries.sector(seed) for seed in range(30)]
    found = [measured(b, tmp_path, s)["excess"] for s, b in enumerate(boards)]
    shuffled = [measured(b, tmp_path, s, shuffle=True)["excess"] for s, b in enumerate(boards)]
    assert np.mean(found) > 0.1
    assert abs(np.mean(shuffled)) < 0.05


def test_periods_follow_each_other():
    close = np.exp(np.random.default_rng(0).standard_normal((2 * PERIOD + 1, 2)))
    prices = Prices(["A", "B"], np.arange(2 * PERIOD + 1).astype("datetime64[D]"), close)
    periods = [industries.board(prices, ["x", "y"], k).returns for k in range(2)]
    np.testing.assert_allclose(np.concatenate(periods), np.diff(np.log(close), axis=0))
    with pytest.raises(ValueError, match="there are 2 periods"):
        industries.board(prices, ["x", "y"], 2)


def test_industries_of_files(tmp_path):
    dates = np.busday_offset(np.datetime64("2010-01-04"), np.arange(PERIOD + 1)).astype(str)
    table = pd.DataFrame({"Date": dates, "Close": np.arange(1.0, PERIOD + 2)})
    for name in ("energy/A", "energy/B", "finance/C"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    assert industries.provided(tmp_path, 0).industries == ["energy", "energy", "finance"]
    folder = tmp_path / "djia"
    folder.mkdir()
    for ticker in sum(SECTORS.values(), ()):
        table.to_csv(folder / f"{ticker}_2006.csv", index=False)
    found = industries.stocks(folder, 0)
    assert len(found.industries) == 31 and found.returns.shape == (PERIOD, 31)
    assert found.industries[:3] == ["information technology"] * 2 + ["consumer discretionary"]
