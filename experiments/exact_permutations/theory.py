"""What needs no training: the limit's own figures, and the authors' logs against the limit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.exact_permutations import limit
from experiments.exact_permutations.data import Curve, OfficialLogs
from experiments.exact_permutations.limit import Parametrization, Threshold
from experiments.exact_permutations.task import inputs_with_several_ones
from harness.procedures.base import Outcome, Trial, exact
from harness.records import Measured, Series

# Read off the curve "theoretical bound" of Figure 1 (left), to about 1 %.
FIGURE_BOUND = {
    2: 6657, 3: 5964, 4: 5708, 5: 5708, 6: 5799, 8: 6097,
    10: 6513, 15: 7938, 20: 9421, 25: 10920, 30: 12538,
}  # fmt: skip
FIGURE_TESTS = 1000
DELTA = 0.1
LIMITS: dict[str, Parametrization] = {"ntk": "ntk", "random_features": "standard"}
AGAINST_LIMITS = frozenset({"bound_over_size", *(f"size_over_{name}" for name in LIMITS)})


class Limit:
    """Theory: signs of the mean, and the ensemble sizes that follow from mean and variance.

    Args:
        parametrization: which limit.
        threshold: where the ensemble mean is rounded; ``zero`` in the paper.
        missing: basis vectors left out of the training set (0 in the paper). The closed forms
            need all of them: if any is missing only the signs are reported.
        exhaustive: the sign of the mean is checked on every input of lengths 3 to this.
        lengths: for the expected ensemble sizes on inputs with two ones.
        asymptotic: lengths over which the growth of the bounds is fitted. The smallest mean falls
            as 1 / (k + 5.3): from 512 on that is 1/k to one per cent.
        all_inputs: ask the bound for one input of all 2^k at once (a null model of its growth).
    """

    def __init__(
        self,
        parametrization: Parametrization = "ntk",
        threshold: Threshold = "zero",
        missing: int = 0,
        exhaustive: int = 12,
        lengths: Sequence[int] = (5, 10, 15, 20, 25, 30),
        asymptotic: Sequence[int] = (512, 1024, 2048, 4096, 8192, 16384, 32768),
        all_inputs: bool = False,
    ) -> None:
        self.parametrization: Parametrization = parametrization
        self.threshold: Threshold = threshold
        self.missing = missing
        self.exhaustive = exhaustive
        self.lengths = list(lengths)
        self.asymptotic = list(asymptotic)
        self.all_inputs = all_inputs

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        if init_args.get("missing", 0):
            return {"sign_agreement"}
        lengths = init_args.get("lengths", (5, 10, 15, 20, 25, 30))
        return {f"ensemble_size_k{k}" for k in lengths} | {
            "sign_agreement",
            "bound_deviation",
            "ensemble_size",
            "ensemble_size_per_klogk",
            "bound_one_per_klogk",
            "bound_all",
        }

    def run(self, trial: Trial) -> Outcome:
        signs = {"sign_agreement": exact(self._sign_agreement())}
        if self.missing:
            return Outcome(signs)
        sizes = {
            k: limit.required_size(k, 1 - DELTA, self.parametrization, threshold=self.threshold)
            for k in self.lengths
        }
        every = {k: self._bound(k, k * math.log(2)) for k in self.asymptotic}
        single = every if self.all_inputs else {k: self._bound(k, 0.0) for k in self.asymptotic}
        one = {k: size / (k * math.log(k)) for k, size in single.items()}
        metrics = signs | {f"ensemble_size_k{k}": exact(size) for k, size in sizes.items()}
        metrics["bound_deviation"] = exact(self._bound_deviation())
        series = size_series("ensemble_size", sizes)
        return Outcome(
            metrics, series | {"bound_one_per_klogk": over_k(one), "bound_all": over_k(every)}
        )

    def _sign_agreement(self) -> float:
        """Share of inputs whose mean is positive exactly where ``P x`` is 1.

        Over all binary inputs with at least two ones (one with a single one is a training
        vector), all lengths weighted alike. The permutation is the identity: relabelling outputs
        does not change which signs are right.
        """
        shares = []
        for k in range(3, self.exhaustive + 1):
            x = inputs_with_several_ones(k)
            kept = np.eye(k)[: k - self.missing]
            unit = x / np.linalg.norm(x, axis=1, keepdims=True)
            mean = limit.regression_mean(kept, kept, unit, self.parametrization)
            shares.append(np.mean(np.all((mean > 0) == (x > 0), axis=1)))
        return float(np.mean(shares))

    def _bound(self, k: int, log_tests: float) -> float:
        worst = limit.worst_case(k, self.parametrization, self.threshold)
        return float(limit.bound(k, log_tests, DELTA, worst, self.threshold))

    def _bound_deviation(self) -> float:
        """Largest relative distance to the readings of Figure 1 (1,000 inputs with two ones)."""
        k = np.array(list(FIGURE_BOUND))
        at = limit.moments(k, 2, self.parametrization)
        formula = limit.bound(k, math.log(FIGURE_TESTS), DELTA, at, self.threshold)
        return float(np.max(np.abs(formula / np.array(list(FIGURE_BOUND.values())) - 1)))


class OfficialRuns:
    """The authors' logged curves, set against both limits (no training).

    Args:
        probe: the ensemble size at which lengths are compared.
        shortest: lengths below this are left out of fits and ratios: they have few distinct
            inputs with two ones, and at 2 and 3 the released learning rate is above 2 over the
            largest curvature of ordinary layers 50,000 wide, where descent is unstable.
    """

    def __init__(self, probe: int = 40, shortest: int = 5) -> None:
        self.probe = probe
        self.shortest = shortest

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {
            *AGAINST_LIMITS,
            "ensemble_size",
            "ensemble_size_per_klogk",
            "error_over_ntk",
            "error_over_random_features",
            "accuracy_at_probe",
        }

    def run(self, trial: Trial) -> Outcome:
        logs: OfficialLogs = trial.data
        kept = {k: curve for k, curve in logs.to_90.items() if k >= self.shortest}
        long = {k: curve for k, curve in logs.to_999.items() if curve.size >= self.probe}
        sizes = {k: float(curve.size) for k, curve in kept.items()}
        metrics = against_limits(sizes)
        for name, parametrization in LIMITS.items():
            ratios = [c.error[-1] / expected_error(k, c, parametrization) for k, c in kept.items()]
            metrics[f"error_over_{name}"] = geometric_mean(ratios)
        # The logs are given: what has no sampling error across lengths has none at all.
        metrics = {n: v if v.stderr else exact(v.value) for n, v in metrics.items()}
        at_probe = {k: curve.accuracy[self.probe - 1] for k, curve in long.items()}
        series = {"accuracy_at_probe": over_k(at_probe)}
        return Outcome(metrics, series | size_series("ensemble_size", sizes))


def against_limits(sizes: Mapping[int, float]) -> dict[str, Measured]:
    """Measured ensemble sizes over those that the two limits and the plotted bound give."""
    k, measured = np.array(list(sizes)), np.array(list(sizes.values()))
    metrics = {}
    for name, parametrization in LIMITS.items():
        expected = [limit.required_size(int(length), 1 - DELTA, parametrization) for length in k]
        metrics[f"size_over_{name}"] = geometric_mean(measured / expected)
    bounds = limit.bound(k, math.log(FIGURE_TESTS), DELTA, limit.moments(k, 2))
    return metrics | {"bound_over_size": Measured(value=float(np.min(bounds / measured)))}


def expected_error(k: int, curve: Curve, parametrization: Parametrization) -> float:
    """Mean squared error against ``P x / |x|`` that the limit expects of a whole ensemble."""
    at = limit.moments(k, 2, parametrization)
    bias = 2 * (at.on - 1 / math.sqrt(2)) ** 2 + (k - 2) * at.off**2
    return float(bias / k + at.variance / curve.size)


def geometric_mean(ratios: Iterable[float]) -> Measured:
    """Geometric mean of independent ratios, with its standard error where there are several."""
    logs = np.log(np.array(list(ratios)))
    mean = float(np.exp(logs.mean()))
    if len(logs) < 2:
        return Measured(value=mean)
    return Measured(value=mean, stderr=mean * float(logs.std(ddof=1)) / math.sqrt(len(logs)))


def over_k(values: Mapping[int, float]) -> Series:
    return Series(over="k", x=[float(k) for k in values], y=[float(v) for v in values.values()])


def size_series(name: str, sizes: Mapping[int, float]) -> dict[str, Series]:
    """Sizes over k, and the same per ``k ln k``, which is bounded if they grow so."""
    per = {k: size / (k * math.log(k)) for k, size in sizes.items()}
    return {name: over_k(sizes), f"{name}_per_klogk": over_k(per)}
