"""Networks that never see their patterns, only noisy examples: with and without a teacher."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from experiments.multitasking_hopfield.network import HebbianNetwork
from experiments.multitasking_hopfield.patterns import (
    diluted,
    examples,
    hierarchical_start,
    relabelled,
)
from experiments.multitasking_hopfield.storing import over_draws
from experiments.multitasking_hopfield.theory import (
    Array,
    columns,
    data_set_entropy,
    hierarchical,
    learned,
    one_pattern,
    retrieved,
)
from harness.procedures.base import Outcome, Progress, Trial
from harness.records import Measured, Series
from harness.seeding import derive

Protocol = Literal["supervised", "unsupervised", "relabelled"]


def network(
    protocol: Protocol, copies: Tensor, quality: float, generator: torch.Generator
) -> HebbianNetwork:
    """What a protocol makes of the examples (draws, K, M, N).

    Raises:
        ValueError: for a protocol that is not known.
    """
    if protocol == "unsupervised":
        return HebbianNetwork.unsupervised(copies, quality)
    if protocol == "relabelled":
        return HebbianNetwork.supervised(relabelled(copies, generator), quality)
    if protocol != "supervised":
        raise ValueError(f"no protocol is called {protocol!r}")
    return HebbianNetwork.supervised(copies, quality)


class Setting:
    """Networks of one dilution and noise, which start from the hierarchical state.

    Args:
        protocol: how they learn.
        patterns: K.
        dilution: d.
        noise: T in units of T_c.
        draws: independent networks.
        neurons: N.
        updates: of all neurons; the second half is averaged.
    """

    def __init__(
        self,
        protocol: Protocol,
        patterns: int,
        dilution: float,
        noise: float,
        draws: int,
        neurons: int,
        updates: int,
    ) -> None:
        self.protocol = protocol
        self.shape = (draws, patterns, neurons)
        self.dilution = dilution
        self.noise = noise * (1 - dilution)
        self.updates = updates
        self.start = hierarchical(patterns, dilution)
        self.states = columns(patterns, dilution)

    def retrieved(self, trial: Trial, quality: float, count: int) -> Tensor:
        """m_k after learning from M examples of quality r, shape (draws, K).

        Patterns and examples are the same for every protocol.
        """
        seed = derive(trial.seed, "examples", quality, count)
        generator = torch.Generator(trial.device).manual_seed(seed)
        drawn = diluted(self.shape, self.dilution, generator)
        copies = examples(drawn, count, quality, generator)
        learner = network(self.protocol, copies, quality, generator)
        start = hierarchical_start(drawn, generator)
        path = learner.sample(start, [self.noise] * self.updates, drawn, generator)
        return path[self.updates // 2 :].mean(0).cpu().double()

    def predicted(self, entropy: float) -> Array:
        """m_k by self-consistency from the same start, pushed off its symmetry, shape (K,)."""
        start = self.start + 1e-3 * np.arange(len(self.start))[::-1]
        return learned(self.states, start, self.noise, entropy)

    def stored(self) -> float:
        """``sqrt(Σ m_k²)`` of a network that stores the patterns themselves."""
        return float(np.linalg.norm(retrieved(self.states, self.start, self.noise)))


class Learning:
    """Retrieval over the number of examples M, one quality r after the other.

    The *performance* is ``sqrt(Σ_k m_k²)`` relative to a network that stores the patterns; it is
    insensitive to which of the weaker patterns comes second. The *threshold* is the M at which it
    crosses ``level``, interpolated in ln M, in multiples of (1 - r²)/r².

    Args:
        protocol: ``supervised``, ``unsupervised``, or ``relabelled`` (random labels).
        qualities: every r.
        examples: for each of them the numbers of examples M, rising.
        patterns, dilution, noise, draws, neurons, updates: see :class:`Setting`.
        level: of the threshold, which the performance has to cross at every quality.
        enough: largest ρ at which performance and the distance to theory are taken.
    """

    def __init__(
        self,
        protocol: Protocol,
        qualities: Sequence[float],
        examples: Sequence[Sequence[int]],
        patterns: int = 3,
        dilution: float = 0.2,
        noise: float = 0.025,
        draws: int = 5,
        neurons: int = 5_000,
        updates: int = 60,
        level: float = 0.8,
        enough: float = 0.35,
    ) -> None:
        self.setting = Setting(protocol, patterns, dilution, noise, draws, neurons, updates)
        self.grid = dict(zip(qualities, examples, strict=True))
        self.level = level
        self.enough = enough

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"performance", "theory_error", "threshold", "performance_by_entropy"}

    def run(self, trial: Trial) -> Outcome:
        stored, done = self.setting.stored(), 0
        points = sum(len(counts) for counts in self.grid.values())
        found: dict[float, list[Tensor]] = {}
        for quality, counts in self.grid.items():
            found[quality] = []
            for count in counts:
                m = self.setting.retrieved(trial, quality, count)
                found[quality].append(m.norm(dim=-1) / stored)
                trial.report(Progress(done := done + 1, points))
        return self._outcome(found, stored)

    def _outcome(self, found: Mapping[float, list[Tensor]], stored: float) -> Outcome:
        rows = [
            (data_set_entropy(quality, count), performance)
            for quality, counts in self.grid.items()
            for count, performance in zip(counts, found[quality], strict=True)
        ]
        rows.sort(key=lambda row: -row[0])
        good = [(entropy, value) for entropy, value in rows if entropy <= self.enough]
        if not good:
            raise ValueError(f"no point of the grid has an entropy of {self.enough} or less")
        errors = [
            abs(float(value.mean()) - float(np.linalg.norm(self.setting.predicted(rho))) / stored)
            for rho, value in good
        ]
        metrics = {
            "performance": over_draws(torch.stack([value for _, value in good]).mean(0)),
            "theory_error": Measured(value=max(errors)),
            "threshold": Measured(value=self._threshold(found)),
        }
        x, y = [rho for rho, _ in rows], [float(value.mean()) for _, value in rows]
        return Outcome(metrics, {"performance_by_entropy": Series(over="ρ", x=x, y=y)})

    def _threshold(self, found: Mapping[float, list[Tensor]]) -> float:
        """Geometric mean of ``M r²/(1 - r²)`` at the crossing over the qualities."""
        logarithms = []
        for quality, counts in self.grid.items():
            information = [1 / data_set_entropy(quality, count) for count in counts]
            means = [float(value.mean()) for value in found[quality]]
            logarithms.append(math.log(crossing(information, means, self.level)))
        return math.exp(sum(logarithms) / len(logarithms))


def crossing(x: Sequence[float], y: Sequence[float], level: float) -> float:
    """First x at which y rises through ``level``, interpolated in ln x.

    Raises:
        ValueError: when no two neighbouring points lie on either side of it.
    """
    for (x0, y0), (x1, y1) in zip(
        zip(x[:-1], y[:-1], strict=True), zip(x[1:], y[1:], strict=True), strict=True
    ):
        if y0 < level <= y1:
            share = (level - y0) / (y1 - y0)
            return math.exp(math.log(x0) + share * math.log(x1 / x0))
    raise ValueError(f"{list(y)} does not rise through {level}")


class Collapse:
    """Whether few good and many poor examples do the same at equal ρ = (1 - r²)/(M r²).

    Args:
        protocol, patterns, dilution, noise, draws, neurons, updates: see :class:`Setting`.
        entropies: ρ.
        examples: every M; the quality is then ``(1 + ρ M)^(-1/2)``.
        exponent: of r in what is kept equal; 2 is the law, another a control in which
            ``(1 - r²)/(M r^exponent)`` has the value ρ.
    """

    def __init__(
        self,
        protocol: Protocol,
        entropies: Sequence[float],
        examples: Sequence[int],
        exponent: float = 2.0,
        patterns: int = 3,
        dilution: float = 0.2,
        noise: float = 0.025,
        draws: int = 5,
        neurons: int = 5_000,
        updates: int = 60,
    ) -> None:
        self.setting = Setting(protocol, patterns, dilution, noise, draws, neurons, updates)
        self.entropies = list(entropies)
        self.counts = list(examples)
        self.exponent = exponent

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"collapse_spread", "spread_by_entropy"}

    def run(self, trial: Trial) -> Outcome:
        spreads = []
        for step, entropy in enumerate(self.entropies):
            performances = []
            for count in self.counts:
                quality = quality_of(entropy, count, self.exponent)
                m = self.setting.retrieved(trial, quality, count)
                performances.append(float(m.norm(dim=-1).mean()) / self.setting.stored())
            spreads.append(float(np.std(performances, ddof=1)))
            trial.report(Progress(step + 1, len(self.entropies)))
        series = Series(over="ρ", x=self.entropies, y=spreads)
        metrics = {"collapse_spread": Measured(value=max(spreads))}
        return Outcome(metrics, {"spread_by_entropy": series})


def quality_of(entropy: float, count: int, exponent: float = 2.0) -> float:
    """r with ``(1 - r²)/(M r^exponent)`` equal to ``entropy``, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        enough = 1 - middle**2 <= entropy * count * middle**exponent
        low, high = (low, middle) if enough else (middle, high)
    return (low + high) / 2


class OnePattern:
    """A single pattern at T -> 0: Monte Carlo against signal to noise, ``(1 - d) erf(1/√(2ρ))``.

    Args:
        qualities: every r.
        examples: for each of them the numbers of examples M.
        protocol, dilution, noise, draws, neurons, updates: see :class:`Setting`.
    """

    def __init__(
        self,
        qualities: Sequence[float],
        examples: Sequence[Sequence[int]],
        protocol: Protocol = "supervised",
        dilution: float = 0.2,
        noise: float = 0.005,
        draws: int = 5,
        neurons: int = 20_000,
        updates: int = 40,
    ) -> None:
        self.setting = Setting(protocol, 1, dilution, noise, draws, neurons, updates)
        self.grid = dict(zip(qualities, examples, strict=True))

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"theory_error"}

    def run(self, trial: Trial) -> Outcome:
        errors = []
        for quality, counts in self.grid.items():
            for count in counts:
                m = float(self.setting.retrieved(trial, quality, count).mean())
                law = one_pattern(self.setting.dilution, data_set_entropy(quality, count))
                errors.append(abs(m - law))
        return Outcome({"theory_error": Measured(value=max(errors))})
