"""The weights alone: representations that are drawn, not learned, and what a weight step costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from experiments.l2r_gnn.decorrelation import (
    across,
    correlations,
    covariances,
    dissimilarity,
    effective_share,
    fourier,
    stable_clusters,
    standardised,
    weighted_covariances,
)
from experiments.l2r_gnn.weights import Covariance, GraphWeights
from harness.procedures.base import Outcome, Trial, exact
from harness.records import Measured, Series
from harness.seeding import derive

Grouping = Literal["stable", "all", "random"]
Measure = Callable[[Tensor, Tensor, Tensor], Tensor]
SIDE = 5  # coordinates of S, and of V


def biased(generator: torch.Generator, shares: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Environments in which V goes with S, and with what a linear model of S misses.

    S has five coordinates that share a factor c; V has five that share another one, which is
    correlated by ``shares[m]`` with (c + S_1² - 1) in environment m. Within S and within V
    correlations are 1/2 everywhere. ``y = Σ S + 2 (S_1² - 1) + noise`` has nothing to do with V.

    Returns:
        S and V as Z (m, rows, 10), targets (m, rows), and whether a coordinate is of V (10,).
    """
    count = len(shares)

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, rows, *shape, generator=generator)

    common = normal()
    s = (common[..., None] + normal(SIDE)) / 2**0.5
    curved = s[..., 0].square() - 1
    shared = (common + curved / 2**0.5) / 2**0.5
    factor = shares[:, None] * shared + (1 - shares.square()).sqrt()[:, None] * normal()
    v = (factor[..., None] + normal(SIDE)) / 2**0.5
    y = s.sum(2) + 2 * curved + 0.3 * normal()
    return torch.cat([s, v], 2), y, torch.arange(2 * SIDE) >= SIDE


class Decorrelated:
    """Weights for 2,000 drawn representations, and what comes of them.

    Reported: ``ess``; ``weight_spread``; ``objective_left``, ‖Σ̂‖² between S and V by fresh
    functions after weighting, as a share of that before; ``dependence_left``, the same of
    covariances under the weights, which are those of the reweighted sample; ``shift_error``, the
    squared error of weighted least squares where the correlation has turned round;
    ``cluster_purity``, the share of coordinates that are with the larger part of their own kind.

    Args:
        grouping: which pairs are decorrelated: across ``stable`` clusters, ``all``, or across
            ``random`` clusters as large as the stable ones.
        functions: n_f; 0 for linear decorrelation.
        covariance: of the objective, as for GraphWeights.
        shuffled: weights are given to other rows (control).
        equal: all weights are 1 (null model).
        environments, rows: of the training sample.
        bias: largest share, the least is -0.3; in the test it is minus the largest.
        rounds: weight steps, each with functions of its own.
        steps, rate: of Adam on log-weights, in a round.
        penalty: on mean (w - 1)².
    """

    def __init__(
        self,
        grouping: Grouping = "stable",
        functions: int = 5,
        covariance: Covariance = "equation",
        shuffled: bool = False,
        equal: bool = False,
        environments: int = 10,
        rows: int = 200,
        bias: float = 0.9,
        rounds: int = 60,
        steps: int = 5,
        rate: float = 0.02,
        penalty: float = 0.0,
    ) -> None:
        self.rounds = rounds
        self.grouping, self.functions, self.covariance = grouping, functions, covariance
        self.shuffled, self.equal = shuffled, equal
        self.environments, self.rows, self.bias = environments, rows, bias
        self.steps, self.rate, self.penalty = steps, rate, penalty

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {
            "ess",
            "weight_spread",
            "objective_left",
            "dependence_left",
            "shift_error",
            "cluster_purity",
        }

    def run(self, trial: Trial) -> Outcome:
        g = torch.Generator().manual_seed(derive(trial.seed, "vectors"))
        z, y, kind = biased(g, torch.linspace(-0.3, self.bias, self.environments), self.rows)
        clusters = self._clusters(z, g)
        flat, target = z.flatten(0, 1), y.flatten()
        weights = self._weights(flat, clusters, g)
        if self.shuffled:
            weights = weights[torch.randperm(len(weights), generator=g)]
        return Outcome(
            {
                "ess": float(effective_share(weights)),
                "weight_spread": float(weights.std(correction=0)),
                "objective_left": self._left(covariances, flat, weights, kind, g),
                "dependence_left": self._left(weighted_covariances, flat, weights, kind, g),
                "shift_error": self._shift_error(flat, target, weights, g),
                "cluster_purity": _purity(clusters, kind),
            }
        )

    def _clusters(self, z: Tensor, g: torch.Generator) -> Tensor:
        if self.grouping == "all":
            return torch.arange(z.shape[2])
        each = torch.stack([correlations(part) for part in z])
        found = stable_clusters(dissimilarity(each.mean(0), each.square().mean(0)), 2)
        if self.grouping == "random":
            return found[torch.randperm(len(found), generator=g)]
        return found

    def _weights(self, z: Tensor, clusters: Tensor, g: torch.Generator) -> Tensor:
        if self.equal:
            return torch.ones(len(z))
        learner = GraphWeights(
            len(z),
            z.shape[1],
            len(z),
            clusters=0,
            functions=self.functions,
            covariance=self.covariance,
            momenta=(),
            bilevel=0.0,
            penalty=self.penalty,
            steps=self.steps,
            rate=self.rate,
            begin=0,
        )
        learner.clusters.copy_(clusters)
        for _ in range(self.rounds):  # every round draws other functions
            weights: Tensor = learner(z, torch.arange(len(z)), 0, g)
        return weights

    def _left(
        self, measure: Measure, z: Tensor, weights: Tensor, kind: Tensor, g: torch.Generator
    ) -> float:
        rows, pairs = standardised(z), across(kind.long())
        u, v = fourier(rows, 20, g), fourier(rows, 20, g)
        equal = torch.ones(len(z))
        after, before = ((pairs * measure(u, v, w)).sum() for w in (weights, equal))
        return float(after / before)

    def _shift_error(self, z: Tensor, y: Tensor, weights: Tensor, g: torch.Generator) -> float:
        def design(x: Tensor) -> Tensor:
            return torch.cat([x, torch.ones(len(x), 1)], 1)

        root = weights.sqrt()[:, None]
        slopes = torch.linalg.lstsq(root * design(z), root * y[:, None]).solution[:, 0]
        other, target, _ = biased(g, torch.tensor([-self.bias]), 2000)
        return float((design(other[0]) @ slopes - target[0]).square().mean())


