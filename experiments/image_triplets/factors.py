"""Factor images: an outline (high level), and colour, orientation and frequency of a texture (low).

In natural images the levels are confounded: objects of a category look alike. Here a knob says how
much: each of the texture's factors is ``rho`` times what is typical of the outline, plus noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from experiments.image_triplets.search import Floats
from experiments.image_triplets.similarity import Bytes

LOBES, HOLES = (0, 2, 3, 5), (0.0, 0.5)
CATEGORIES = len(LOBES) * len(HOLES)
TEXTURE = ("hue", "orientation", "frequency")


@dataclass(frozen=True)
class Factors:
    """What images are made from.

    Attributes:
        category: outline (n,), from 0 to 7.
        texture: (n, 3) normal numbers of deviation 1, one for each of ``TEXTURE``.
    """

    category: NDArray[np.int64]
    texture: Floats

    def __len__(self) -> int:
        return len(self.category)

    def high(self) -> Floats:
        """Similarity (n, n) of outlines: 1 for the same, 1/2 with equal lobes or hole."""
        lobes, hole = self.category // len(HOLES), self.category % len(HOLES)
        shared = (lobes[:, None] == lobes).astype(np.float64) + (hole[:, None] == hole)
        similarity: Floats = shared / 2
        return similarity

    def low(self) -> Floats:
        """Similarity (n, n) of textures: minus the distance of their factors."""
        apart = self.texture[:, None] - self.texture
        distances: Floats = np.sqrt((apart**2).sum(-1))
        return -distances


def draw(count: int, rho: float, generator: np.random.Generator) -> Factors:
    """Factors of ``count`` images; texture follows the outline with correlation ``rho``."""
    category = generator.integers(0, CATEGORIES, count)
    typical = typical_textures()[category]
    noise = generator.standard_normal((count, len(TEXTURE)))
    return Factors(category, rho * typical + np.sqrt(1 - rho**2) * noise)


def typical_textures() -> Floats:
    """(8, 3): the texture of each outline; mean 0 and deviation 1 over the outlines, the same in
    every data set."""
    drawn = np.random.default_rng(8).standard_normal((CATEGORIES, len(TEXTURE)))
    typical: Floats = (drawn - drawn.mean(0)) / drawn.std(0)
    return typical


def render(factors: Factors, generator: np.random.Generator, side: int = 32) -> Bytes:
    """Images (n, side, side, 3): a coloured outline somewhere on a grey ground, both with the
    texture."""
    place, size, turn = _poses(len(factors), generator)
    axis = np.linspace(-1, 1, side)
    x = axis[None, None, :] - place[:, 0]
    y = axis[None, :, None] - place[:, 1]
    radius, angle = np.hypot(x, y) / size, np.arctan2(y, x) - turn
    lobes = np.array(LOBES)[factors.category // len(HOLES)][:, None, None]
    hole = np.array(HOLES)[factors.category % len(HOLES)][:, None, None]
    border = 1 + np.where(lobes > 0, 0.4, 0.0) * np.cos(lobes * angle)
    inside = (radius < border) & (radius > hole * border)
    hue, orientation, frequency = stats.norm.cdf(factors.texture).T[:, :, None, None]
    along = x * np.cos(np.pi * orientation) + y * np.sin(np.pi * orientation)
    wave = 0.5 + 0.5 * np.sin(2 * np.pi * (1 + 3 * frequency) * along)
    thirds = np.array([0, 1 / 3, 2 / 3])
    colour = 0.5 + 0.5 * np.cos(2 * np.pi * (0.8 * hue[..., None] - thirds))
    object_ = colour * (0.5 + 0.5 * wave[..., None])
    ground = np.broadcast_to(0.3 + 0.3 * wave[..., None], object_.shape)
    picture = np.where(inside[..., None], object_, ground)
    return np.asarray(np.rint(255 * picture), np.uint8)


def _poses(count: int, generator: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    place = generator.uniform(-0.25, 0.25, (count, 2))[:, :, None, None]
    size = generator.uniform(0.4, 0.55, (count, 1, 1))
    turn = generator.uniform(0, 2 * np.pi, (count, 1, 1))
    return place, size, turn


def virtual_people(
    factors: Factors,
    generator: np.random.Generator,
    people: int = 16,
    high_weight: float = 1.0,
    low_weight: float = 0.4,
    noise: float = 1.0,
) -> Floats:
    """Dissimilarity judgements (people, n, n) that weigh outlines and textures.

    Args:
        high_weight, low_weight: of the standardised dissimilarities; each person's own differ
            from these by a deviation of 0.1.
        noise: deviation of what else there is in a judgement.
    """
    weights = np.array([high_weight, low_weight]) + 0.1 * generator.standard_normal((people, 2))
    levels = np.stack([_scaled(-factors.high()), _scaled(-factors.low())])
    judged = np.tensordot(weights, levels, 1)
    return judged + noise * symmetric_noise((people, len(factors), len(factors)), generator)


def symmetric_noise(shape: tuple[int, ...], generator: np.random.Generator) -> Floats:
    """Normal numbers (…, n, n) of deviation 1, symmetric, with zeros on the diagonal."""
    drawn = np.triu(generator.standard_normal(shape), 1)
    return drawn + drawn.swapaxes(-1, -2)


def _scaled(matrix: Floats) -> Floats:
    """Mean 0 and deviation 1 over different images; 0 on the diagonal."""
    apart = ~np.eye(len(matrix), dtype=bool)
    scaled = (matrix - matrix[apart].mean()) / matrix[apart].std()
    return np.where(apart, scaled, 0.0)
