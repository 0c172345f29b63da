"""Networks that learn to classify, and what their layers make of triplets, people and brains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from experiments.image_triplets.choice import (
    accuracy,
    choices,
    logistic,
    rank_correlation,
    upper,
)
from experiments.image_triplets.data import FactorSplits, Objects, Seen
from experiments.image_triplets.model import Layered, activations
from experiments.image_triplets.search import (
    Floats,
    Grid,
    Signs,
    Triplets,
    balanced,
    correlation,
    random_triplets,
    search,
    search_all,
)
from experiments.image_triplets.similarity import pearson, relabelled
from harness.loading.splits import Split
from harness.procedures.base import Outcome, Trial
from harness.procedures.fit import Fit
from harness.records import Series
from harness.seeding import derive


def kinds_of(signs: Signs) -> tuple[str, ...]:
    """Kinds of triplets; with low-level differences of one sign there is nothing to balance."""
    return ("natural", "searched", *(["balanced"] if signs == "random" else []))


class Levels(Fit):
    """A network's two levels, and the triplets that the released search finds with them.

    Besides what Fit reports, of the test images: ``natural_correlation``, of the differences on the
    two levels in random triplets, ``searched_correlation`` in those found, and
    ``balanced_correlation`` in as many of those of either sign; ``filled``, the share of cells and
    tables with a triplet.

    Args:
        tables, bins, tolerance: of the search; the tolerance is in units of similarity.
        signs: of the low level's differences; ``same`` is a control.
        tries, repeats: of the search; as released, one root is tried, and no image comes twice.
        natural: random triplets.
    """

    def __init__(
        self,
        tables: int = 20,
        bins: int = 10,
        tolerance: float = 0.01,
        signs: Signs = "random",
        tries: int = 1,
        repeats: bool = False,
        natural: int = 20000,
        **fit: Any,
    ) -> None:
        super().__init__(**fit)
        self.tables, self.grid = tables, Grid(bins, tolerance=tolerance)
        self.signs, self.tries, self.repeats, self.natural = signs, tries, repeats, natural

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        kinds = kinds_of(init_args.get("signs") or "random")
        return super().produces(init_args) | {f"{k}_correlation" for k in kinds} | {"filled"}

    def measure(self, model: nn.Module, trial: Trial) -> Outcome:
        high, low = levels(cast(Layered, model), everything(trial.data.test), trial.device)
        generator = np.random.default_rng(derive(trial.seed, "triplets"))
        drawn = random_triplets(len(high), self.natural, generator)
        found = search(
            high, low, generator, self.grid, self.tables, self.tries, self.repeats, self.signs
        )
        every = (drawn, found, balanced(found, low, generator))
        kinds = dict(zip(kinds_of(self.signs), every, strict=False))
        metrics = {f"{kind}_correlation": between(t, high, low) for kind, t in kinds.items()}
        metrics["filled"] = len(found) / (self.tables * self.grid.bins**2)
        return Outcome(metrics | self._further(kinds, high, low, trial))

    def _further(
        self, kinds: Mapping[str, Triplets], high: Floats, low: Floats, trial: Trial
    ) -> dict[str, float]:
        """What a subclass measures on ``natural``, ``searched`` and ``balanced`` triplets."""
        return {}


class Layers(Levels):
    """A network's layers beside people's choices and brains, on objects that people judged.

    For each layer: the share of people's choices that the sign of its difference foretells, in
    ``natural`` random triplets; and the rank correlation of its similarities with those of
    patterns in inferior temporal cortex and early visual areas.

    Reported over the layers: ``agreement_it`` and ``agreement_early``, rank correlations of the
    first with the other two; ``agreement_shuffled``, with inferior temporal cortex of shuffled
    images, mean over ``permutations``; ``depth_it`` and ``depth_early``, where from 0 (first
    layer) to 1 (last) that correlation is highest; the series ``choice_accuracy``, ``it`` and
    ``early`` over ``layer``. On balanced triplets of the searched two layers: ``high_accuracy`` and
    ``low_accuracy`` of the sign of either difference, mean over people; ``balanced_triplets``.

    Args:
        object_tables, object_tolerance: of the search on the objects, in which images repeat; its
            tolerance is in standard deviations.
        permutations: of the brain's images.
    """

    def __init__(
        self,
        object_tables: int = 20,
        object_tolerance: float = 0.05,
        permutations: int = 200,
        **levels: Any,
    ) -> None:
        super().__init__(**levels)
        self.object_grid = Grid(self.grid.bins, tolerance=object_tolerance, relative=True)
        self.object_tables, self.permutations = object_tables, permutations

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        agreements = {"agreement_it", "agreement_early", "agreement_shuffled"}
        agreements |= {"depth_it", "depth_early"}
        on_triplets = {"high_accuracy", "low_accuracy", "balanced_triplets"}
        curves = {"choice_accuracy", "it", "early"}
        return super().produces(init_args) | agreements | on_triplets | curves

    def measure(self, model: nn.Module, trial: Trial) -> Outcome:
        measured = super().measure(model, trial)
        data: Seen = trial.data
        assert data.objects is not None
        network = cast(Layered, model)
        seen = activations(network, data.shown.to(trial.device))
        layers = {name: pearson(values.cpu().numpy()) for name, values in seen.items()}
        generator = np.random.default_rng(derive(trial.seed, "objects"))
        curves = self._curves(layers, data.objects, generator)
        metrics = {
            **measured.metrics,
            **self._agreements(curves, layers, data.objects, generator),
            **self._explained(layers[network.high], layers[network.low], data.objects, generator),
        }
        places = [float(i) for i in range(len(layers))]
        series = {name: Series(over="layer", x=places, y=curve) for name, curve in curves.items()}
        return Outcome(metrics, series)

    def _curves(
        self, layers: Mapping[str, Floats], objects: Objects, generator: np.random.Generator
    ) -> dict[str, list[float]]:
        triplets = random_triplets(len(objects.images), self.natural, generator)
        chosen = choices(objects.judgements, triplets)
        told = [float(accuracy(triplets.differences(c), chosen).mean()) for c in layers.values()]
        brains = {
            area: [rank_correlation(upper(c), upper(objects.brain[area])) for c in layers.values()]
            for area in ("it", "early")
        }
        return {"choice_accuracy": told, **brains}

    def _agreements(
        self,
        curves: Mapping[str, list[float]],
        layers: Mapping[str, Floats],
        objects: Objects,
        generator: np.random.Generator,
    ) -> dict[str, float]:
        told = np.array(curves["choice_accuracy"])
        it, shuffled = ranks(objects.brain["it"]), []
        seen = np.stack([upper(ranks(c)) for c in layers.values()])
        for _ in range(self.permutations):
            other = upper(relabelled(it, generator.permutation(len(it))))
            shuffled.append(rank_correlation(told, seen @ other))
        return {
            "agreement_it": rank_correlation(told, np.array(curves["it"])),
            "agreement_early": rank_correlation(told, np.array(curves["early"])),
            "agreement_shuffled": float(np.mean(shuffled)),
            "depth_it": float(np.argmax(curves["it"])) / (len(told) - 1),
            "depth_early": float(np.argmax(curves["early"])) / (len(told) - 1),
        }

    def _explained(
        self, high: Floats, low: Floats, objects: Objects, generator: np.random.Generator
    ) -> dict[str, float]:
        found = search_all(high, low, generator, self.object_grid, self.object_tables)
        triplets = balanced(found, low, generator)
        chosen = choices(objects.judgements, triplets)
        told = {
            f"{name}_accuracy": float(accuracy(triplets.differences(level), chosen).mean())
            for name, level in (("high", high), ("low", low))
        }
        return told | {"balanced_triplets": float(len(triplets))}


class Confound(Levels):
    """Whether a network's two levels tell what observers heed, on factor images.

    An observer prefers the second image by the logistic function of what its outline and its
    texture add to the likeness with the root. These and the levels' differences are in units of
    their deviation over random triplets, on triplets of every kind.

    Reported in ``natural``, ``searched`` and ``balanced`` triplets: ``spurious_<kind>``, the
    regression coefficient of the low level alone for observers who heed outlines alone;
    ``weight_<kind>``, the weight of the low level over that of the high one for those who heed
    both alike, 1 if the levels were the factors; and ``factors_<kind>``, the correlation of
    outlines' and textures' own differences.
    """

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        kinds = kinds_of(init_args.get("signs") or "random")
        figures = {f"{w}_{kind}" for w in ("spurious", "weight", "factors") for kind in kinds}
        return super().produces(init_args) | figures

    def _further(
        self, kinds: Mapping[str, Triplets], high: Floats, low: Floats, trial: Trial
    ) -> dict[str, float]:
        data: FactorSplits = trial.data
        assert data.factors is not None
        sources = (data.factors.high(), data.factors.low(), high, low)
        units = [float(kinds["natural"].differences(source).std()) for source in sources]
        metrics = {}
        for kind, triplets in kinds.items():
            outlines, textures, *levels = (
                both_orders(triplets.differences(source) / unit)
                for source, unit in zip(sources, units, strict=True)
            )
            seen = np.column_stack(levels)
            (alone,) = logistic(seen[:, 1:], preference(outlines)[None])
            (joint,) = logistic(seen, preference(outlines + textures)[None])
            metrics[f"spurious_{kind}"] = float(alone[1])
            metrics[f"weight_{kind}"] = float(joint[2] / joint[1])
            metrics[f"factors_{kind}"] = correlation(outlines, textures)
        return metrics


def both_orders(differences: Floats) -> Floats:
    """Differences (2 T,) of triplets shown either way round: no side is the better one."""
    return np.concatenate([differences, -differences])


def ranks(similarity: Floats) -> Floats:
    """Ranks of the similarities (n, n) of different images, centred and of length 1 above the
    diagonal: products of two such are rank correlations, and images may be shuffled at once."""
    places = np.triu_indices(len(similarity), 1)
    ranked = stats.rankdata(similarity[places])
    ranked -= ranked.mean()
    found = np.zeros_like(similarity)
    found[places] = ranked / np.linalg.norm(ranked)
    return found + found.T


def preference(advantage: Floats) -> Floats:
    """Probability that the second image is chosen."""
    chosen: Floats = 1 / (1 + np.exp(-advantage))
    return chosen


def between(triplets: Triplets, high: Floats, low: Floats) -> float:
    """Correlation of the two levels' differences."""
    return correlation(triplets.differences(high), triplets.differences(low))


def levels(model: Layered, images: Tensor, device: torch.device) -> tuple[Floats, Floats]:
    """Similarities (n, n) of images (n, 3, h, w) by the high and the low layer of a network."""
    found = activations(model, images.to(device), names=(model.high, model.low))
    high, low = (pearson(found[name].cpu().numpy()) for name in (model.high, model.low))
    return high, low


def everything(split: Split) -> Tensor:
    """All images of a split."""
    return split[torch.arange(len(split))]["x"]
