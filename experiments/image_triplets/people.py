"""What of people's choices the two levels explain, on triplets in which the levels part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from experiments.image_triplets.choice import (
    ceiling,
    choices,
    holm,
    image_weights,
    logistic,
    reweighted,
    standardised,
    two_sided,
)
from experiments.image_triplets.data import MODELS, Objects
from experiments.image_triplets.search import (
    Floats,
    Grid,
    Triplets,
    balanced,
    correlation,
    random_triplets,
    search,
    search_all,
)
from experiments.image_triplets.similarity import IMAGE_FEATURES, relabelled
from harness.procedures.base import Outcome, Trial, exact
from harness.records import Measured
from harness.seeding import derive

LOWS = (*IMAGE_FEATURES, *MODELS.values())
COUNTED = ("high", "significant", "any_significant")
Permuted = Literal["none", "lows", "people"]


@dataclass(frozen=True)
class Effects:
    """Regression coefficients of people, and how far these images decide them.

    Attributes:
        people: (P, 2), of the high and the low level.
        images: (2,), deviation of their mean over people when images are drawn again.
        ceiling: share of a person's choices that the others' majority foretells.
    """

    people: Floats
    images: Floats
    ceiling: float

    @property
    def mean(self) -> Floats:
        mean: Floats = self.people.mean(0)
        return mean

    def stderr(self, images: bool) -> Floats:
        """(2,) of the mean: over people, or over people and images."""
        people = self.people.std(0, ddof=1) / np.sqrt(len(self.people))
        found: Floats = np.hypot(people, self.images) if images else people
        return found


class People:
    """Choices of all people on searched triplets, for each low-level model in turn.

    On triplets that are searched for (IT, model) and balanced, each person's choices are
    regressed on the differences of both levels; the coefficients are averaged over ``searches``
    and then over people.

    Reported are, for each low-level model, ``low_<model>`` with its error over people, and
    ``low_<model>_images`` with that over people and images; ``high``, ``high_images``, the means
    of the coefficient of IT over the models; ``significant`` and ``significant_images``, in how
    many models the low level's coefficient is positive with p < 0.05 by Holm's procedure, and
    ``any_significant`` and ``any_significant_images``, 1 where that is one at least; the
    correlation of the two levels, mean over models, in ``natural_correlation`` random triplets,
    in what the ``released_correlation`` search, the ``retried_correlation`` one finds, and
    once that is balanced, ``balanced_correlation``; ``released_filled`` and ``retried_filled``,
    shares of cells with a triplet; ``ceiling``.

    With ``permuted`` images no stages are looked at; figures are means over ``permutations``, and
    their errors come from the spread over these.

    Args:
        searches: sets of triplets, of ``tables`` tables each.
        tables, bins, tolerance: of the search; the tolerance is in standard deviations.
        draws: of images, with replacement.
        natural: random triplets.
        permuted: nothing; ``lows``, whose images are shuffled, all models alike; or ``people``,
            whose images are shuffled, all people alike.
    """

    def __init__(
        self,
        searches: int = 5,
        tables: int = 20,
        bins: int = 10,
        tolerance: float = 0.05,
        draws: int = 200,
        natural: int = 20000,
        permuted: Permuted = "none",
        permutations: int = 20,
    ) -> None:
        self.searches, self.tables, self.draws, self.natural = searches, tables, draws, natural
        self.grid = Grid(bins, tolerance=tolerance, relative=True)
        self.permuted, self.permutations = permuted, permutations

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        stages = {
            f"{stage}_correlation" for stage in ("natural", "released", "retried", "balanced")
        }
        stages |= {"released_filled", "retried_filled"}
        counts = {f"{name}{end}" for name in COUNTED for end in ("", "_images")} | {"ceiling"}
        effects = counts | {f"low_{m}{e}" for m in LOWS for e in ("", "_images")}
        permuted = (init_args.get("permuted") or "none") != "none"
        return effects if permuted else effects | stages

    @classmethod
    def sometimes(cls, init_args: Mapping[str, Any]) -> set[str]:
        """Models that come with measured objects alone."""
        return {f"low_{m}{e}" for m in MODELS.values() for e in ("", "_images")}

    def run(self, trial: Trial) -> Outcome:
        objects: Objects = trial.data
        generator = np.random.default_rng(derive(trial.seed, "people"))
        rounds = []
        for order in self._orders(len(objects.images), generator):
            lows, judged = objects.lows, objects.judgements
            if self.permuted == "people":
                judged = relabelled(judged, order)
            elif self.permuted == "lows":
                lows = {name: relabelled(low, order) for name, low in lows.items()}
            rounds.append(self._round(objects.brain["it"], lows, judged, generator))
        if self.permuted == "none":
            return Outcome(rounds[0])
        return Outcome({name: _over([float(r[name].value) for r in rounds]) for name in rounds[0]})

    def _orders(self, images: int, generator: np.random.Generator) -> list[NDArray[np.int64]]:
        if self.permuted == "none":
            return [np.arange(images)]
        return [generator.permutation(images) for _ in range(self.permutations)]

    def _round(
        self,
        high: Floats,
        lows: Mapping[str, Floats],
        judged: Floats,
        generator: np.random.Generator,
    ) -> dict[str, Measured]:
        effects: dict[str, Effects] = {}
        stages: list[dict[str, float]] = []
        for name, low in lows.items():
            found = [
                search_all(high, low, generator, self.grid, self.tables)
                for _ in range(self.searches)
            ]
            even = [balanced(triplets, low, generator) for triplets in found]
            if self.permuted == "none":
                stages.append(self._stages(high, low, found[0], even[0], generator))
            shown = [found.swapped(generator.random(len(found)) < 0.5) for found in even]
            effects[name] = self._effects(shown, high, low, judged)
        figures = {key: _over([s[key] for s in stages]) for key in (stages[0] if stages else ())}
        return {**figures, **_effect_figures(effects)}

    def _stages(
        self,
        high: Floats,
        low: Floats,
        retried: Triplets,
        even: Triplets,
        generator: np.random.Generator,
    ) -> dict[str, float]:
        """Correlations in triplets of every kind, and shares of the cells that were filled."""
        asked = self.tables * self.grid.bins**2
        natural = random_triplets(len(high), self.natural, generator)
        released = search(high, low, generator, self.grid, self.tables, repeats=True)
        kinds = {"natural": natural, "released": released, "retried": retried, "balanced": even}
        seen = {
            f"{kind}_correlation": correlation(found.differences(high), found.differences(low))
            for kind, found in kinds.items()
        }
        filled = {"released_filled": len(released), "retried_filled": len(retried)}
        return seen | {name: count / asked for name, count in filled.items()}

    def _effects(self, found: list[Triplets], high: Floats, low: Floats, judged: Floats) -> Effects:
        people, drawn, ceilings = [], [], []
        for triplets in found:
            predictors = standardised(triplets.differences(high), triplets.differences(low))
            chosen = choices(judged, triplets)
            fitted = logistic(predictors, chosen)
            people.append(fitted[:, 1:])
            weights = image_weights(triplets, len(high), self.draws, seed=1)
            again = reweighted(predictors, chosen, fitted, weights)
            drawn.append(again[..., 1:].mean(1))
            ceilings.append(ceiling(chosen))
        spread = np.mean(drawn, axis=0).std(0, ddof=1)
        return Effects(np.mean(people, axis=0), spread, float(np.mean(ceilings)))


def _effect_figures(effects: Mapping[str, Effects]) -> dict[str, Measured]:
    figures: dict[str, Measured] = {}
    for images in (False, True):
        end, p, positive = "_images" if images else "", [], []
        for name, effect in effects.items():
            df = len(effect.people) - 1
            value, stderr = effect.mean[1], effect.stderr(images)[1]
            figures[f"low_{name}{end}"] = _measured(value, stderr, df)
            p.append(two_sided(value / stderr, df))
            positive.append(value > 0)
        held = (holm(np.array(p)) < 0.05) & np.array(positive)
        figures[f"significant{end}"] = exact(held.sum())
        figures[f"any_significant{end}"] = exact(held.any())
        mean = Effects(
            np.mean([e.people for e in effects.values()], axis=0),
            np.mean([e.images for e in effects.values()], axis=0),
            float(np.mean([e.ceiling for e in effects.values()])),
        )
        figures[f"high{end}"] = _measured(
            mean.mean[0], mean.stderr(images)[0], len(mean.people) - 1
        )
    figures["ceiling"] = exact(mean.ceiling)
    return figures


def _measured(value: float, stderr: float, df: float) -> Measured:
    return Measured(value=float(value), stderr=float(stderr), df=float(df))


def _over(values: list[float]) -> Measured:
    """The mean of independent values, with the error that their spread gives."""
    mean = float(np.mean(values))
    if len(values) == 1:
        return Measured(value=mean)
    return _measured(mean, np.std(values, ddof=1) / np.sqrt(len(values)), len(values) - 1)
