"""Trials on data: kernel machines of a given depth, the rules that they tend to, and regression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from experiments.wide_deep_optimal import classifiers, kernels
from experiments.wide_deep_optimal.activations import is_singular, named
from experiments.wide_deep_optimal.kernels import Grid, Kind, Tabulated
from harness.loading.splits import Splits
from harness.procedures.base import Outcome, Trial
from harness.records import Measured, Series

RuleName = Literal["nearest", "majority", "hilbert", "bayes"]
_SCORES = {"accuracy", "accuracy_over_n", "regret", "regret_over_n"}


@dataclass(frozen=True)
class Sample:
    """The first n training inputs of a data set and all its test inputs, by their gaps.

    Attributes:
        train, test: gaps among the training inputs (n, n), and to the test inputs (n, m).
        y, test_y: labels; ``eta``, ``test_eta``: P(y = +1 | x), where it is known.
    """

    train: Tensor
    test: Tensor
    y: Tensor
    test_y: Tensor
    eta: Tensor | None
    test_eta: Tensor | None
    dimension: int

    @classmethod
    def of(cls, data: Splits) -> Sample:
        (x, y, eta), (z, test_y, test_eta) = (
            (part[every]["x"], part[every]["y"], part[every].get("eta"))
            for part in (data.train, data.test)
            for every in (torch.arange(len(part)),)
        )
        train, test = classifiers.gaps(x, x), classifiers.gaps(x, z)
        return cls(train, test, y, test_y, eta, test_eta, data.dims["dimension"])

    def first(self, n: int) -> Sample:
        if n > len(self.y):
            raise ValueError(f"{n} training inputs were asked for, there are {len(self.y)}")
        eta = None if self.eta is None else self.eta[:n]
        return Sample(
            self.train[:n, :n], self.test[:n], self.y[:n], self.test_y,
            eta, self.test_eta, self.dimension,
        )  # fmt: skip

    def grid(self, nodes: int = 32_768) -> Grid:
        smallest = min(classifiers.closest(self.train), float(self.test.min()))
        return Grid(smallest, max(float(self.train.max()), float(self.test.max())), nodes)

    def scores(self, predicted: Tensor) -> dict[str, float]:
        """Accuracy; and what it lacks to the Bayes rule's, in expectation over the labels."""
        found = {"accuracy": agreement(predicted, self.test_y)}
        if self.test_eta is not None:
            margin = 2 * self.test_eta - 1
            wrong = predicted != classifiers.sign(margin)
            found["regret"] = float((margin.abs() * wrong).mean())
        return found


def agreement(predicted: Tensor, other: Tensor) -> float:
    """The share of test inputs on which two classifiers agree."""
    return float((predicted == other).double().mean())


class Rule:
    """One of the classical rules, over the number of training inputs.

    Args:
        rule: ``bayes`` knows P(y | x); the others are in :mod:`.classifiers`.
        sizes: numbers of training inputs (the first of them); all of them by default.
    """

    def __init__(self, rule: RuleName, sizes: Sequence[int] | None = None) -> None:
        self.rule = rule
        self.sizes = sizes

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return set(_SCORES)

    def run(self, trial: Trial) -> Outcome:
        sample = Sample.of(trial.data)
        sizes = sorted(self.sizes or [len(sample.y)])
        return over_sizes(
            sizes, [part.scores(self._predict(part)) for part in map(sample.first, sizes)]
        )

    def _predict(self, sample: Sample) -> Tensor:
        if self.rule == "nearest":
            return classifiers.nearest(sample.test, sample.y)
        if self.rule == "majority":
            return classifiers.majority(sample.y, len(sample.test_y))
        if self.rule == "hilbert":
            return classifiers.hilbert(sample.test, sample.y, sample.dimension)
        if sample.test_eta is None:
            raise ValueError("the Bayes rule is known for generated data only")
        return classifiers.sign(sample.test_eta - 0.5)


