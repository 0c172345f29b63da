"""The generator against loops, the click recipe on a tiny MovieLens, and the published CSV form."""

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.finalmlp import data, published
from experiments.finalmlp.data import auc, multiplicative, true_logits
from experiments.finalmlp.movielens import ml_latest_small, unrated, years
from harness.loading.readers import BadFormat


def test_true_logits_are_the_written_sum():
    g = np.random.default_rng(0)
    values = g.integers(6, size=(20, 8))
    hidden, effects = g.standard_normal((8, 6, 4)), g.standard_normal((8, 6))
    expected = []
    for row in values:
        pairs = data.PAIRS[0] if row[0] < 3 else data.PAIRS[1]
        logit = sum(hidden[f, row[f]] @ hidden[h, row[h]] for f, h in pairs)
        expected.append(logit + 0.3 * sum(effects[f, row[f]] for f in range(8)))
    assert np.allclose(true_logits(values, hidden, effects, True), expected)


def test_without_interactions_main_effects_have_their_variance():
    g = np.random.default_rng(0)
    values = g.integers(400, size=(40000, 8))
    hidden, effects = g.standard_normal((8, 400, 4)), g.standard_normal((8, 400))
    additive = true_logits(values, hidden, effects, False)
    assert additive.std() == pytest.approx(true_logits(values, hidden, effects, True).std(), 0.1)
    main = effects[np.arange(8), values].sum(1)
    assert np.corrcoef(additive, main)[0, 1] == pytest.approx(1)


def test_a_third_is_clicked_and_no_score_beats_the_true_probabilities():
    splits = multiplicative(0, train=6000, val=2000, test=4000)
    assert [len(s) for s in (splits.train, splits.val, splits.test)] == [6000, 2000, 4000]
    assert splits.train.columns["y"].mean().item() == pytest.approx(1 / 3, abs=0.03)
    assert 0.85 < splits.bayes_auc < 0.99
    assert splits.dims["rows"] == 400 and splits.dims["first_field3"] == 150
    again = multiplicative(0, train=6000, val=2000, test=4000)
    assert torch.equal(again.test.columns["ids"], splits.test.columns["ids"])
    other = multiplicative(1, train=6000, val=2000, test=4000)
    assert not torch.equal(other.test.columns["ids"], splits.test.columns["ids"])


def test_the_fields_of_the_pairs_say_nothing_one_by_one():
    """Scores by a value's click rate: useless under interactions, good without."""
    found = {}
    for interactions in (True, False):
        splits = multiplicative(3, 20000, 10, 5000, 20, interactions)
        ids, y = splits.train.columns["ids"].long(), splits.train.columns["y"]
        clicks = torch.zeros(160).index_add_(0, ids.ravel(), y.repeat_interleave(8))
        shown = torch.bincount(ids.ravel(), minlength=160)
        rates = (clicks / shown)[splits.test.columns["ids"].long()]
        found[interactions] = auc(rates.sum(1).numpy(), splits.test.columns["y"].numpy())
    assert found[True] < 0.7 < 0.85 < found[False]


def test_two_segments_need_two_values():
    with pytest.raises(ValueError, match="at least 2 values"):
        multiplicative(0, vocabulary=1)


def test_auc_counts_ordered_pairs_and_half_of_ties():
    scores = np.array([0.1, 0.4, 0.4, 0.8])
    assert auc(scores, np.array([0, 0, 1, 1])) == pytest.approx((1 + 0.5 + 2) / 4)


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    g = np.random.default_rng(0)
    rows = [(u, m) for u in range(20) for m in g.choice(40, size=10, replace=False)]
    lines = [f"{u + 7},{100 * m},4.0,{3600 * (u + m) + 59}" for u, m in rows]
    (tmp_path / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *lines]))
    films = [f'{100 * m},"Film, the ({1950 + m})",{"AB"[m % 2]}|Z' for m in range(40)]
    (tmp_path / "movies.csv").write_text("\n".join(["movieId,title,genres", *films]))
    return tmp_path


def test_each_rating_is_a_click_beside_two_movies_that_the_user_never_rated(ratings):
    splits = ml_latest_small(ratings, seed=0)
    parts = (splits.train, splits.val, splits.test)
    assert [len(part) for part in parts] == [420, 120, 60]
    ids = torch.cat([part.columns["ids"] for part in parts]).numpy()
    y = torch.cat([part.columns["y"] for part in parts]).numpy()
    user, movie = ids[:, 0], ids[:, 1]
    clicked = set(zip(user[y == 1], movie[y == 1], strict=True))
    assert len(clicked) == 200 and y.sum() == 200
    assert not clicked & set(zip(user[y == 0], movie[y == 0], strict=True))
    for one in np.unique(user):  # negatives have the contexts of the user's clicks, twice
        mine = ids[:, 4:][(user == one) & (y == 1)]
        drawn = ids[:, 4:][(user == one) & (y == 0)]
        assert sorted(map(tuple, np.repeat(mine, 2, 0))) == sorted(map(tuple, drawn))


