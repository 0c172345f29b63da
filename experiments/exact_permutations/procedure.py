"""Ensembles trained for real: what their outputs, and the averages of them, come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.exact_permutations import limit
from experiments.exact_permutations.limit import Array, Parametrization
from experiments.exact_permutations.model import NetworkEnsemble, train
from experiments.exact_permutations.task import (
    Task,
    accuracy_curves,
    first_reached,
    output_moments,
    permutations,
    single_accuracy,
)
from experiments.exact_permutations.theory import (
    AGAINST_LIMITS,
    LIMITS,
    against_limits,
    over_k,
    size_series,
)
from harness.procedures.base import Outcome, Progress, Trial
from harness.records import Measured, Series
from harness.seeding import seed_all


class Ensembles:
    """Train many networks per input length and average their outputs one network at a time.

    Args:
        parametrization: what gradient descent acts on.
        lengths: input lengths k.
        members: networks trained at each length.
        width: hidden units.
        targets: ensemble sizes to report, by name, as the accuracy to be reached on the drawn
            inputs; ``all_inputs_size`` is on every unseen input, up to the length ``exhaustive``.
        bias: train biases (``standard`` only).
        shared_permutation: whether all networks learn the same permutation (a control does not).
        exhaustive: up to this length a task's inputs are all the unseen ones, beyond it those
            with two ones.
        tests: inputs with two ones that are drawn, with repeats, as in the released code.
        probe: the ensemble size at which lengths are compared.
        learning_rate: see :func:`experiments.exact_permutations.model.train`.
        max_steps: likewise.
        batch: networks trained side by side.
    """

    def __init__(
        self,
        parametrization: Parametrization,
        lengths: Sequence[int],
        members: Sequence[int],
        width: int,
        targets: dict[str, float] | None = None,
        bias: bool = False,
        shared_permutation: bool = True,
        exhaustive: int = 10,
        tests: int = 1000,
        probe: int = 40,
        learning_rate: float | None = None,
        max_steps: int = 1000,
        batch: int = 16,
    ) -> None:
        if len(lengths) != len(members) or not lengths:
            raise ValueError(f"{len(lengths)} lengths need as many members, got {list(members)}")
        if min(members) < probe:
            raise ValueError(f"members {list(members)} must not be fewer than the probe {probe}")
        self.members = dict(sorted(zip(lengths, members, strict=True)))
        self.parametrization: Parametrization = parametrization
        self.width = width
        self.targets = dict(targets or {})
        self.bias = bias
        self.shared_permutation = shared_permutation
        self.exhaustive = exhaustive
        self.tests = tests
        self.probe = probe
        self.learning_rate = learning_rate
        self.max_steps = max_steps
        self.batch = batch

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        lengths, targets = init_args.get("lengths", ()), list(init_args.get("targets") or {})
        top = init_args.get("exhaustive", 10)
        names = {f"{t}_k{k}" for t in targets for k in lengths if _measures(t, k, top)}
        names |= {f"{name}_k{k}" for name in _BY_LENGTH for k in lengths}
        names |= {"residual", "accuracy_at_probe", "accuracy_curve"}
        names |= {n for t in targets for n in (t, f"{t}_per_klogk")}
        return names | (AGAINST_LIMITS if "ensemble_size" in targets else set())

    def run(self, trial: Trial) -> Outcome:
        metrics: dict[str, float | Measured] = {}
        curves: dict[int, Array] = {}
        reached: dict[str, dict[int, float]] = {name: {} for name in self.targets}
        residuals, samples = [], 0
        for k in self.members:
            seed_all(trial.seed, "task", k)
            task = Task(k, k <= self.exhaustive, self.tests, trial.device)
            outputs, residual, seen = self._outputs(trial, task)
            residuals.append(residual)
            samples += seen
            drawn, everywhere = accuracy_curves(outputs, task)
            curves[k] = drawn
            metrics |= against_moments(outputs, task)
            metrics[f"accuracy_k{k}"] = float(everywhere[-1])
            metrics[f"single_accuracy_k{k}"] = single_accuracy(outputs, task)
            for name, accuracy in self.targets.items():
                if _measures(name, k, self.exhaustive):
                    curve = everywhere if name == "all_inputs_size" else drawn
                    reached[name][k] = first_reached(curve, accuracy)
                    metrics[f"{name}_k{k}"] = reached[name][k]
        metrics["residual"] = max(residuals)
        return replace(self._outcome(metrics, curves, reached), samples=samples)

    def _outputs(self, trial: Trial, task: Task) -> tuple[Tensor, float, int]:
        """Train one ensemble.

        Returns:
            Outputs of every network on the task's inputs, (R, A, k); the largest residual; and
            how many examples all networks were trained on.
        """
        members, kept = self.members[task.k], trial.checkpoints
        name = f"length-{task.k}-width-{self.width}"
        own = replace(trial, checkpoints=kept and kept.named(name))
        state = own.load() or {"outputs": [], "residual": 0.0, "samples": 0}
        before = sum(count for k, count in self.members.items() if k < task.k)
        total = sum(self.members.values())
        for start in range(len(state["outputs"]) * self.batch, members, self.batch):
            seed_all(trial.seed, "networks", task.k, self.width, start)
            count = min(self.batch, members - start)
            ensemble = NetworkEnsemble(
                count, task.k, self.width, self.parametrization, self.bias
            ).to(trial.device)
            targets = task.permutation
            if not self.shared_permutation:
                targets = permutations(count, task.k).to(trial.device)
            left, steps = train(ensemble, targets, self.learning_rate, self.max_steps)
            with torch.no_grad():
                outputs = ensemble(task.inputs)
            state = {
                "outputs": [*state["outputs"], outputs],
                "residual": max(state["residual"], left),
                "samples": state["samples"] + steps * count * task.k,
            }
            done = before + start + count
            trial.report(Progress(done, total, {"length": task.k, "residual": left}))
            own.save(start + count, state)
        parts = [part.to(trial.device) for part in state["outputs"]]
        return torch.cat(parts), state["residual"], state["samples"]

    def _outcome(
        self,
        metrics: dict[str, float | Measured],
        curves: dict[int, Array],
        reached: dict[str, dict[int, float]],
    ) -> Outcome:
        longest = max(curves)
        # As in the released runs, a curve ends where its last target was reached.
        ends = [int(sizes[longest]) for sizes in reached.values() if longest in sizes]
        series = {
            "accuracy_at_probe": over_k({k: c[self.probe - 1] for k, c in curves.items()}),
            "accuracy_curve": accuracy_series(curves[longest][: max(ends, default=None)]),
        }
        for name, sizes in reached.items():
            series |= size_series(name, sizes)
        if "ensemble_size" in reached:
            metrics |= against_limits(reached["ensemble_size"])
        return Outcome(metrics, series)


class Widths:
    """Distance of the mean output to the infinite-width limit, over widths.

    Args:
        length: input length k.
        widths: hidden units, one ensemble each.
        members: networks at each width.
        batch: networks trained side by side.
        parametrization: ``standard`` has another limit than the tangent kernel's (a null model).
    """

    def __init__(
        self,
        length: int,
        widths: Sequence[int],
        members: int = 1000,
        batch: int = 16,
        parametrization: Parametrization = "ntk",
    ) -> None:
        self.length = length
        self.widths = list(widths)
        self.members = members
        self.batch = batch
        self.parametrization: Parametrization = parametrization

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"distance_to_limit"}

    def run(self, trial: Trial) -> Outcome:
        found, samples = [], 0
        for width in self.widths:
            one = Ensembles(
                self.parametrization,
                [self.length],
                [self.members],
                width,
                exhaustive=0,
                batch=self.batch,
            )
            outcome = one.run(trial)
            gap = outcome.metrics[f"mean_on_minus_ntk_k{self.length}"]
            assert isinstance(gap, Measured)
            samples += outcome.samples or 0
            found.append(gap)
        distance = Series(
            over="width",
            x=[float(width) for width in self.widths],
            y=[abs(gap.value) for gap in found],
            stderr=[gap.stderr or 0.0 for gap in found],
        )
        return Outcome({}, {"distance_to_limit": distance}, samples)


_BY_LENGTH = {
    "accuracy",
    "single_accuracy",
    "mean_on",
    "mean_off",
    "variance",
    "excess_kurtosis",
    *(f"{m}_minus_{name}" for m in ("mean_on", "mean_off") for name in LIMITS),
    *(f"variance_over_{name}" for name in LIMITS),
}


def _measures(target: str, k: int, exhaustive: int) -> bool:
    return target != "all_inputs_size" or k <= exhaustive


def against_moments(outputs: Tensor, task: Task) -> dict[str, Measured]:
    """Moments of the outputs on inputs with two ones, and their distance to both limits."""
    found = output_moments(outputs, task)
    for name, parametrization in LIMITS.items():
        at = limit.moments(task.k, 2, parametrization)
        for mean, expected in (("mean_on", at.on), ("mean_off", at.off)):
            shifted = {"value": found[mean].value - float(expected)}
            found[f"{mean}_minus_{name}"] = found[mean].model_copy(update=shifted)
        ratio = found["variance"].value / float(at.variance)
        found[f"variance_over_{name}"] = Measured(value=ratio)
    return {f"{name}_k{task.k}": value for name, value in found.items()}


def accuracy_series(curve: Array, points: int = 200) -> Series:
    """The accuracy curve at up to ``points`` ensemble sizes, evenly spaced."""
    at = np.unique(np.linspace(0, len(curve) - 1, points).astype(int))
    return Series(over="ensemble size", x=(at + 1.0).tolist(), y=curve[at].tolist())
