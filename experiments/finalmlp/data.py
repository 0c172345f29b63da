"""Tables of impressions: what all data sets share, and ``multiplicative``, made from a seed.

The generator has the mechanism that the paper is about, so that its claims can fail: clicks
depend on inner products of hidden vectors of pairs of fields, and one field decides which pairs
count. Without the pairs (``interactions: false``) there is nothing that two streams, a bilinear
fusion or gates could add.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from harness.loading.splits import Splits, Tensors
from harness.seeding import derive

FIELDS = 8
PAIRS = (((1, 2), (3, 4), (5, 6)), ((1, 3), (2, 5), (4, 7)))  # by the segment of field 0
LATENT = 4
MAIN_EFFECT = 0.3
CLICKED = 1 / 3


@dataclass(frozen=True)
class Impressions(Splits):
    """Splits of a table; ``bayes_auc`` is the test AUC of the true probabilities, if known."""

    bayes_auc: float | None = None


@dataclass(frozen=True)
class Columns:
    """Names of the fields, numeric ones first, and rows of the embedding table that each has."""

    names: Sequence[str]
    sizes: Sequence[int]
    numeric: int = 0

    @property
    def first_rows(self) -> list[int]:
        """The first row of each field."""
        return [int(n) for n in np.cumsum([0, *self.sizes])[:-1]]

    @property
    def dims(self) -> dict[str, int]:
        """Totals, and for each field its ``rows_<name>`` and ``first_<name>``, in lower case."""
        dims = {"rows": sum(self.sizes), "fields": len(self.names), "numeric": self.numeric}
        for name, size, first in zip(self.names, self.sizes, self.first_rows, strict=True):
            dims |= {f"rows_{name.lower()}": size, f"first_{name.lower()}": first}
        return dims


def table(ids: NDArray[np.integer], columns: Columns, clicks: NDArray[np.generic]) -> Tensors:
    """A split of categorical fields: ``ids`` (N, F) count from 0 in each field."""
    rows = ids + np.asarray(columns.first_rows)
    return Tensors(
        ids=torch.from_numpy(rows.astype(np.int32)),
        y=torch.from_numpy(clicks.astype(np.float32)),
    )


def multiplicative(
    seed: int,
    train: int = 60_000,
    val: int = 20_000,
    test: int = 20_000,
    vocabulary: int = 50,
    interactions: bool = True,
) -> Impressions:
    """Clicks that depend on pairs of fields; every seed is another data set.

    With u_f(v) ~ N(0, I_4) and b_f(v) ~ N(0, 1), an impression with values v_f, all uniform, has
    ``logit = Σ_{(f,g) in P_s} <u_f(v_f), u_g(v_g)> + 0.3 Σ_f b_f(v_f) - c``. P_s has three pairs,
    and the segment s is that half of field 0's values which v_0 is in; c makes a third of
    the impressions clicks.

    Args:
        interactions: without them the sum over pairs is left out, and main effects take over its
            variance, so that clicks are as predictable as before.

    Raises:
        ValueError: for fewer than two values a field.
    """
    if vocabulary < 2:
        raise ValueError(f"two segments need at least 2 values a field, not {vocabulary}")
    g = np.random.default_rng(derive(seed, "multiplicative"))
    values = g.integers(vocabulary, size=(train + val + test, FIELDS))
    hidden = g.standard_normal((FIELDS, vocabulary, LATENT))
    effects = g.standard_normal((FIELDS, vocabulary))
    logits = true_logits(values, hidden, effects, interactions)
    shift = brentq(lambda c: expit(logits - c).mean() - CLICKED, logits.min(), logits.max() + 2)
    probabilities = expit(logits - shift)
    clicks = g.random(len(values)) < probabilities
    columns = Columns([f"field{f}" for f in range(FIELDS)], [vocabulary] * FIELDS)
    parts = np.split(np.arange(len(values)), [train, train + val])
    tables = [table(values[part], columns, clicks[part]) for part in parts]
    return Impressions(
        train=tables[0],
        val=tables[1],
        test=tables[2],
        dims=columns.dims,
        bayes_auc=auc(probabilities[parts[2]], clicks[parts[2]]),
    )


def true_logits(
    values: NDArray[np.integer],
    hidden: NDArray[np.float64],
    effects: NDArray[np.float64],
    interactions: bool,
) -> NDArray[np.float64]:
    """Logits before the shift, of values (N, 8), vectors (8, V, 4) and main effects (8, V)."""
    fields = np.arange(FIELDS)
    main: NDArray[np.float64] = effects[fields, values].sum(1)
    if not interactions:
        variance = FIELDS * MAIN_EFFECT**2 + len(PAIRS[0]) * LATENT
        main *= np.sqrt(variance / FIELDS)
        return main
    vectors = hidden[fields, values]
    # pairs (2, 3, 2): for each segment the first and the second field of each pair
    left, right = np.moveaxis(np.asarray(PAIRS), 2, 0)
    by_segment = np.einsum("nspd,nspd->ns", vectors[:, left], vectors[:, right])
    segment = 2 * values[:, :1] // hidden.shape[1]
    pairwise: NDArray[np.float64] = np.take_along_axis(by_segment, segment, axis=1)[:, 0]
    return pairwise + MAIN_EFFECT * main


def auc(scores: NDArray[np.floating], clicks: NDArray[np.generic]) -> float:
    """Area under the ROC curve of the whole set at once, in double precision."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(clicks, scores.astype(np.float64)))
