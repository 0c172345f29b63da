"""Where the hierarchical state ends and where retrieval begins: closed forms and Monte Carlo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.multitasking_hopfield.network import HebbianNetwork
from experiments.multitasking_hopfield.patterns import Kind, hierarchical_start, random_start
from experiments.multitasking_hopfield.storing import Ensemble
from experiments.multitasking_hopfield.theory import critical_dilution, stability_threshold
from harness.procedures.base import Outcome, Progress, Trial, exact
from harness.records import Measured, Series


class Stability:
    """The largest d at which all 3^K kinds of neurons are aligned; the root of 1 - 2d + d^K.

    Args:
        patterns: every K, at least 3.
    """

    def __init__(self, patterns: Sequence[int]) -> None:
        self.numbers = list(patterns)

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"threshold_error", "threshold"}

    def run(self, trial: Trial) -> Outcome:
        found = [stability_threshold(number) for number in self.numbers]
        errors = [abs(f - critical_dilution(k)) for k, f in zip(self.numbers, found, strict=True)]
        series = Series(over="K", x=[float(k) for k in self.numbers], y=found)
        return Outcome({"threshold_error": exact(max(errors))}, {"threshold": series})


class Thresholds:
    """Up to which dilution the hierarchical state is stable at T = 0, in drawn patterns.

    For each K, the share of networks in which no neuron is misaligned falls from 1 to 0 over d;
    the threshold is where a step of the same area would be.

    Args:
        patterns: every K.
        lowest, step, points: the dilutions.
        kind, draws, neurons: see :class:`Ensemble`.
    """

    def __init__(
        self,
        patterns: Sequence[int],
        lowest: float = 0.44,
        step: float = 0.01,
        points: int = 25,
        kind: Kind = "diluted",
        draws: int = 20,
        neurons: int = 20_000,
    ) -> None:
        self.numbers = list(patterns)
        self.dilutions = [round(lowest + step * point, 6) for point in range(points)]
        self.step = step
        self.size = (kind, draws, neurons)

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"threshold_error", "threshold"}

    def run(self, trial: Trial) -> Outcome:
        found = []
        for step, number in enumerate(self.numbers):
            stable = [self._stable(trial, number, dilution) for dilution in self.dilutions]
            found.append(self.dilutions[0] - self.step / 2 + self.step * sum(stable))
            trial.report(Progress(step + 1, len(self.numbers)))
        errors = [f - critical_dilution(k) for k, f in zip(self.numbers, found, strict=True)]
        metrics = {"threshold_error": Measured(value=max(abs(error) for error in errors))}
        numbers = [float(number) for number in self.numbers]
        return Outcome(metrics, {"threshold": Series(over="K", x=numbers, y=found)})

    def _stable(self, trial: Trial, number: int, dilution: float) -> float:
        """Share of networks in which every neuron is aligned with its field."""
        kind, draws, neurons = self.size
        ensemble = Ensemble(number, kind, draws, neurons, 0)
        generator = ensemble.generator(trial, "threshold", number, dilution)
        drawn = ensemble.drawn(dilution, generator)
        start = hierarchical_start(drawn, generator)
        aligned = HebbianNetwork(drawn).alignment(start) >= 0
        # A neuron that is blank everywhere has no field, and no part in the state.
        return float((aligned | (drawn == 0).all(1)).all(1).double().mean())


class Onset:
    """Where retrieval sets in, from fluctuations above it: ``N <m²> = (1 - d) T/(T - T_c)``.

    Args:
        patterns: K.
        dilutions: d.
        noises: T in units of 1 - d, above 1.
        kind, draws, neurons, updates: see :class:`Ensemble`; the first quarter is discarded.
    """

    def __init__(
        self,
        patterns: int,
        dilutions: Sequence[float],
        noises: Sequence[float],
        kind: Kind = "diluted",
        draws: int = 40,
        neurons: int = 5_000,
        updates: int = 200,
    ) -> None:
        self.ensemble = Ensemble(patterns, kind, draws, neurons, updates)
        self.dilutions = list(dilutions)
        self.noises = list(noises)

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"onset_over_law", "onset"}

    def run(self, trial: Trial) -> Outcome:
        found = []
        for step, dilution in enumerate(self.dilutions):
            onsets = [self._onset(trial, dilution, n * (1 - dilution)) for n in self.noises]
            found.append(sum(onsets) / len(onsets))
            trial.report(Progress(step + 1, len(self.dilutions)))
        ratios = [f / (1 - d) for f, d in zip(found, self.dilutions, strict=True)]
        metrics = {"onset_over_law": Measured(value=sum(ratios) / len(ratios))}
        return Outcome(metrics, {"onset": Series(over="d", x=self.dilutions, y=found)})

    def _onset(self, trial: Trial, dilution: float, noise: float) -> float:
        ensemble = self.ensemble
        generator = ensemble.generator(trial, "onset", dilution, noise)
        drawn = ensemble.drawn(dilution, generator)
        start = random_start(drawn, generator)
        schedule = [noise] * ensemble.updates
        path = HebbianNetwork(drawn).sample(start, schedule, drawn, generator)
        settled = path[ensemble.updates // 4 :].double()
        occupied = float((drawn != 0).double().mean())
        return noise * (1 - occupied / (ensemble.neurons * float(settled.square().mean())))