class DeepKernel:
    """The classifier that an infinitely wide network of some depth learns, and what it agrees with.

    Args:
        activation: see :func:`.activations.named`.
        kind: ``nngp`` (only the readout is trained) or ``ntk`` (all layers are).
        depth: hidden layers; by default as many as tell the closest training inputs apart.
        sizes: numbers of training inputs (the first of them); all of them by default.
        nodes: of the kernel's table, see :class:`.kernels.Grid`.
    """

    def __init__(
        self,
        activation: str,
        kind: Kind = "nngp",
        depth: int | None = None,
        sizes: Sequence[int] | None = None,
        nodes: int = 32_768,
    ) -> None:
        self.nodes = nodes
        self.activation = activation
        self.kind: Kind = kind
        self.depth = depth
        self.sizes = sizes

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        rules = {"nearest", "majority", "hilbert"}
        if is_singular(named(init_args["activation"], 2)):
            rules.add("singular")
        named_rules = {f"agreement_{rule}{end}" for rule in rules for end in ("", "_over_n")}
        return _SCORES | named_rules | {"depth", "depth_over_n", "closest", "closest_over_n"}

    def run(self, trial: Trial) -> Outcome:
        sample = Sample.of(trial.data)
        dual = named(self.activation, sample.dimension)
        grid = sample.grid(self.nodes)
        singular = Tabulated.singular(dual, grid) if is_singular(dual) else None
        made: dict[int, Tabulated] = {}
        sizes, found = sorted(self.sizes or [len(sample.y)]), []
        for part in map(sample.first, sizes):
            depth = self.depth or kernels.resolving_depth(dual, classifiers.closest(part.train))
            if depth not in made:
                made[depth] = Tabulated.deep(dual, grid, depth, self.kind)
            found.append(self._measure(part, made[depth], singular) | {"depth": float(depth)})
        return over_sizes(sizes, found)

    def _measure(
        self, sample: Sample, kernel: Tabulated, singular: Tabulated | None
    ) -> dict[str, float]:
        train = kernel(sample.train)
        predicted = classifiers.kernel_machine(train, kernel(sample.test), sample.y)
        rules = {
            "nearest": classifiers.nearest(sample.test, sample.y),
            "majority": classifiers.majority(sample.y, len(predicted)),
            "hilbert": classifiers.hilbert(sample.test, sample.y, sample.dimension),
        }
        if singular:
            rules["singular"] = classifiers.nadaraya_watson(singular(sample.test), sample.y)
        others = train.fill_diagonal_(-torch.inf)
        return (
            sample.scores(predicted)
            | {f"agreement_{name}": agreement(predicted, rule) for name, rule in rules.items()}
            | {"closest": float(torch.exp(others.max()))}
        )


class Regression:
    """The same kernels on a target without noise, E[y | x], instead of labels.

    Args:
        activation: see :func:`.activations.named`.
        depth: hidden layers; by default as many as tell the closest training inputs apart.
        size: training inputs.
    """

    def __init__(self, activation: str, depth: int | None = None, size: int = 1000) -> None:
        self.activation = activation
        self.depth = depth
        self.size = size

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"regression_error"}

    def run(self, trial: Trial) -> Outcome:
        sample = Sample.of(trial.data).first(self.size)
        if sample.eta is None or sample.test_eta is None:
            raise ValueError("the target E[y | x] is known for generated data only")
        dual, grid = named(self.activation, sample.dimension), sample.grid()
        depth = self.depth or kernels.resolving_depth(dual, classifiers.closest(sample.train))
        kernel = Tabulated.deep(dual, grid, depth, "nngp")
        target, expected = 2 * sample.eta - 1, 2 * sample.test_eta - 1
        weights = classifiers.coefficients(kernel(sample.train), target)
        predicted = weights @ torch.exp(kernel(sample.test))
        error = (predicted - expected).square().mean() / expected.square().mean()
        return Outcome({"regression_error": float(error)})


def over_sizes(sizes: Sequence[int], found: Sequence[Mapping[str, float]]) -> Outcome:
    """Scalars at the largest number of training inputs, and everything over that number."""
    metrics: dict[str, float | Measured] = dict(found[-1])
    x = [float(n) for n in sizes]
    series = {
        f"{name}_over_n": Series(over="training inputs", x=x, y=[at[name] for at in found])
        for name in found[-1]
    }
    return Outcome(metrics, series)
