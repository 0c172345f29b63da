"""ml-latest-small as click data, with the recipe of Frappe_x1 and MovielensLatest_x1.

A rating is a click; for each, two movies that the user never rated are drawn as impressions that
were not clicked, with the context (hour, weekday) of the click.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.finalmlp.data import Columns, Impressions, table
from harness.seeding import derive

SHARES = (0.7, 0.2)  # training and validation; the rest is tested
FIELDS = ("user", "movie", "genre", "year", "hour", "weekday")


def ml_latest_small(root: Path, seed: int, negatives: int = 2) -> Impressions:
    """302,508 impressions of six categorical fields, split 7:2:1 at random.

    Fields: user, movie, the movie's first genre, its year in steps of five, hour (UTC) and weekday.
    Every seed draws other movies and another split.

    Args:
        negatives: movies drawn for each rating, from those that anybody rated.
    """
    ratings = pd.read_csv(root / "ratings.csv", usecols=["userId", "movieId", "timestamp"])
    movies = pd.read_csv(root / "movies.csv").set_index("movieId")
    g = np.random.default_rng(derive(seed, "ml-latest-small"))
    users, user_of = np.unique(ratings["userId"], return_inverse=True)
    rated, movie_of = np.unique(ratings["movieId"], return_inverse=True)
    drawn = unrated(user_of, movie_of, len(rated), negatives, g)
    times = 1 + negatives  # each click and its negatives stand together until the split
    movie = np.concatenate([movie_of[:, None], drawn], axis=1).ravel()
    hours = ratings["timestamp"].to_numpy() // 3600
    fields = [
        np.repeat(user_of, times),
        movie,
        genres(movies.loc[rated, "genres"])[movie],
        years(movies.loc[rated, "title"])[movie],
        np.repeat(hours % 24, times),
        np.repeat(hours // 24 % 7, times),
    ]
    sizes = [len(users), len(rated), *(int(f.max()) + 1 for f in fields[2:4]), 24, 7]
    clicks = np.tile(np.arange(times) == 0, len(ratings))
    columns, ids = Columns(FIELDS, sizes), np.stack(fields, axis=1)
    ends = np.round(np.cumsum(SHARES) * len(clicks)).astype(int)
    train, val, test = (
        table(ids[part], columns, clicks[part])
        for part in np.split(g.permutation(len(clicks)), ends)
    )
    return Impressions(train=train, val=val, test=test, dims=columns.dims)


def unrated(
    users: NDArray[np.integer],
    movies: NDArray[np.integer],
    count: int,
    negatives: int,
    g: np.random.Generator,
) -> NDArray[np.int64]:
    """For each rating ``negatives`` of ``count`` movies that its user never rated: (N, negatives).

    Raises:
        ValueError: when a user has rated all movies.
    """
    if np.bincount(np.unique(users * count + movies) // count).max() >= count:
        raise ValueError("a user has rated every movie: there is none to draw")
    taken = np.unique(users * count + movies)
    drawn = g.integers(count, size=(len(users), negatives))
    while True:
        again = np.isin(users[:, None] * count + drawn, taken)
        if not again.any():
            return drawn
        drawn[again] = g.integers(count, size=int(again.sum()))


def genres(listed: pd.Series[str]) -> NDArray[np.int64]:
    """Number of each movie's first genre, in alphabetical order."""
    return np.unique(listed.str.split("|").str[0].to_numpy(str), return_inverse=True)[1]


def years(titles: pd.Series[str]) -> NDArray[np.int64]:
    """Five-year step of the year at the end of each title, from 1; 0 for a title without one."""
    found = titles.str.extract(r"\((\d{4})[^()]*\)\s*$")[0].astype(float)
    steps = found // 5 - found.min() // 5 + 1
    return steps.fillna(0).to_numpy().astype(np.int64)
