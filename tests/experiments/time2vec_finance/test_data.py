from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.time2vec_finance import data as d
from experiments.time2vec_finance.data import Prices, Protocol, Settings
from harness.loading.readers import BadFormat

SMALL = Protocol(days=5, train=40, val=15, test=20)


def prices(total=200, names=6, seed=0):
    rng = np.random.default_rng(seed)
    dates = np.busday_offset(np.datetime64("2010-03-01"), np.arange(total))
    close = 50 * np.exp(np.cumsum(0.01 * rng.standard_normal((total, names)), axis=0))
    return Prices([f"S{k}" for k in range(names)], dates, close)


def made(of=None, predicted=("S1", "S4"), fold=0, **shown):
    return d.windows(of or prices(), predicted, SMALL, fold, 7, Settings(**shown))


def write(path, close, dates=("2020-01-02", "2020-01-03", "2020-01-06"), column="Close"):
    path.parent.mkdir(exist_ok=True, parents=True)
    table = pd.DataFrame({"Date": dates, "Open": 1.0, column: close, "Name": path.stem})
    table.to_csv(path, index=False)


@pytest.mark.parametrize("fold", [0, 1, 4])
def test_parts_follow_each_other_and_no_window_reaches_into_another_part(fold):
    spans = SMALL.spans(fold, 200)
    days = [set(range(span.start - SMALL.days, span.stop)) for span in spans.values()]
    assert not (days[0] & days[1] or days[1] & days[2] or days[0] & days[2])
    assert max(days[0]) < min(days[1]) and max(days[1]) < min(days[2])
    assert [len(span) for span in spans.values()] == [40, 15, 20]


def test_test_periods_of_folds_are_disjoint_and_end_with_the_data():
    tests = [SMALL.spans(fold, 200)["test"] for fold in range(6)]
    assert len(set().union(*tests)) == sum(len(test) for test in tests)
    with pytest.raises(ValueError, match="fold 6 ends on day 211 of 200"):
        SMALL.spans(6, 200)


def test_examples_are_what_a_loop_over_days_and_stocks_gives():
    of = prices()
    found = made(of, companions=2)
    learned = of.close[1 : 6 + 40]
    scaled = (of.close - learned.mean(0)) / learned.std(0)
    correlation = np.corrcoef(np.diff(np.log(of.close), axis=0)[:45].T)
    for name, first in (("train", 6), ("val", 51), ("test", 71)):
        part = getattr(found, name).columns
        for n, day in enumerate((first, first + 1, first + 2)):
            for m, stock in enumerate((1, 4)):
                example = {key: value[2 * n + m] for key, value in part.items()}
                strength = np.abs(correlation[stock])
                strength[stock] = -1
                others = list(np.argsort(-strength)[:2])
                rows = scaled[day - 5 : day][:, [stock, *others]]
                np.testing.assert_allclose(example["x"], rows, rtol=1e-4, atol=1e-5)
                assert example["y"] == pytest.approx(scaled[day, stock], rel=1e-4)
                assert example["close"] == pytest.approx(of.close[day - 1, stock], rel=1e-6)
                assert example["next"] == pytest.approx(of.close[day, stock], rel=1e-6)
                assert example["span"] == pytest.approx(np.ptp(learned[:, stock]), rel=1e-5)


@pytest.mark.parametrize("returns", [False, True])
def test_a_perfect_forecast_is_the_true_price(returns):
    found = made(returns=returns)
    batch = found.test[torch.arange(len(found.test))]
    torch.testing.assert_close(found.price(batch, batch["y"]), batch["next"], rtol=1e-4, atol=0)


def test_what_comes_after_training_changes_neither_scale_nor_choice_nor_training():
    of = prices()
    later = of.close.copy()
    later[46:] *= np.exp(np.cumsum(0.5 * np.random.default_rng(1).standard_normal((154, 6)), 0))
    before, after = made(of), made(replace(of, close=later))
    for name, column in before.train.columns.items():
        assert torch.equal(column, after.train.columns[name]), name
    assert not torch.equal(before.test.columns["x"], after.test.columns["x"])


def test_a_window_knows_nothing_of_the_day_it_forecasts():
    of = prices()
    later = of.close.copy()
    later[90:] *= 2  # the 20th test day
    before, after = made(of).test.columns, made(replace(of, close=later)).test.columns
    assert torch.equal(before["x"][:40], after["x"][:40])  # all windows end the day before
    assert torch.equal(before["y"][:38], after["y"][:38])
    assert not torch.equal(before["y"][38:], after["y"][38:])


def test_correlated_stocks_are_chosen_by_size_whatever_the_sign():
    rng = np.random.default_rng(0)
    one, noise = rng.standard_normal((2, 500))
    returns = np.stack([noise, one, -one + 0.1 * noise, one + noise], axis=1)
    assert d.correlated(returns, 1, 2) == [2, 3]
    assert d.correlated(returns, 1, 1, "weakest") == [0]
    assert d.correlated(returns, 1, 0) == []


def test_times_are_place_week_and_year():
    dates = np.array(["2012-12-31", "2013-01-01", "2013-07-05"], "datetime64[D]")  # Mo, Tu, Fr
    found = d.calendar_times(dates)
    np.testing.assert_allclose(found[:, 0], [0, 0.2, 0.8])
    np.testing.assert_allclose(found[:, 1], [365 / 366, 0, 185 / 365])
    t = made().train.columns["t"]
    torch.testing.assert_close(t[9, :, 0], torch.arange(5) / 5)
    assert torch.equal(t[0], t[1])  # both stocks of a day
    assert not torch.equal(t[0], t[2])


