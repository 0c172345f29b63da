"""Pairs of functions on nested grids: flows and Darcy problems, read or generated.

Points of all grids are i / d, so that a coarser grid has every second, fourth, … point of a finer
one. Nothing is read or solved until a trial asks for the functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from baselines.navier_stokes import forced_flow
from baselines.pde import diffusion, gaussian_field, two_phases
from harness.loading.splits import Splits, Tensors
from harness.seeding import derive

Pairs = Mapping[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Problem:
    """An operator to be learnt.

    Attributes:
        base: points along a side in training.
        sides: of the grids of the test, coarsest first.
        periodic: whether functions live on a torus.
        functions: gives ``train_x``, ``train_y``, ``val_x``, … (n, base, base) and ``test_x``,
            ``test_y`` on the finest grid.
        solved: whether that takes a solver; then trials of a seed share what it gave.
        dims: what a spec may refer to.
    """

    base: int
    sides: Sequence[int]
    periodic: bool
    functions: Callable[[], dict[str, Tensor]]
    solved: bool
    dims: dict[str, int] = field(default_factory=dict)


def problem(
    base: int,
    sides: Sequence[int],
    periodic: bool,
    pairs: Callable[[], Pairs],
    solved: bool,
    shuffled: int | None = None,
) -> Problem:
    """From (input, output) of ``train``, ``val`` and ``test``, each on any finer nested grid.

    Args:
        shuffled: seed of a permutation of the training outputs (a canary).
    """

    def functions() -> dict[str, Tensor]:
        found = {}
        for name, (x, y) in pairs().items():
            side = max(sides) if name == "test" else base
            found[f"{name}_x"], found[f"{name}_y"] = (thinned(f, side).float() for f in (x, y))
        if shuffled is not None:
            generator = torch.Generator().manual_seed(shuffled)
            y = found["train_y"]
            found["train_y"] = y[torch.randperm(len(y), generator=generator)]
        return found

    return Problem(base, sorted(sides), periodic, functions, solved, {"side": base})


def thinned(functions: Tensor, side: int) -> Tensor:
    """Every so many points of (…, d, d): (…, side, side), a copy.

    Raises:
        ValueError: d is no multiple of ``side``.
    """
    d = functions.shape[-1]
    if d % side:
        raise ValueError(f"a grid of {d} points along a side has none of {side}")
    return functions[..., :: d // side, :: d // side].clone()


def splits(functions: Mapping[str, Tensor]) -> tuple[Splits, Tensor, Tensor]:
    """What is trained on, with mean and deviation of its inputs, by which all are standardised."""
    x = functions["train_x"]
    mean, deviation = x.mean(), x.std()
    train, val = (
        Tensors(
            x=((functions[f"{name}_x"] - mean) / deviation)[:, None],
            y=functions[f"{name}_y"][:, None],
        )
        for name in ("train", "val")
    )
    return Splits(train, None, val), mean, deviation  # type: ignore[arg-type]


# Generated.


def flows(
    seed: int = 0,
    base: int = 32,
    sides: Sequence[int] = (16, 32, 64),
    train: int = 400,
    val: int = 100,
    test: int = 100,
    viscosity: float = 0.05,
    time: float = 2.0,
    steps: int = 64,
    shuffled: bool = False,
) -> Problem:
    """Forcing -> vorticity of a fluid that was at rest on the torus.

    The forcing is a Gaussian field with covariance proportional to (-Δ + 9)^-2.5 and a deviation
    of 0.3; solved on the finest grid.

    Args:
        time: at which the vorticity is wanted.
        steps: until then.
    """

    def pairs() -> Pairs:
        generator = torch.Generator().manual_seed(derive(seed, "flows"))
        forcing = forcings(train + val + test, max(sides), generator).float()
        w = torch.cat([forced_flow(f, viscosity, time, steps) for f in torch.split(forcing, 25)])
        return _divided(forcing, w, train, val, test)

    return problem(base, sides, True, pairs, True, derive(seed, "shuffle") if shuffled else None)


def forcings(count: int, side: int, generator: torch.Generator, deviation: float = 0.3) -> Tensor:
    """Draws from the forcing's law, (count, side, side), with this deviation on every grid."""
    # gaussian_field has the unit torus; there the inverse length 3 is 2π times as large.
    field = gaussian_field(count, side, 2.5, 6 * math.pi, generator, periodic=True)
    k = 2 * math.pi * torch.fft.fftfreq(side, 1 / side, dtype=torch.float64)
    variance = (k[:, None] ** 2 + k**2 + (6 * math.pi) ** 2) ** -2.5
    variance[0, 0] = 0.0
    forcing: Tensor = deviation / variance.sum().sqrt() * field
    return forcing


