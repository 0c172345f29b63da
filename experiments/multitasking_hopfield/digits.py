"""Several handwritten digits at once: parallel learning of patterns that are not random."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from experiments.multitasking_hopfield.network import HebbianNetwork, cooling, overlaps
from experiments.multitasking_hopfield.patterns import disjoint, random_start
from experiments.multitasking_hopfield.storing import over_draws
from harness.loading.splits import Split
from harness.procedures.base import Outcome, Trial
from harness.seeding import derive


class Digits:
    """Each pattern is one digit on its own random part of the pixels, blank elsewhere.

    The network learns from M images of each digit and is cooled from random states. What it shows
    is compared, digit by digit on that digit's pixels, with the digit's archetype: the majority of
    images that were not learned from. ``common_agreement`` is that of one image for all digits, the
    majority of everything: what is left where labels say nothing.

    Args:
        protocol: ``supervised`` or ``unsupervised``.
        patterns: K digits, each on 1/K of the pixels.
        examples: M, images of each digit.
        noise: T in units of 1/K.
        draws: networks, each with digits, pixels and images of its own.
        updates: of all neurons, three quarters while cooling; the last quarter is averaged.
    """

    def __init__(
        self,
        protocol: Literal["supervised", "unsupervised"],
        patterns: int = 3,
        examples: int = 60,
        noise: float = 0.1,
        draws: int = 40,
        updates: int = 100,
    ) -> None:
        self.protocol = protocol
        self.number = patterns
        self.examples = examples
        self.noise = noise / patterns
        self.draws = draws
        self.updates = updates

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"agreement", "evenness", "common_agreement"}

    def run(self, trial: Trial) -> Outcome:
        generator = torch.Generator().manual_seed(derive(trial.seed, "digits"))
        copies, archetypes = self._drawn(trial, generator)
        average = copies.mean(2)
        occupied = copies[:, :, 0].abs()
        square = float(average.square().sum() / occupied.sum())
        if self.protocol == "supervised":
            network = HebbianNetwork(average, 1 / square)
        else:
            network = HebbianNetwork(copies.flatten(1, 2), 1 / (square * self.examples))
        schedule = cooling(2 / self.number, self.noise, self.updates)
        start = random_start(archetypes, generator)
        path = network.sample(start, schedule, archetypes, generator)
        m = path[-(self.updates // 4) :].mean(0).abs()
        area = overlaps(archetypes.abs(), torch.ones_like(start))
        shown = m / area
        common = everything(trial.data.train).mean(0).sign().expand_as(start)
        common_shown = overlaps(archetypes, common) / area
        evenness = shown.min(1).values / shown.max(1).values
        return Outcome(
            {
                "agreement": over_draws(((1 + shown) / 2).mean(1)),
                "common_agreement": over_draws(((1 + common_shown) / 2).mean(1)),
                "evenness": over_draws(evenness),
            }
        )

    def _drawn(self, trial: Trial, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Examples (draws, K, M, 256) and archetypes (draws, K, 256), blank off their pixels."""
        train, test = trial.data.train, trial.data.test
        pixels = disjoint((self.draws, self.number, trial.data.dims["pixels"]), generator).abs()
        majority = torch.stack([digit(test, k).mean(0).sign() for k in range(10)])
        copies, chosen = [], []
        for _ in range(self.draws):
            classes = torch.randperm(10, generator=generator)[: self.number]
            images = []
            for k in classes.tolist():
                own = digit(train, k)
                if len(own) < self.examples:
                    raise ValueError(f"only {len(own)} images of {k} to learn from")
                order = torch.randperm(len(own), generator=generator)
                images.append(own[order[: self.examples]])
            copies.append(torch.stack(images))
            chosen.append(classes)
        return torch.stack(copies) * pixels[:, :, None], majority[torch.stack(chosen)] * pixels


def digit(split: Split, label: int) -> Tensor:
    """All images of a digit, (n, 256)."""
    return everything(split)[split[torch.arange(len(split))]["y"] == label]


def everything(split: Split) -> Tensor:
    """All images, (n, 256)."""
    return split[torch.arange(len(split))]["x"]
