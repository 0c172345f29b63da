"""The task, and what the networks' outputs on it come to when they are averaged."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from experiments.exact_permutations.limit import Array
from harness.records import Measured


class Task:
    """One permutation of length ``k`` and the inputs on which it is tested.

    Attributes:
        permutation: ``P e_i`` in row i, shape (k, k).
        inputs: normalised, shape (A, k): all those with two or more ones, or those with two.
        labels: where ``P x`` is 1, shape (A, k).
        drawn: share of the drawn test inputs that each row is, shape (A,).
        pairs: which rows have two ones, shape (A,).
    """

    def __init__(self, k: int, exhaustive: bool, tests: int, device: torch.device) -> None:
        self.k, self.exhaustive = k, exhaustive
        x = torch.from_numpy(inputs_with_several_ones(k) if exhaustive else pairs(k)).float()
        has_two = x.sum(1) == 2
        rows = has_two.nonzero().squeeze(1)
        chosen = rows[torch.randint(len(rows), (tests,))]
        permutation = permutations(1, k)[0]
        self.permutation = permutation.to(device)
        self.inputs = (x / x.norm(dim=1, keepdim=True)).to(device)
        self.labels = (x @ permutation > 0).to(device)
        self.drawn = (torch.bincount(chosen, minlength=len(x)).double() / tests).to(device)
        self.pairs = has_two.to(device)


def permutations(count: int, k: int) -> Tensor:
    """Independent uniform permutation matrices, shape (count, k, k)."""
    return torch.eye(k)[torch.rand(count, k).argsort(dim=1)]


def pairs(k: int) -> Array:
    """All inputs with two ones, shape (k(k-1)/2, k)."""
    return np.array([[i in pair for i in range(k)] for pair in combinations(range(k), 2)], float)


def inputs_with_several_ones(k: int) -> Array:
    """All binary inputs but zero and the training vectors, shape (2^k - 1 - k, k)."""
    x = (np.arange(2**k)[:, None] >> np.arange(k)) & 1
    return np.asarray(x[x.sum(axis=1) >= 2], float)


def accuracy_curves(outputs: Tensor, task: Task) -> tuple[Array, Array]:
    """Exact-match accuracy of the mean of the first 1, 2, … networks.

    ``outputs`` is (R, A, k). Returns two curves of length R: on the drawn inputs (two ones), and
    on all rows of the task alike.
    """
    drawn, everywhere = [], []
    total = torch.zeros(outputs.shape[1:], dtype=torch.float64, device=outputs.device)
    for part in torch.split(outputs, 64):
        sums = total + part.double().cumsum(0)
        total = sums[-1]
        right = ((sums > 0) == task.labels).all(dim=2).double()
        drawn.append((right @ task.drawn).cpu())
        everywhere.append(right.mean(dim=1).cpu())
    return torch.cat(drawn).numpy(), torch.cat(everywhere).numpy()


def single_accuracy(outputs: Tensor, task: Task) -> float:
    """Exact-match accuracy of one network on its own over all rows, the mean over networks."""
    return float(((outputs > 0) == task.labels).all(dim=2).double().mean())


def first_reached(curve: Array, accuracy: float) -> float:
    """Size of the first ensemble with at least this accuracy, where the released code stops.

    Raises:
        RuntimeError: when none has: a size beyond the networks trained was not measured.
    """
    # The share of 1,000 drawn inputs is a sum of rounded fractions.
    enough = np.flatnonzero(curve >= accuracy - 1e-9)
    if not len(enough):
        raise RuntimeError(
            f"{len(curve)} networks reach an accuracy of {curve.max():.3f}, not {accuracy}"
        )
    return float(enough[0] + 1)


def output_moments(outputs: Tensor, task: Task) -> dict[str, Measured]:
    """Mean (on, off), variance and excess kurtosis over networks, on inputs with two ones.

    Variance and kurtosis are means over inputs and coordinates of what single outputs have. A
    network's outputs are correlated, so the standard errors of the means are over networks.
    """
    values = outputs[:, task.pairs].double()
    labels = task.labels[task.pairs]
    centred = values - values.mean(dim=0)
    second = centred.square().mean(dim=0)
    kurtosis = (centred**4).mean(dim=0) / second**2 - 3
    unbiased = len(values) / (len(values) - 1)
    found = {
        "variance": Measured(value=float(second.mean()) * unbiased),
        "excess_kurtosis": Measured(value=float(kurtosis.mean())),
    }
    for name, where in (("mean_on", labels), ("mean_off", ~labels)):
        each = values[:, where].mean(dim=1)
        stderr = float(each.std()) / math.sqrt(len(each))
        found[name] = Measured(value=float(each.mean()), stderr=stderr)
    return found
