"""Reader of the Semeion handwritten digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.loading.readers import BadFormat

_PIXELS, _CLASSES = 256, 10


def read_semeion(root: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Images (n, 16, 16) of 0 and 1 (ink), and digits (n,), from ``semeion.data``.

    A line has 256 pixels, row by row, and ten numbers of which the digit's is 1.

    Raises:
        FileNotFoundError: when the file is not in ``root``.
        BadFormat: for rows of another length, other values than 0 and 1, or not one digit a row.
    """
    path = root / "semeion.data"
    try:
        table = np.loadtxt(path, ndmin=2)
    except ValueError as error:
        raise BadFormat(f"{path.name}: {error}") from error
    if table.shape[1] != _PIXELS + _CLASSES or not np.isin(table, (0, 1)).all():
        raise BadFormat(f"{path.name}: expected rows of {_PIXELS + _CLASSES} values 0 or 1")
    labels = table[:, _PIXELS:]
    if (labels.sum(1) != 1).any():
        raise BadFormat(f"{path.name}: a row does not have exactly one digit")
    images = table[:, :_PIXELS].reshape(-1, 16, 16)
    return images.astype(np.uint8), labels.argmax(1).astype(np.uint8)
