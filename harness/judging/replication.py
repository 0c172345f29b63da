"""What a replication of a reported mean ± standard deviation over n runs would give.

Patil, Peng & Leek (2016) and Spence & Stanley (2016): the mean of new runs of the same experiment
falls into the prediction interval of the original in 95 % of replications.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.judging.statistics import t_quantile
from harness.specs.claims import Reported

TOO_WIDE = 2.0  # in reported standard deviations


@dataclass(frozen=True)
class Prediction:
    """The interval, and ``width``: half of it in reported standard deviations.

    Beyond :data:`TOO_WIDE` a shift by three of them passes too often for a pass to say anything.
    """

    low: float
    high: float
    width: float

    @property
    def too_wide(self) -> bool:
        return self.width > TOO_WIDE


def prediction(reported: Reported, runs: float) -> Prediction:
    """The 95 % prediction interval of the mean of ``runs`` new runs.

    reported ± t(n − 1) · std · √(1/n + 1/runs)
    """
    assert reported.value is not None and reported.std is not None and reported.n is not None
    width = t_quantile(reported.n - 1) * math.sqrt(1 / reported.n + 1 / runs)
    half = width * reported.std
    return Prediction(reported.value - half, reported.value + half, width)