def test_controls_destroy_what_they_say_and_nothing_else():
    plain = made().train.columns
    for control, changed in (("permute", "x"), ("mistime", "t"), ("shuffle", "y")):
        other = made(**{control: True}).train.columns
        same = {name: torch.equal(plain[name], other[name]) for name in plain}
        assert [name for name in same if not same[name]] == [changed]
    permuted = made(permute=True).train.columns["x"]
    assert torch.equal(permuted[..., 0], plain["x"][..., 0])  # the stock itself
    mistimed = made(mistime=True).train.columns["t"]
    assert torch.equal(mistimed[::2], mistimed[1::2])
    assert not torch.equal(mistimed[0, :, 0].sort().values, mistimed[0, :, 0])
    torch.testing.assert_close(mistimed[0, :, 0].sort().values, torch.arange(5) / 5)
    shuffled = made(shuffle=True)
    torch.testing.assert_close(shuffled.train.columns["y"].sort().values, plain["y"].sort().values)
    assert torch.equal(shuffled.test.columns["y"], made().test.columns["y"])


def test_the_leader_tells_of_tomorrow_and_the_season_repeats():
    found = d.generated(3, total=6000)
    log = np.log(found.close / 100) / 0.05
    leader, follower = log[:, 2], log[:, 0]

    def lagged(a, b):
        return np.corrcoef(a[:-2], b[2:])[0, 1]

    assert lagged(leader, follower) > 0.3
    assert abs(lagged(log[:, 4], follower)) < 0.08
    calm = np.log(d.generated(3, season=0.0, total=6000).close / 100) / 0.05
    season = (log - calm)[:, 0]
    np.testing.assert_allclose((log - calm)[:, 1], season, atol=1e-9)
    np.testing.assert_allclose(log[:, 2:], calm[:, 2:], atol=1e-9)
    times = d.calendar_times(found.dates)
    waves = 2 * np.pi * times * [1, 4]
    basis = np.concatenate([np.sin(waves), np.cos(waves)], axis=1)
    fitted = basis @ np.linalg.lstsq(basis, season, rcond=None)[0]
    np.testing.assert_allclose(fitted, season, atol=1e-6)
    assert 0.8 < season.var() < 1.2


def test_the_leader_is_among_the_stocks_that_are_chosen():
    for seed in range(5):
        log_returns = np.diff(np.log(d.generated(seed).close[:800]), axis=0)
        assert {tuple(sorted(d.correlated(log_returns, k, 2))) for k in (0, 1)} == {(1, 2), (0, 2)}


def test_seeds_draw_other_sectors_and_the_same_again():
    first, again, other = (d.sector(seed, total=1500) for seed in (0, 0, 1))
    assert torch.equal(first.train.columns["x"], again.train.columns["x"])
    assert not torch.equal(first.train.columns["x"], other.train.columns["x"])


def test_stocks_are_read_from_their_files_on_common_days(tmp_path):
    write(tmp_path / "XOM_2006-01-01_to_2018-01-01.csv", [3.0, 4.0, 5.0])
    write(tmp_path / "CVX_2006-01-01_to_2018-01-01.csv", [7.0, "", 9.0])
    write(tmp_path / "GS_2006-01-01_to_2018-01-01.csv", [1.0, 2.0], ["2020-01-06", "2020-01-02"])
    found = d.read_stocks(tmp_path)
    assert found.names == ["CVX", "GS", "XOM"]
    assert found.dates.astype(str).tolist() == ["2020-01-02", "2020-01-06"]
    assert found.close.tolist() == [[7, 2, 3], [9, 1, 5]]


def test_files_that_are_no_prices_are_refused(tmp_path):
    with pytest.raises(BadFormat, match="no file"):
        d.read_stocks(tmp_path)
    write(tmp_path / "A_x.csv", [1.0, 2.0, 3.0], column="Adj")
    with pytest.raises(BadFormat, match=r"A_x\.csv is no table with Date and Close"):
        d.read_stocks(tmp_path)
    write(tmp_path / "A_x.csv", [1.0, -2.0, 3.0])
    with pytest.raises(BadFormat, match="not positive"):
        d.read_stocks(tmp_path)


def test_each_data_set_predicts_its_own_stocks(tmp_path):
    dates = np.busday_offset(np.datetime64("2010-01-04"), np.arange(90)).astype(str)
    rng = np.random.default_rng(0)

    def walk():
        return 50 * np.exp(np.cumsum(0.01 * rng.standard_normal(90)))

    protocol = Protocol(days=5, train=30, val=10, test=15)
    for ticker in (*d.PREDICTED, "KO", "PG"):
        write(tmp_path / "stocks" / f"{ticker}_2006.csv", walk(), dates)
    for index in ("DJI", "NASDAQ", "NYSE", "SP"):
        write(tmp_path / "indices" / f"Processed_{index}.csv", walk(), dates)
    for ticker in ("energy/A", "energy/B", "finance/C"):
        write(tmp_path / "pairs" / f"{ticker}.csv", walk(), dates)
    for callable, count in ((d.stocks, 6), (d.indices, 2), (d.pairs, 3)):
        found = callable(tmp_path / callable.__name__, 0, protocol)
        assert found.stocks == count and len(found.train) == 30 * count
        assert found.dims == {"features": 3, "days": 5, "times": 3}
        later = callable(tmp_path / callable.__name__, 1, protocol)
        tested = [set(made.test.columns["next"].tolist()) for made in (found, later)]
        assert len(tested[0]) == 15 * count and not tested[0] & tested[1]  # a seed is another fold