def _purity(clusters: Tensor, kind: Tensor) -> float:
    table = torch.zeros(int(clusters.max()) + 1, 2)
    table.index_put_((clusters, kind.long()), torch.ones(len(kind)), accumulate=True)
    return float(table.max(1).values.sum() / len(kind))


class Cost:
    """What a weight step costs, with a momentum memory and over all N training graphs.

    Reported: operations as exponents of N (``memory_exponent``, ``whole_exponent``; exact),
    seconds likewise (``memory_time_exponent``, ``whole_time_exponent``, of steps in turns), and
    the series ``memory_flops``, ``whole_flops``, ``memory_ms`` and ``whole_ms`` over N.

    Args:
        sizes: values of N.
        width: d.
        batch: B.
        groups: k.
        repeats: of which the median time counts.
    """

    def __init__(
        self,
        sizes: Sequence[int] = (1000, 2000, 4000, 8000),
        width: int = 32,
        batch: int = 100,
        groups: int = 1,
        repeats: int = 5,
    ) -> None:
        self.sizes, self.width, self.batch = list(sizes), width, batch
        self.groups, self.repeats = groups, repeats

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        kinds = ("memory", "whole")
        of = ("exponent", "time_exponent", "flops", "ms")
        return {f"{kind}_{name}" for kind in kinds for name in of}

    def run(self, trial: Trial) -> Outcome:
        found: dict[str, list[float]] = {}
        for size in self.sizes:
            z = torch.randn(size, self.width)
            learners = {"memory": self._learner(size, self.batch), "whole": self._learner(size)}
            rows = {"memory": self.batch, "whole": size}
            for _ in range(self.groups):  # fills the memory
                learners["memory"](z[: self.batch], torch.arange(self.batch), 0)
            seconds: dict[str, list[float]] = {name: [] for name in learners}
            for _ in range(self.repeats):
                for name, learner in learners.items():
                    began = time.perf_counter()
                    learner(z[: rows[name]], torch.arange(rows[name]), 0)
                    seconds[name].append(time.perf_counter() - began)
            for name, learner in learners.items():
                with FlopCounterMode(display=False) as counter:
                    learner(z[: rows[name]], torch.arange(rows[name]), 0)
                found.setdefault(f"{name}_flops", []).append(counter.get_total_flops())
                found.setdefault(f"{name}_ms", []).append(1e3 * float(np.median(seconds[name])))
        series = {
            k: Series(over="N", x=[float(n) for n in self.sizes], y=v) for k, v in found.items()
        }
        metrics: dict[str, float | Measured] = {}
        for name in ("memory", "whole"):
            metrics[f"{name}_exponent"] = exact(self._exponent(found[f"{name}_flops"]))
            metrics[f"{name}_time_exponent"] = self._exponent(found[f"{name}_ms"])
        return Outcome(metrics, series)

    def _learner(self, size: int, batch: int | None = None) -> GraphWeights:
        momenta = (0.9,) * self.groups if batch else ()
        settings = {"clusters": 0, "momenta": momenta, "bilevel": 0.0, "begin": 0}
        return GraphWeights(size, self.width, batch or size, **settings)  # type: ignore[arg-type]

    def _exponent(self, values: Sequence[float]) -> float:
        return float(np.polyfit(np.log(self.sizes), np.log(values), 1)[0])
