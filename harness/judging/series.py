"""Numbers taken from a series over a swept variable: one of its values, its slope, its trend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.records import Measured, Series

if TYPE_CHECKING:
    import numpy as np


class Unmeasured(LookupError):
    """The records do not hold what the quantity needs; the message says what is missing."""


def value_at(series: Series, x: float) -> Measured:
    """The value where the swept variable is x.

    Raises:
        Unmeasured: it was not measured there.
    """
    for place, y in zip(series.x, series.y, strict=True):
        if math.isclose(place, x, rel_tol=1e-9):
            return Measured(value=y)
    known = ", ".join(f"{place:g}" for place in series.x[:12])
    raise Unmeasured(f"nothing at {series.over} {x:g}; there are {known}")


def fit_slope(series: Series, axes: str = "linear") -> Measured:
    """Least-squares slope, its standard error and degrees of freedom (points − 2).

    Points that a log axis excludes are left out.

    Raises:
        Unmeasured: fewer than three usable points.
    """
    log_x, log_y = axes in ("log-log", "log-x"), axes in ("log-log", "log-y")
    points = [
        (math.log(x) if log_x else x, math.log(y) if log_y else y)
        for x, y in zip(series.x, series.y, strict=True)
        if (x > 0 or not log_x) and (y > 0 or not log_y)
    ]
    if len(points) < 3 or len({x for x, _ in points}) < 2:
        raise Unmeasured("a slope needs three points")
    return _regression(points)


def _regression(points: Sequence[tuple[float, float]]) -> Measured:
    """What ``scipy.stats.linregress`` gives, which takes half a second to import."""
    import numpy as np

    x, y = zip(*points, strict=True)
    (xx, xy), (_, yy) = np.cov(x, y, bias=True)
    r = np.clip(xy / math.sqrt(xx * yy), -1.0, 1.0) if yy > 0 else 0.0
    stderr = math.sqrt((1 - r**2) * yy / xx / (len(points) - 2))
    df = len(points) - 2 if stderr else None
    return Measured(value=float(xy / xx), stderr=stderr or None, df=df)


def rank_correlation(series: Series) -> Measured:
    """Spearman's rank correlation with the swept variable; 0 for a constant series.

    Raises:
        Unmeasured: fewer than three points.
    """
    import numpy as np

    if len(series.x) < 3:
        raise Unmeasured("a rank correlation needs three points")
    if len(set(series.y)) == 1:
        return Measured(value=0.0)
    return Measured(value=float(np.corrcoef(_ranks(series.x), _ranks(series.y))[0, 1]))


def _ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks from 1; equal values share the mean of theirs."""
    import numpy as np

    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (np.cumsum(count) - (count - 1) / 2)[place]
    return ranks
