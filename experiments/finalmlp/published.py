"""The published splits Criteo_x1, Avazu_x1, MovielensLatest_x1 and Frappe_x1, and their sizes.

Each is a folder with ``train.csv``, ``valid.csv`` and ``test.csv``: a column ``label`` and one
column a field, numeric fields first.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.finalmlp.data import Columns, Impressions
from harness.loading.huggingface import table
from harness.loading.readers import BadFormat
from harness.loading.splits import Tensors

if TYPE_CHECKING:
    import datasets

FILES = ("train.csv", "valid.csv", "test.csv")
LABEL = "label"
Name = Literal["criteo", "avazu", "movielens", "frappe"]

# Values of each field in the training split, with a row for padding and one for unknown values
# fmt: off
FRAPPE = {
    "user": 956, "item": 4084, "daytime": 9, "weekday": 9, "isweekend": 4, "homework": 5,
    "cost": 4, "weather": 11, "country": 82, "city": 235,
}
MOVIELENS = {"user_id": 16977, "item_id": 23606, "tag_id": 49659}
AVAZU = (
    9, 9, 3480, 4271, 26, 4864, 305, 33, 228186, 1048285, 6515,
    6, 6, 1940, 10, 11, 349, 6, 61, 171, 52, 26,
)
CRITEO = (
    1462, 560, 413424, 248543, 307, 23, 12192, 635, 5, 54712, 5350, 409749, 3182,
    29, 12500, 365811, 12, 4934, 2096, 6, 397981, 20, 17, 88608, 98, 64073,
)
# fmt: on
COLUMNS: dict[Name, Columns] = {
    "frappe": Columns(list(FRAPPE), list(FRAPPE.values())),
    "movielens": Columns(list(MOVIELENS), list(MOVIELENS.values())),
    "avazu": Columns([f"feat_{i}" for i in range(1, 23)], AVAZU),
    "criteo": Columns(
        [f"I{i}" for i in range(1, 14)] + [f"C{i}" for i in range(1, 27)],
        (*[1] * 13, *CRITEO),
        numeric=13,
    ),
}


@dataclass(frozen=True)
class Sizes:
    """What is known of a data set without having it: the sizes that models are built with."""

    dims: dict[str, int] = field(default_factory=dict)


def sizes(name: Name, padding: bool = True) -> Sizes:
    """The published vocabulary sizes of a data set.

    Args:
        padding: with each categorical field's row for padding, as FinalMLP and DualMLP were run;
            the library's earlier version, with which the leaderboard's models were, had none.
    """
    columns = COLUMNS[name]
    if padding:
        return Sizes(columns.dims)
    numeric, n = columns.sizes[: columns.numeric], columns.numeric
    fewer = [*numeric, *(size - 1 for size in columns.sizes[n:])]
    return Sizes(Columns(columns.names, fewer, n).dims)


def published(root: Path, numeric: int = 0, md5: list[str] | None = None) -> Impressions:
    """A published split.

    A value's row is its place among the sorted values of the training split; row 0 of each field
    is never used (the authors' padding), and values that are not in the training split share the
    field's last row.

    Args:
        numeric: so many of the first columns are numbers, taken as they are.
        md5: published checksums of the three files, in the order of ``FILES``.

    Raises:
        BadFormat: when a checksum or the columns differ, or a number is missing.
    """
    for name, expected in zip(FILES, md5 or [], strict=False):
        _check_md5(root / name, expected)
    parts = [table([root / name]) for name in FILES]
    names = [name for name in parts[0].column_names if name != LABEL]
    for part, file in zip(parts, FILES, strict=True):
        if sorted(part.column_names) != sorted([LABEL, *names]):
            raise BadFormat(f"{file} has columns {part.column_names}, not label and {names}")
    numbers = [_numbers(part, names[:numeric], f) for part, f in zip(parts, FILES, strict=True)]
    ids, columns = _rows(parts, names, numeric)
    train, val, test = (
        Tensors(
            ids=torch.from_numpy(i),
            **({"numbers": torch.from_numpy(n)} if numeric else {}),
            y=torch.from_numpy(_column(part, LABEL).astype(np.float32)),
        )
        for part, i, n in zip(parts, ids, numbers, strict=True)
    )
    return Impressions(train=train, val=val, test=test, dims=columns.dims)


def _rows(
    parts: list[datasets.Dataset], names: list[str], numeric: int
) -> tuple[list[NDArray[np.int32]], Columns]:
    """Rows of the embedding table (N, F - numeric) of each split; column by column, for memory."""
    ids = [np.empty((len(part), len(names) - numeric), np.int32) for part in parts]
    counts, first = [1] * numeric, numeric
    for place, name in enumerate(names[numeric:]):
        values = np.unique(_column(parts[0], name))
        for part, into in zip(parts, ids, strict=True):
            into[:, place] = first + encoded(_column(part, name), values)
        counts.append(len(values) + 2)
        first += counts[-1]
    return ids, Columns(names, counts, numeric)


def encoded(column: NDArray[Any], values: NDArray[Any]) -> NDArray[np.int64]:
    """Place from 1 of each entry among the sorted ``values``; unknown ones come after the last."""
    places = np.searchsorted(values, column).clip(max=len(values) - 1)
    return np.where(values[places] == column, places + 1, len(values) + 1)


def _numbers(part: datasets.Dataset, names: list[str], file: str) -> NDArray[np.float32]:
    """The numeric columns (N, numeric)."""
    numbers = np.empty((len(part), len(names)), np.float32)
    for place, name in enumerate(names):
        numbers[:, place] = _column(part, name)
        if not np.isfinite(numbers[:, place]).all():
            raise BadFormat(f"{file}: column {name} lacks values")
    return numbers


def _column(part: datasets.Dataset, name: str) -> NDArray[Any]:
    return part.data.column(name).to_numpy()  # type: ignore[no-any-return]


def _check_md5(path: Path, expected: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != expected:
        raise BadFormat(f"{path.name} has the md5 sum {found}; the published split has {expected}")
