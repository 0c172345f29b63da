"""Problems over planar points: drawn uniformly from the unit square, as the paper's were, or read
from files.

Every split has the columns ``points`` (N, n, 2), the target tokens ``y`` (N, m) (1..n, then 0,
then padding with -1) and, where the number of points varies, ``lengths`` (N,).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor

from experiments.pointer_networks.geometry import convex_hulls, from_lowest_index, triangulations
from experiments.pointer_networks.metrics import Task
from experiments.pointer_networks.model import PAD
from experiments.pointer_networks.tours import Solver, directed, solve
from harness.loading.splits import Batch, Splits, Tensors
from harness.seeding import derive

Label = Callable[[Tensor], Tensor]


class Drawn:
    """A split that is drawn when first used: what only tests never pays for training labels."""

    def __init__(self, size: int, draw: Callable[[], Tensors]) -> None:
        self.size = size
        self.draw = draw

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, indices: Tensor) -> Batch:
        return self.tensors[indices]

    @cached_property
    def tensors(self) -> Tensors:
        return self.draw()


@dataclass(frozen=True, kw_only=True)
class Problem(Splits):
    """A task with test sets at other numbers of points.

    Attributes:
        at: a test set with that many points an instance.
    """

    task: Task
    at: Callable[[int], Tensors] = field(repr=False)


def convex_hull(
    points: list[int],
    train_size: int = 1_000_000,
    test_size: int = 10_000,
    shuffled: bool = False,
    seed: int = 0,
) -> Problem:
    """Hulls as targets, counter-clockwise from the lowest index (section 4.2).

    Args:
        points: the number of points, or the first and last of a range drawn from uniformly.
        train_size: training instances.
        test_size: instances of each test set; the main one has the most points trained on.
        shuffled: give each training instance the target of another with as many points.
        seed: of training and test instances.
    """
    return _drawn("hull", points, convex_hulls, train_size, test_size, shuffled, seed)


def delaunay(
    points: list[int],
    train_size: int = 1_000_000,
    test_size: int = 10_000,
    shuffled: bool = False,
    seed: int = 0,
) -> Problem:
    """Delaunay triangles as targets, ordered by incenter (section 4.3); see convex_hull."""
    return _drawn("delaunay", points, _flat_triangles, train_size, test_size, shuffled, seed)


def tsp(
    points: list[int],
    labels: Solver = "exact",
    train_size: int = 1_000_000,
    test_size: int = 10_000,
    test_labels: Solver = "exact",
    test_points: int | None = None,
    shuffled: bool = False,
    seed: int = 0,
) -> Problem:
    """Tours as targets (section 4.4); see :func:`convex_hull`.

    Args:
        points: as there.
        labels: the solver whose tours are trained on.
        train_size: as there.
        test_size: as there.
        test_labels: the solver whose tours are the targets of the test sets.
        test_points: points of the main test set; by default the most trained on.
        shuffled: as there.
        seed: as there.
    """
    label, test_label = partial(solve, solver=labels), partial(solve, solver=test_labels)
    drawn = _drawn("tsp", points, label, train_size, test_size, shuffled, seed, test_label)
    if test_points is None:
        return drawn
    return replace(drawn, test=Drawn(test_size, partial(drawn.at, test_points)))


def tsplib(
    root: Path,
    points: list[int],
    labels: Solver = "exact",
    train_size: int = 1_000_000,
    seed: int = 0,
) -> Problem:
    """Training as in :func:`tsp`, tested on the planar instances of TSPLIB95 in ``root``.

    Coordinates are scaled into the unit square; ``optimum`` is the known optimal length on that
    scale. Target tours of the test set are Christofides' after 2-opt.
    """
    drawn = tsp(points, labels=labels, train_size=train_size, seed=seed)
    return replace(drawn, test=read_tsplib(root))


def official(root: Path, task: Task, train: list[str], test: dict[int, str], main: int) -> Problem:
    """The paper's own files in ``root``, text or zip.

    Args:
        task: what their outputs are.
        train: names of the training files.
        test: names of the test files by number of points.
        main: which of them is the main test set.
    """

    def read(names: list[str]) -> Tensors:
        return _batch_of(task, [found for name in names for found in read_instances(root / name)])

    sets = read(train)
    return Problem(
        train=sets,
        test=read([test[main]]),
        dims={"points": sets.columns["points"].shape[1]},
        task=task,
        at=lambda n: read([test[n]]),
    )


def _drawn(
    task: Task,
    points: list[int],
    label: Label,
    train_size: int,
    test_size: int,
    shuffled: bool,
    seed: int,
    test_label: Label | None = None,
) -> Problem:
    low, high = points[0], points[-1]
    if not 3 <= low <= high or len(points) > 2:
        raise ValueError(f"points is a number from 3 on or a range [first, last], got {points}")
    numbers = list(range(low, high + 1))
    train = partial(draw, numbers, train_size, label, derive(seed, "train"), shuffled)

    def at(n: int) -> Tensors:
        return draw([n], test_size, test_label or label, derive(seed, "test", n))

    return Problem(
        train=Drawn(train_size, train),
        test=Drawn(test_size, lambda: at(high)),
        dims={"points": high},
        task=task,
        at=at,
    )


def draw(numbers: list[int], size: int, label: Label, seed: int, shuffled: bool = False) -> Tensors:
    """``size`` instances of uniform points with their targets, as many of each number of points
    as there is room for, the first numbers taking one more."""
    generator = torch.Generator().manual_seed(seed)
    groups = []
    for index, n in enumerate(numbers):
        count = size // len(numbers) + (index < size % len(numbers))
        if count:
            points = torch.rand(count, n, 2, generator=generator)
            targets = with_end(label(points))
            groups.append((points, targets.roll(1, dims=0) if shuffled else targets))
    return _padded(groups)


def with_end(indices: Tensor) -> Tensor:
    """Tokens (N, w + 1) of 0-based indices (N, w; padded with -1): 1..n, one 0, then -1."""
    tokens = torch.nn.functional.pad(indices, (0, 1), value=-1) + 1
    return torch.where((tokens == 0).cumsum(dim=1) > 1, PAD, tokens)


def _flat_triangles(points: Tensor) -> Tensor:
    return triangulations(points).flatten(1)


def _padded(groups: list[tuple[Tensor, Tensor]]) -> Tensors:
    """One split of groups (points, tokens), each of one number of points."""
    most = max(points.shape[1] for points, _ in groups)
    width = max(tokens.shape[1] for _, tokens in groups)
    pad = torch.nn.functional.pad
    columns = {
        "points": torch.cat([pad(p, (0, 0, 0, most - p.shape[1])) for p, _ in groups]),
        "y": torch.cat([pad(y, (0, width - y.shape[1]), value=PAD) for _, y in groups]),
    }
    if len(groups) > 1:
        columns["lengths"] = torch.cat([torch.full((len(p),), p.shape[1]) for p, _ in groups])
    return Tensors(**columns)


def read_instances(path: Path) -> Iterator[tuple[Tensor, Tensor]]:
    """Instances of a file of the paper: points (n, 2) and 1-based output indices.

    A line is ``x1 y1 x2 y2 … output i1 i2 …``; the members of a zip archive are read in turn.

    Raises:
        ValueError: naming the line that is not of this form.
    """
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                with archive.open(name) as member:
                    yield from _instances(io.TextIOWrapper(member, "utf-8"), name)
    else:
        with path.open(encoding="utf-8") as file:
            yield from _instances(file, path.name)


def _instances(
    lines: io.TextIOBase | io.TextIOWrapper, name: str
) -> Iterator[tuple[Tensor, Tensor]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        coordinates, mark, output = line.partition("output")
        try:
            points = torch.tensor([float(x) for x in coordinates.split()]).view(-1, 2)
            indices = torch.tensor([int(i) for i in output.split()])
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{name}, line {number}: {error}") from None
        if not mark or not len(indices) or not 1 <= indices.min() <= indices.max() <= len(points):
            raise ValueError(f"{name}, line {number}: no output, or an index beyond the points")
        yield points, indices


def _batch_of(task: Task, instances: list[tuple[Tensor, Tensor]]) -> Tensors:
    """Instances as a split, in our target form: polygons and tours without the repeated start."""
    by_number: dict[int, list[tuple[Tensor, Tensor]]] = {}
    for points, indices in instances:
        by_number.setdefault(len(points), []).append((points, indices))
    groups = []
    for same in by_number.values():
        rows = [i[:-1] if task != "delaunay" and i[0] == i[-1] else i for _, i in same]
        indices = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True) - 1
        points = torch.stack([p for p, _ in same])
        if task == "hull":
            indices = from_lowest_index(indices)
        elif task == "tsp":
            indices = directed(points, indices)
        groups.append((points, with_end(indices)))
    return _padded(groups)


def read_tsplib(root: Path) -> Tensors:
    """The planar (EUC_2D) instances of a TSPLIB folder, with ``optimum`` from its ``solutions``.

    Optima are of distances rounded to whole numbers, which ours are not; the rounding changes a
    tour by well under 1 %.
    """
    lines = (line.partition(":") for line in (root / "solutions").read_text().splitlines())
    optima = {name.strip(): int(length) for name, colon, length in lines if colon}
    groups, optimum = [], []
    for path in sorted(root.glob("*.tsp")):
        header, _, body = path.read_text().partition("NODE_COORD_SECTION")
        if "EUC_2D" not in header:
            continue
        rows = [line.split() for line in body.splitlines() if len(line.split()) == 3]
        points = torch.tensor([[float(x), float(y)] for _, x, y in rows], dtype=torch.float64)
        low = points.amin(dim=0)
        scale = (points.amax(dim=0) - low).max()
        points = ((points - low) / scale).unsqueeze(0)
        groups.append((points.float(), with_end(solve(points, "christofides-2opt"))))
        optimum.append(optima[path.stem] / float(scale))
    split = _padded(groups)
    return Tensors(**split.columns, optimum=torch.tensor(optimum))
