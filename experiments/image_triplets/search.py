"""The search for triplets: similarities on two levels that differ by what a grid asks for.

A triplet is a root and two images. On a level with similarities C its difference is
D = C[root, second] - C[root, first]; the second image is always the better match on the high level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Signs = Literal["random", "same"]


@dataclass(frozen=True)
class Grid:
    """Differences that are asked for: ``size`` standard deviations apart, ``bins`` a level.

    Attributes:
        tolerance: accepted distance from them, in units of similarity.
        relative: the tolerance is in standard deviations instead.
    """

    bins: int = 10
    size: float = 0.5
    tolerance: float = 0.01
    relative: bool = False

    def targets(self, similarity: Floats) -> Floats:
        """(bins,) differences; the deviation is that of all entries, the diagonal included."""
        steps = np.arange(1, self.bins + 1, dtype=np.float64)
        return self.size * float(similarity.std()) * steps

    def accepted(self, similarity: Floats) -> float:
        """Distance from a target that is accepted, in units of similarity."""
        return self.tolerance * (float(similarity.std()) if self.relative else 1.0)


@dataclass(frozen=True)
class Triplets:
    """Triplets as indices (T,) of images, and the cell (T, 2) of the grid each was found for."""

    root: Ints
    first: Ints
    second: Ints
    cells: Ints

    def __len__(self) -> int:
        return len(self.root)

    def differences(self, similarity: Floats) -> Floats:
        """D (T,) of a level with similarities (n, n)."""
        return similarity[self.root, self.second] - similarity[self.root, self.first]

    def swapped(self, swap: NDArray[np.bool_]) -> Triplets:
        """The same triplets, the two images of some shown the other way round."""
        first = np.where(swap, self.second, self.first)
        second = np.where(swap, self.first, self.second)
        return Triplets(self.root, first, second, self.cells)

    def only(self, rows: NDArray[np.intp]) -> Triplets:
        """Some of the triplets."""
        return Triplets(self.root[rows], self.first[rows], self.second[rows], self.cells[rows])


class Root:
    """The images around one root, in the order of their high-level similarity to it.

    Args:
        high, low: similarities (n,) to the root.
        usable: which images (n,) may be taken; the root is not one of them.
    """

    def __init__(self, high: Floats, low: Floats, usable: NDArray[np.bool_]) -> None:
        (images,) = np.nonzero(usable)
        self.images = images[np.argsort(high[images], kind="stable")]
        self.high, self.low = high[self.images], low[self.images]

    def pairs(self, high: float, low: float, tolerances: tuple[float, float]) -> tuple[Ints, Ints]:
        """All pairs (first, second) whose differences are ``high`` and ``low`` to a tolerance.

        A window of the sorted similarities holds the second images of each first one.
        """
        start = np.searchsorted(self.high, self.high + (high - tolerances[0]), "right")
        start = np.maximum(start, np.arange(1, len(start) + 1))  # the better match comes later
        stop = np.searchsorted(self.high, self.high + (high + tolerances[0]), "left")
        counts = np.maximum(stop - start, 0)
        first = np.repeat(np.arange(len(counts)), counts)
        within = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
        second = np.repeat(start, counts) + within
        kept = np.abs(self.low[second] - self.low[first] - low) <= tolerances[1]
        return self.images[first[kept]], self.images[second[kept]]


def search(
    high: Floats,
    low: Floats,
    generator: np.random.Generator,
    grid: Grid | None = None,
    tables: int = 20,
    tries: int | None = 1,
    repeats: bool = False,
    signs: Signs = "random",
) -> Triplets:
    """One triplet for each cell of the grid and table, where the roots that are tried have one.

    As in the released code, one root and, with ``random`` signs, one sign of the low-level
    difference are drawn for each cell of each table before it is known whether they can be met,
    and a cell that they do not meet stays empty in that table.

    Args:
        high, low: similarities (n, n) of the levels.
        tables: how often each cell is asked for.
        tries: roots that are tried for a cell, one after the other; ``None`` for all there are.
        repeats: images may come again, though no triplet does; otherwise each is used once.
        signs: ``same`` is a control, in which low-level differences always go with high-level ones.
    """
    hunt = _Hunt(high, low, generator, grid or Grid(), repeats)
    rows = []
    for cell in np.tile(np.argwhere(np.ones((hunt.grid.bins,) * 2)), (tables, 1)):
        sign = -1 if signs == "random" and generator.random() < 0.5 else 1
        triplet = hunt.one(int(cell[0]), int(cell[1]), sign, tries)
        if triplet is not None:
            rows.append((*triplet, *(cell + 1)))
    found = np.array(rows, dtype=np.int64).reshape(-1, 5)
    return Triplets(found[:, 0], found[:, 1], found[:, 2], found[:, 3:])


class _Hunt:
    """A search under way: which images are free, which triplets are taken, what is exhausted."""

    def __init__(
        self, high: Floats, low: Floats, generator: np.random.Generator, grid: Grid, repeats: bool
    ) -> None:
        self.high, self.low = high, low
        self.generator, self.grid, self.repeats = generator, grid, repeats
        self.targets = grid.targets(high), grid.targets(low)
        self.tolerances = grid.accepted(high), grid.accepted(low)
        self.free = np.ones(len(high), bool)
        self.taken: dict[tuple[int, int, int], list[tuple[int, int, int]]] = {}
        self.exhausted: set[tuple[int, int, int]] = set()

    def one(
        self, row: int, column: int, sign: int, tries: int | None
    ) -> tuple[int, int, int] | None:
        """A triplet for a cell, or nothing. What no root has once, none will have later."""
        cell = row, column, sign
        if cell in self.exhausted:
            return None
        roots = self.generator.permutation(np.nonzero(self.free)[0])
        for root in map(int, roots[:tries]):
            first, second = self._pairs(root, cell)
            if len(first):
                drawn = int(self.generator.integers(len(first)))
                triplet = root, int(first[drawn]), int(second[drawn])
                self.taken.setdefault(cell, []).append(triplet)
                self.free[list(triplet)] = self.repeats
                return triplet
        if tries is None:
            self.exhausted.add(cell)
        return None

    def _pairs(self, root: int, cell: tuple[int, int, int]) -> tuple[Ints, Ints]:
        row, column, sign = cell
        usable = self.free.copy()
        usable[root] = False
        wanted = float(self.targets[0][row]), sign * float(self.targets[1][column])
        around = Root(self.high[root], self.low[root], usable)
        first, second = around.pairs(*wanted, self.tolerances)
        fresh = np.ones(len(first), bool)
        for taken in self.taken.get(cell, []):
            if taken[0] == root:
                fresh &= (first != taken[1]) | (second != taken[2])
        return first[fresh], second[fresh]


def search_all(
    high: Floats, low: Floats, generator: np.random.Generator, grid: Grid, tables: int = 20
) -> Triplets:
    """What :func:`search` finds with ``tries=None`` and ``repeats=True``, from all n³ triplets.

    Raises:
        ValueError: for tolerances with which cells overlap.
    """
    rows = _cells(high[:, None, :] - high[:, :, None], high, grid)
    root, first, second = np.nonzero(rows > 0)
    columns = _cells(low[root, second] - low[root, first], low, grid)
    found = np.stack([root, first, second, rows[root, first, second], columns], 1)
    found = found[(columns != 0) & (root != first) & (root != second)]
    found = found[generator.permutation(len(found))]
    wide = 2 * grid.bins + 1
    keys = (found[:, 3] * wide + found[:, 4] + grid.bins) * len(high) + found[:, 0]
    found = found[np.argsort(keys, kind="stable")]
    groups, starts = np.unique(np.sort(keys), return_index=True)
    stops = np.append(starts[1:], len(found))
    positive = generator.binomial(tables, 0.5, (grid.bins + 1, grid.bins + 1))
    drawn: list[int] = []
    for cell in np.unique(groups // len(high)):
        ours = groups // len(high) == cell
        row, column = divmod(int(cell), wide)
        wanted = int(positive[row, abs(column - grid.bins)])
        wanted = wanted if column > grid.bins else tables - wanted
        drawn += _alternate(starts[ours], stops[ours], wanted, generator)
    kept = found[drawn]
    return Triplets(kept[:, 0], kept[:, 1], kept[:, 2], np.abs(kept[:, 3:]))


def _alternate(starts: Ints, stops: Ints, wanted: int, generator: np.random.Generator) -> list[int]:
    """Up to ``wanted`` rows, each the next of a group (a root) drawn alike from those not empty."""
    left = [list(range(*span)) for span in zip(starts.tolist(), stops.tolist(), strict=True)]
    rows: list[int] = []
    while left and len(rows) < wanted:
        group = int(generator.integers(len(left)))
        rows.append(left[group].pop())
        if not left[group]:
            left.pop(group)
    return rows


def _cells(differences: Floats, similarity: Floats, grid: Grid) -> Ints:
    """The bin whose target each difference meets, negative for minus the target; 0 for none."""
    step, tolerance = float(grid.targets(similarity)[0]), grid.accepted(similarity)
    if tolerance >= step / 2:
        raise ValueError(f"cells {step:.3g} apart overlap with a tolerance of {tolerance:.3g}")
    nearest = np.rint(differences / step).astype(np.int64)
    met = np.abs(differences - nearest * step) < tolerance
    return np.where(met & (np.abs(nearest) <= grid.bins), nearest, 0)


def balanced(triplets: Triplets, low: Floats, generator: np.random.Generator) -> Triplets:
    """As many triplets of either sign of the low-level difference in each cell.

    What is too many of one sign is left out at random. Cells of which one sign alone can be
    found drop out, which is what the released search lacks where images are few.
    """
    order = generator.permutation(len(triplets))
    cells = triplets.cells[order] @ np.array([1000, 1])
    negative = triplets.differences(low)[order] < 0
    kept = []
    for cell in np.unique(cells):
        sides = [np.nonzero((cells == cell) & (negative == side))[0] for side in (False, True)]
        fewer = min(map(len, sides))
        kept += [side[:fewer] for side in sides]
    chosen = np.sort(order[np.concatenate(kept)]) if kept else order
    return triplets.only(chosen)


def random_triplets(images: int, count: int, generator: np.random.Generator) -> Triplets:
    """Triplets of three different images, drawn alike; they belong to no cell."""
    root, first, second = generator.integers(0, [[images], [images - 1], [images - 2]], (3, count))
    first += first >= root
    low, high = np.minimum(root, first), np.maximum(root, first)
    second += second >= low
    second += second >= high
    return Triplets(root, first, second, np.zeros((count, 2), np.int64))


def correlation(one: Floats, other: Floats) -> float:
    """Correlation of differences over both orders of each pair, under which all change sign.

    As their mean is then zero it is Σ xy / sqrt(Σ x² Σ y²), whichever image is called the first;
    0 where there is nothing to correlate.
    """
    size = np.sqrt((one @ one) * (other @ other))
    return float(one @ other / size) if size > 0 else 0.0
