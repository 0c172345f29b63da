"""Coefficients and solutions: the authors' files, small real Darcy data, and generators.

Every split has ``x`` and ``y``, (n, 1, d, d): input and output function. Networks learn
standardised outputs; mean and deviation go with the splits (``OperatorSplits``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from baselines.pde import corrector, diffusion, gaussian_field, navier_stokes, two_phases
from harness.loading.splits import Splits, Tensors
from harness.seeding import derive

Statistics = Literal["global", "pointwise", "none"]
EPSILON = 1e-5  # added to every deviation, as in the authors' normalisers


@dataclass(frozen=True)
class OperatorSplits(Splits):
    """Besides the splits, what a network's output is multiplied by and added to.

    Attributes:
        mean, deviation: of the training outputs, one number or (d, d).
        rollout: states ``x`` and the states ``y`` (n, steps, d, d) that follow, where the operator
            is a step in time.
    """

    mean: Tensor = field(default_factory=lambda: torch.tensor(0.0))
    deviation: Tensor = field(default_factory=lambda: torch.tensor(1.0))
    rollout: Tensors | None = None


def statistics(functions: Tensor, kind: Statistics) -> tuple[Tensor, Tensor]:
    """Mean and deviation of (n, d, d) over everything, or at every point."""
    if kind == "none":
        return torch.tensor(0.0), torch.tensor(1.0)
    where = 0 if kind == "pointwise" else (0, 1, 2)
    return functions.mean(where), functions.std(where) + EPSILON


def operator_splits(
    parts: Mapping[str, tuple[Tensor, Tensor]],
    inputs: Statistics,
    outputs: Statistics,
    shuffled: int | None = None,
) -> OperatorSplits:
    """Splits of (input, output) pairs ``train``, ``test`` and perhaps ``val``, each (n, d, d).

    Args:
        inputs: how inputs are standardised, by the training inputs.
        outputs: how networks' outputs are.
        shuffled: seed of a permutation of the training outputs (a canary).
    """
    x, y = parts["train"]
    mean, deviation = statistics(x, inputs)
    tensors = {
        name: Tensors(x=((a - mean) / deviation)[:, None], y=u[:, None])
        for name, (a, u) in parts.items()
    }
    if shuffled is not None:
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(shuffled))
        tensors["train"].columns["y"] = tensors["train"].columns["y"][order]
    out_mean, out_deviation = statistics(y, outputs)
    return OperatorSplits(
        tensors["train"],
        tensors["test"],
        tensors.get("val"),
        dims={"side": x.shape[-1]},
        mean=out_mean,
        deviation=out_deviation,
    )


# Generated.


def darcy(
    seed: int = 0,
    side: int = 32,
    train: int = 256,
    val: int = 64,
    test: int = 128,
    tau: float = 5.0,
    phases: tuple[float, float] = (2.0, 12.0),
    boundary: Literal["dirichlet", "periodic"] = "dirichlet",
    shuffled: bool = False,
) -> OperatorSplits:
    """Flow through a medium of two phases, a -> u of -div(a grad u) = 1 with u = 0 on the border.

    a has one value where a Gaussian field with covariance (-Δ + tau²)^-2 is negative and another
    elsewhere. ``periodic``: a field on the torus, and the corrector of homogenisation.

    Args:
        tau: inverse length of the phases.
        phases: the two values of a.
        shuffled: training solutions belong to other coefficients (a canary).
    """
    generator = torch.Generator().manual_seed(derive(seed, "darcy", boundary))
    field = gaussian_field(train + val + test, side, 2.0, tau, generator, boundary == "periodic")
    a = two_phases(field, *phases)
    u = corrector(a) if boundary == "periodic" else diffusion(a, 1.0)
    pairs = _divided(a.float(), u.float(), {"train": train, "val": val, "test": test})
    return operator_splits(pairs, "global", "global", derive(seed, "shuffle") if shuffled else None)


def vorticity(
    seed: int = 0,
    side: int = 16,
    train: int = 50,
    val: int = 10,
    test: int = 20,
    steps: int = 10,
    viscosity: float = 1e-3,
    shuffled: bool = False,
) -> OperatorSplits:
    """Steps of one time unit of a forced fluid on the torus, from random vorticity.

    Equation and forcing are those of Li et al., who have a viscosity of 1e-5 on 64 x 64 cells;
    the start is from N(0, 7³ (-Δ + 49)^-2.5). Solved on twice as many points along a side, of
    which every second one is kept.

    Args:
        train, val, test: trajectories, of ``steps`` steps each.
    """
    generator = torch.Generator().manual_seed(derive(seed, "vorticity"))
    fine = 2 * side
    start = gaussian_field(train + val + test, fine, 2.5, 7.0, generator, periodic=True)
    grid = torch.arange(fine, dtype=torch.float64) / fine
    phase = 2 * torch.pi * (grid[:, None] + grid)
    times = torch.arange(steps + 1, dtype=torch.float64)
    w = navier_stokes(
        7.0**1.5 * start, viscosity, times, 0.05, 0.1 * (torch.sin(phase) + torch.cos(phase))
    )
    whole = w[:, :, ::2, ::2].float()
    ends = {"train": whole[:train], "val": whole[train : train + val], "test": whole[train + val :]}
    return _stepped(ends, derive(seed, "shuffle") if shuffled else None)


def _divided(a: Tensor, u: Tensor, counts: Mapping[str, int]) -> dict[str, tuple[Tensor, Tensor]]:
    sizes = list(counts.values())
    pairs = zip(torch.split(a, sizes), torch.split(u, sizes), strict=True)
    return dict(zip(counts, pairs, strict=True))


def _stepped(trajectories: Mapping[str, Tensor], shuffled: int | None = None) -> OperatorSplits:
    """Pairs of neighbouring states of (n, times, d, d), and roll-outs of the test trajectories."""
    pairs = {
        name: (w[:, :-1].flatten(0, 1), w[:, 1:].flatten(0, 1)) for name, w in trajectories.items()
    }
    found = operator_splits(pairs, "none", "none", shuffled)
    test = trajectories["test"]
    rollout = Tensors(x=test[:, :1], y=test[:, 1:])
    return OperatorSplits(found.train, found.test, found.val, dims=found.dims, rollout=rollout)


# Files.


def small_darcy(
    root: Path, train: int = 900, val: int = 100, shuffled: bool = False, seed: int = 0
) -> OperatorSplits:
    """Two-phase Darcy flow on 16 x 16 points as shipped with ``neuralop``: the first ``train`` of
    1,000 pairs, the next ``val`` for validation, and 50 of another file for testing."""
    pairs = {}
    for name, file in (("train", "darcy_train_16.pt"), ("test", "darcy_test_16.pt")):
        content = torch.load(root / file, weights_only=True)
        pairs[name] = (content["x"].float(), content["y"].float())
    x, y = (functions[: train + val] for functions in pairs["train"])
    pairs |= {"train": (x[:train], y[:train]), "val": (x[train:], y[train:])}
    return operator_splits(pairs, "global", "global", derive(seed, "shuffle") if shuffled else None)


@dataclass(frozen=True)
class Source:
    """Where the pairs of a Darcy problem are: (file, first, beyond the last) of each split."""

    parts: Mapping[str, tuple[str, int, int]]
    every: int
    inputs: Statistics
    outputs: Statistics


# utilities3.py, and the commands of the README: every `--GN` standardises the inputs.
SMOOTH = ("piececonst_r421_N1024_smooth1.mat", "piececonst_r421_N1024_smooth2.mat")
ROUGH = ("darcy_alpha2_tau5_512_train.mat", "darcy_alpha2_tau5_512_test.mat")
MULTISCALE = ("mul_tri_train.mat", "mul_tri_test.mat")
PROBLEMS = {
    "smooth": Source(
        {"train": (SMOOTH[0], 0, 1000), "val": (SMOOTH[1], 100, 200), "test": (SMOOTH[1], 0, 100)},
        2, "pointwise", "pointwise",
    ),
    "rough": Source(
        {"train": (ROUGH[0], 0, 1280), "val": (ROUGH[0], 1280, 1392), "test": (ROUGH[1], 0, 112)},
        2, "none", "global",
    ),
    "multiscale": Source(
        {"train": (MULTISCALE[0], 0, 1000), "test": (MULTISCALE[1], 0, 100)}, 4, "global", "global",
    ),
}  # fmt: skip


def darcy_files(root: Path, problem: Literal["smooth", "rough", "multiscale"]) -> OperatorSplits:
    """The authors' Darcy data, split and standardised as by their scripts.

    Files hold ``coeff`` and ``sol``, (n, side, side), of which every second (multiscale: fourth)
    point is kept. The multiscale problem has no validation data: the authors' are its test data.

    Raises:
        ValueError: a file has fewer functions than the split needs.
    """
    source = PROBLEMS[problem]
    pairs = {}
    for name, (file, first, end) in source.parts.items():
        content = read_mat(root / file, ("coeff", "sol"))
        rows = [content[key][first:end, :: source.every, :: source.every] for key in content]
        if len(rows[0]) != end - first:
            raise ValueError(f"{file} has no functions {first} to {end - 1}")
        pairs[name] = (torch.from_numpy(rows[0]).float(), torch.from_numpy(rows[1]).float())
    return operator_splits(pairs, source.inputs, source.outputs)


def navier_stokes_files(root: Path, steps: int = 10) -> OperatorSplits:
    """``NavierStokes_V1e-5_N1200_T20.mat``: ``u`` (1200, 64, 64, 20). One-step pairs of the first
    eleven states of 1,000 trajectories, roll-outs of the last 100; none are for validation."""
    states = read_mat(root / "NavierStokes_V1e-5_N1200_T20.mat", ("u",))["u"]
    w = torch.from_numpy(states[..., : steps + 1]).float().movedim(-1, 1)
    return _stepped({"train": w[:1000], "test": w[-100:]})


def read_mat(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """Arrays of a MATLAB file, of version 7.3 (HDF5, axes in reverse) or older.

    Raises:
        KeyError: the file has no such array.
    """
    import h5py
    from scipy.io import loadmat

    if h5py.is_hdf5(path):
        with h5py.File(path) as file:
            return {name: np.ascontiguousarray(file[name][()].T) for name in names}
    content = loadmat(path, variable_names=names)
    return {name: content[name] for name in names}
