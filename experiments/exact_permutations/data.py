"""The curves that the authors' own runs left: accuracy and error against the ensemble size."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from experiments.exact_permutations.limit import Array


@dataclass(frozen=True)
class Curve:
    """One run at one input length: after each added model, the mean's error and accuracy.

    Attributes:
        error: mean squared error of the ensemble mean against ``P x / |x|``, shape (models,).
        accuracy: share of 1,000 inputs with two ones whose every rounded bit is right.
    """

    error: Array
    accuracy: Array

    @property
    def size(self) -> int:
        """Models averaged when the run stopped, which it did on reaching its accuracy."""
        return len(self.accuracy)


@dataclass(frozen=True)
class OfficialLogs:
    """Curves by input length: ``to_90`` ran to 90 % accuracy, ``to_999`` to 99.9 %."""

    to_90: dict[int, Curve]
    to_999: dict[int, Curve]
    dims: dict[str, int] = field(default_factory=dict)


def official_logs(root: Path) -> OfficialLogs:
    """Read ``experiment_1/k<k>.csv`` and ``experiment_2/k<k>.csv`` (size, error, accuracy).

    Raises:
        FileNotFoundError: when a folder holds no curve.
        ValueError: when a file is not a log of sizes 1, 2, 3, ….
    """
    return OfficialLogs(_curves(root / "experiment_1"), _curves(root / "experiment_2"))


def _curves(folder: Path) -> dict[int, Curve]:
    found = {}
    for path in folder.glob("k*.csv"):
        if match := re.fullmatch(r"k(\d+)", path.stem):
            rows = np.loadtxt(path, delimiter=",", ndmin=2)
            if rows.shape[1] != 3 or not np.array_equal(rows[:, 0], 1 + np.arange(len(rows))):
                raise ValueError(f"{path.name}: expected rows of size, error, accuracy")
            found[int(match[1])] = Curve(error=rows[:, 1], accuracy=rows[:, 2])
    if not found:
        raise FileNotFoundError(f"no k<length>.csv in {folder}")
    return dict(sorted(found.items()))
