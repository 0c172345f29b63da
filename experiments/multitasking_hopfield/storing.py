"""Monte Carlo of networks that store patterns, against self-consistency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.multitasking_hopfield.network import HebbianNetwork, cooling
from experiments.multitasking_hopfield.patterns import Kind, patterns, random_start
from experiments.multitasking_hopfield.theory import ground_state
from harness.procedures.base import Outcome, Progress, Trial
from harness.records import Measured, Series
from harness.seeding import derive

_HOT = 1.2  # where annealing starts, in units of T_c


@dataclass(frozen=True)
class Ensemble:
    """How many networks are simulated, and how large and long.

    Attributes:
        number: K, patterns a network.
        kind: of patterns.
        draws: independent networks.
        neurons: N.
        updates: of all neurons, three quarters while cooling; the last quarter is averaged.
    """

    number: int
    kind: Kind
    draws: int
    neurons: int
    updates: int

    def onset(self, dilution: float) -> float:
        """T_c = 1 - d, with d as it is for this kind of patterns."""
        return {"diluted": 1 - dilution, "filled": 1.0, "disjoint": 1 / self.number}[self.kind]

    def generator(self, trial: Trial, *purpose: object) -> torch.Generator:
        """Random numbers of a trial for one point of a sweep."""
        return torch.Generator(trial.device).manual_seed(derive(trial.seed, *purpose))

    def drawn(self, dilution: float, generator: torch.Generator) -> Tensor:
        """Patterns, (draws, K, N)."""
        shape = (self.draws, self.number, self.neurons)
        return patterns(self.kind, shape, dilution, generator)

    def annealed(self, dilution: float, noise: float, generator: torch.Generator) -> Tensor:
        """|m_k|, falling, cooled to T = noise × T_c from random states, (draws, K)."""
        drawn, onset = self.drawn(dilution, generator), self.onset(dilution)
        schedule = cooling(_HOT * onset, noise * onset, self.updates)
        start = random_start(drawn, generator)
        path = HebbianNetwork(drawn).sample(start, schedule, drawn, generator)
        reached = path[-(self.updates // 4) :].mean(0).abs()
        return reached.sort(-1, descending=True).values


class Dilution:
    """What a network retrieves from random states at low noise, over the dilution d.

    Args:
        patterns: K.
        dilutions: d; the scalar ``evenness`` is that of the last.
        noise: T in units of T_c.
        kind: of patterns; ``filled`` and ``disjoint`` ones are controls.
        draws, neurons, updates: see :class:`Ensemble`.
    """

    def __init__(
        self,
        patterns: int,
        dilutions: Sequence[float],
        noise: float,
        kind: Kind = "diluted",
        draws: int = 5,
        neurons: int = 100_000,
        updates: int = 100,
    ) -> None:
        self.ensemble = Ensemble(patterns, kind, draws, neurons, updates)
        self.dilutions = list(dilutions)
        self.noise = noise

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        found = {"evenness", "second_over_first", "leading", "second", "amplitude_ratio"}
        return found | ({"theory_error"} if _has_theory(init_args) else set())

    def run(self, trial: Trial) -> Outcome:
        reached = []
        for step, dilution in enumerate(self.dilutions):
            generator = self.ensemble.generator(trial, "dilution", dilution)
            reached.append(self.ensemble.annealed(dilution, self.noise, generator))
            trial.report(Progress(step + 1, len(self.dilutions)))
        m = torch.stack(reached).cpu().double()
        mean = m.mean(1)
        metrics = {
            "evenness": over_draws(m[-1, :, -1] / m[-1, :, 0]),
            "second_over_first": over_draws((m[:, :, 1] / m[:, :, 0]).mean(0)),
        }
        if self.ensemble.kind == "diluted":
            metrics["theory_error"] = Measured(value=float((mean - self._theory()).abs().max()))
        third = min(2, m.shape[2] - 1)
        ratio = (mean[:, third] / mean[:, 0]) ** (1 / third)
        values = {"leading": mean[:, 0], "second": mean[:, 1], "amplitude_ratio": ratio}
        series = {n: Series(over="d", x=self.dilutions, y=v.tolist()) for n, v in values.items()}
        return Outcome(metrics, series)

    def _theory(self) -> Tensor:
        number = self.ensemble.number
        states = [ground_state(number, d, self.noise * (1 - d)) for d in self.dilutions]
        return torch.stack([torch.as_tensor(m) for m in states])


class Noise:
    """What a network retrieves from random states at one dilution, over the noise T.

    The *signal* is ``sqrt(Σ_k m_k²) = sqrt(-2 H/N)``; unlike single amplitudes it has no error of
    order N^(-1/4) where the weakest pattern drops out.

    Args:
        patterns: K.
        dilution: d.
        noises: T in units of T_c, rising.
        kind, draws, neurons, updates: see :class:`Ensemble`.
    """

    def __init__(
        self,
        patterns: int,
        dilution: float,
        noises: Sequence[float],
        kind: Kind = "diluted",
        draws: int = 5,
        neurons: int = 100_000,
        updates: int = 100,
    ) -> None:
        self.ensemble = Ensemble(patterns, kind, draws, neurons, updates)
        self.dilution = dilution
        self.noises = list(noises)

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        found = {"symmetry_gain", "signal", "evenness_by_noise"}
        return found | ({"theory_error"} if _has_theory(init_args) else set())

    def run(self, trial: Trial) -> Outcome:
        reached = []
        for step, noise in enumerate(self.noises):
            generator = self.ensemble.generator(trial, "noise", noise)
            reached.append(self.ensemble.annealed(self.dilution, noise, generator))
            trial.report(Progress(step + 1, len(self.noises)))
        m = torch.stack(reached).cpu().double()
        signal, evenness = m.norm(dim=-1).mean(1), m[:, :, -1] / m[:, :, 0]
        metrics = {"symmetry_gain": over_draws(evenness[-1] - evenness[0])}
        if self.ensemble.kind == "diluted":
            metrics["theory_error"] = Measured(value=float((signal - self._theory()).abs().max()))
        values = {"signal": signal, "evenness_by_noise": evenness.mean(1)}
        series = {n: Series(over="T/T_c", x=self.noises, y=v.tolist()) for n, v in values.items()}
        return Outcome(metrics, series)

    def _theory(self) -> Tensor:
        number, onset = self.ensemble.number, 1 - self.dilution
        states = [ground_state(number, self.dilution, noise * onset) for noise in self.noises]
        return torch.stack([torch.as_tensor(m).norm() for m in states])


def over_draws(values: Tensor) -> Measured:
    """Mean over draws with its standard error."""
    error = float(values.std() / len(values) ** 0.5) if len(values) > 1 else None
    return Measured(value=float(values.mean()), stderr=error)


def _has_theory(init_args: Mapping[str, Any]) -> bool:
    return bool(init_args.get("kind", "diluted") == "diluted")