def darcy(
    seed: int = 0,
    base: int = 16,
    sides: Sequence[int] = (16, 32),
    train: int = 200,
    val: int = 50,
    test: int = 50,
    fine: int = 64,
    shuffled: bool = False,
) -> Problem:
    """Phase -> pressure of flow through a medium of two phases, in place of the shipped files.

    Solved by finite volumes on ``fine`` cells along a side, of whose middles every so many are
    kept. Pressures are divided by the deviation of the training ones.
    """

    def pairs() -> Pairs:
        generator = torch.Generator().manual_seed(derive(seed, "darcy"))
        medium = gaussian_field(train + val + test, fine, 2.0, 3.0, generator)
        pressure = diffusion(two_phases(medium, 3.0, 12.0), 1.0)
        pressure = pressure / pressure[:train].std()
        return _divided(two_phases(medium, 0.0, 1.0), pressure, train, val, test)

    return problem(base, sides, False, pairs, True, derive(seed, "shuffle") if shuffled else None)


def _divided(x: Tensor, y: Tensor, train: int, val: int, test: int) -> Pairs:
    sizes = [train, val, test]
    pairs = zip(torch.split(x, sizes), torch.split(y, sizes), strict=True)
    return dict(zip(("train", "val", "test"), pairs, strict=True))


# Files.


def small_darcy(
    root: Path, train: int = 900, val: int = 100, seed: int = 0, shuffled: bool = False
) -> Problem:
    """Darcy flow as shipped with ``neuralop``: 16 x 16 points in training, 50 tests on 32 x 32.

    The first ``train`` of 1,000 pairs, and the next ``val`` for validation.

    Raises:
        ValueError: tests on the two grids are not the same functions.
    """

    def pairs() -> Pairs:
        x, y = _read(root / "darcy_train_16.pt")
        test = _read(root / "darcy_test_32.pt")
        for fine, coarse in zip(test, _read(root / "darcy_test_16.pt"), strict=True):
            if not torch.equal(thinned(fine, 16), coarse):
                raise ValueError("darcy_test_16.pt is not every second point of darcy_test_32.pt")
        end = train + val
        return {"train": (x[:train], y[:train]), "val": (x[train:end], y[train:end]), "test": test}

    deal = derive(seed, "shuffle") if shuffled else None
    return problem(16, (16, 32), False, pairs, False, deal)


def navier_stokes_files(
    root: Path,
    base: int = 128,
    sides: Sequence[int] = (64, 128, 256, 512, 1024),
    train: int = 10_000,
    val: int = 0,
    test: int = 1000,
) -> Problem:
    """The authors' files ``nsforcing_<side>_train.pt`` and ``nsforcing_1024_test1.pt``.

    Every test grid is thinned from the second; the authors have other functions on the training
    grid. Validation functions are the last ones for training.
    """

    def pairs() -> Pairs:
        x, y = _read(root / f"nsforcing_{base}_train.pt")
        fine = tuple(f[:test] for f in _read(root / "nsforcing_1024_test1.pt"))
        end = train - val
        held = (x[end:train], y[end:train]) if val else (x[:1], y[:1])
        return {"train": (x[:end], y[:end]), "val": held, "test": (fine[0], fine[1])}

    return problem(base, sides, True, pairs, False)


def _read(path: Path) -> tuple[Tensor, Tensor]:
    content = torch.load(path, weights_only=True)
    return content["x"].float(), content["y"].float()