def test_fields_are_read_from_times_titles_and_genres(ratings):
    splits = ml_latest_small(ratings, seed=0)
    first = [splits.dims[f"first_{name}"] for name in ("user", "movie", "genre", "year", "hour")]
    assert first[0] == 0 and first[1] == 20
    ids = splits.train.columns["ids"].numpy() - np.array([*first, splits.dims["first_weekday"]])
    user, movie, genre, year, hour, weekday = ids[splits.train.columns["y"].numpy() == 1].T
    rated = sorted(
        {
            int(r[1]) // 100
            for r in csv.reader((ratings / "ratings.csv").open())
            if r[1] != "movieId"
        }
    )
    number = np.array(rated)[movie]
    assert (genre == number % 2).all()
    assert (hour == (user + number) % 24).all() and (weekday == (user + number) // 24 % 7).all()
    assert (year == (1950 + number) // 5 - (1950 + rated[0]) // 5 + 1).all()


def test_another_seed_draws_other_movies_and_another_split(ratings):
    one, two, again = (ml_latest_small(ratings, seed) for seed in (0, 1, 0))
    assert torch.equal(one.test.columns["ids"], again.test.columns["ids"])
    assert not torch.equal(one.test.columns["ids"], two.test.columns["ids"])


def test_years_of_titles():
    import pandas as pd

    titles = pd.Series(["A (1994)", "B (1990) ", "Babylon 5", "2001 (1968)", "C (2006–2007)"])
    assert years(titles).tolist() == [6, 6, 0, 1, 9]


def test_a_user_who_rated_everything_is_refused():
    with pytest.raises(ValueError, match="every movie"):
        unrated(np.array([0, 0]), np.array([0, 1]), 2, 1, np.random.default_rng(0))


HEADER = ["label", "I1", "C1", "C2"]
TRAIN = [[1, 0.5, 30, 7], [0, -1.0, 10, 7], [1, 2.0, 20, 8]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    write(tmp_path, "train.csv", TRAIN)
    write(tmp_path, "valid.csv", [[0, 0.25, 20, 9]])
    write(tmp_path, "test.csv", [[1, 4.0, 15, 8], [0, 0.0, 99, 7]])
    return tmp_path


def write(folder: Path, name: str, rows: list[list[float]], header: list[str] = HEADER) -> None:
    with (folder / name).open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def test_values_get_rows_after_padding_and_unknown_ones_share_the_last(folder):
    splits = published.published(folder, numeric=1)
    # row 0: I1; C1 has rows 1 to 5 (padding, 10, 20, 30, unknown), C2 rows 6 to 9
    assert splits.train.columns["ids"].tolist() == [[4, 7], [2, 7], [3, 8]]
    assert splits.val.columns["ids"].tolist() == [[3, 9]]
    assert splits.test.columns["ids"].tolist() == [[5, 8], [5, 7]]
    assert splits.test.columns["numbers"].tolist() == [[4.0], [0.0]]
    assert splits.train.columns["y"].tolist() == [1.0, 0.0, 1.0]
    assert splits.dims == {
        "rows": 10, "fields": 3, "numeric": 1,
        "rows_i1": 1, "first_i1": 0, "rows_c1": 5, "first_c1": 1, "rows_c2": 4, "first_c2": 6,
    }  # fmt: skip


def test_a_table_of_categories_has_no_numbers(folder):
    splits = published.published(folder)
    assert set(splits.train.columns) == {"ids", "y"}
    assert splits.dims["rows_i1"] == 5


def test_files_that_are_not_the_published_ones_are_refused(folder):
    sums = [
        hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest()
        for name in published.FILES
    ]
    published.published(folder, numeric=1, md5=sums)
    with pytest.raises(BadFormat, match=r"valid\.csv has the md5 sum"):
        published.published(folder, numeric=1, md5=[sums[0], "0" * 32, sums[2]])


def test_missing_numbers_and_columns_are_refused(folder):
    write(folder, "valid.csv", [[0, "", 20, 9], [0, 1.0, 20, 9]])
    with pytest.raises(BadFormat, match=r"valid\.csv: column I1 lacks values"):
        published.published(folder, numeric=1)
    write(folder, "valid.csv", [[0, 20]], ["label", "C1"])
    with pytest.raises(BadFormat, match=r"valid\.csv has columns"):
        published.published(folder, numeric=1)


def test_published_sizes_have_a_row_for_each_numeric_field():
    dims = published.sizes("criteo").dims
    assert (dims["fields"], dims["numeric"], dims["first_c1"], dims["rows_c6"]) == (39, 13, 13, 23)
    assert not hasattr(published.sizes("criteo"), "train")
