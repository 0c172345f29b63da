"""What needs no data: the released search on random features, and the sizes of the networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.image_triplets.search import (
    Grid,
    Signs,
    Triplets,
    balanced,
    correlation,
    random_triplets,
    search,
)
from experiments.image_triplets.similarity import pearson
from harness.procedures.base import Outcome, Trial, exact
from harness.procedures.cost import parameters
from harness.seeding import derive


class Size:
    """``parameters`` of the model; nothing is computed."""

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"parameters"}

    def run(self, trial: Trial) -> Outcome:
        return Outcome({"parameters": exact(parameters(trial.model))})


class Search:
    """Triplets for two levels of ``images`` random feature vectors, and what holds of each.

    Reported: ``off_target``, the largest distance of a difference from what its cell asks for;
    ``used_again``, images that come twice; ``filled``, the share of cells and tables with a
    triplet; ``positive``, the share of triplets with a positive low-level difference;
    ``natural_correlation`` in random triplets, ``searched_correlation`` in those found and
    ``balanced_correlation`` in as many of those of either sign.

    Args:
        features: independent ones of each level.
        shared: size of the features that both levels have, where their own have size 1; with s²
            over 1 + s² of the variance in common, differences correlate by its square.
        tables, bins, tolerance: of the search.
        signs: of the low level's differences; ``same`` is a control.
    """

    def __init__(
        self,
        images: int = 6000,
        features: int = 24,
        shared: float = 1.55,
        tables: int = 5,
        bins: int = 10,
        tolerance: float = 0.01,
        signs: Signs = "random",
    ) -> None:
        self.images, self.features, self.shared = images, features, shared
        self.tables, self.grid, self.signs = tables, Grid(bins, tolerance=tolerance), signs

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        kinds = {f"{kind}_correlation" for kind in ("natural", "searched")}
        if (init_args.get("signs") or "random") == "random":
            kinds.add("balanced_correlation")
        return kinds | {"off_target", "used_again", "filled", "positive"}

    def run(self, trial: Trial) -> Outcome:
        generator = np.random.default_rng(derive(trial.seed, "features"))
        shape = (3, self.images, self.features)
        both, one, other = generator.standard_normal(shape).astype(np.float32)
        high, low = (pearson(self.shared * both + own) for own in (one, other))
        found = search(high, low, generator, self.grid, self.tables, signs=self.signs)
        drawn = random_triplets(self.images, 20000, generator)
        differences = found.differences(high), found.differences(low)
        wanted = (
            self.grid.targets(level)[found.cells[:, place] - 1]
            for place, level in enumerate((high, low))
        )
        off = [np.abs(np.abs(d) - w) for d, w in zip(differences, wanted, strict=True)]
        metrics = {
            "off_target": float(np.max(off)),
            "used_again": float(used_again(found)),
            "filled": len(found) / (self.tables * self.grid.bins**2),
            "positive": float(np.mean(differences[1] > 0)),
            "natural_correlation": correlation(drawn.differences(high), drawn.differences(low)),
            "searched_correlation": correlation(*differences),
        }
        if self.signs == "random":
            even = balanced(found, low, generator)
            pair = even.differences(high), even.differences(low)
            metrics["balanced_correlation"] = correlation(*pair)
        return Outcome(metrics)


def used_again(triplets: Triplets) -> int:
    """How many of the images of all triplets have been in one before."""
    images = np.concatenate([triplets.root, triplets.first, triplets.second])
    return len(images) - len(np.unique(images))
