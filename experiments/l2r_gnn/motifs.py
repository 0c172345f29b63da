"""Wheels that cause a label and stars that go with it: the paper's synthetic task.

The sources say: positive graphs hold a wheel, and a star is added to a share μ of the positive
ones in training, whereas it tells nothing of the label in the test. All else is our choice.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from experiments.l2r_gnn.graphs import Graphs, degrees, gathered
from harness.loading.splits import Splits
from harness.seeding import derive

MOTIF = 7  # nodes of a wheel, of a star and of the trees in their places
_RIM = np.arange(1, MOTIF)
STAR = np.stack([np.zeros(MOTIF - 1, int), _RIM], 1)
WHEEL = np.concatenate([STAR, np.stack([_RIM, np.roll(_RIM, -1)], 1)])
_BASE = 2 * MOTIF  # the first node of the tree that both are attached to


@dataclass(frozen=True)
class MotifSplits(Splits):
    """``rare`` (N,): whether star and label of a training graph disagree."""

    rare: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))


def motifs(
    seed: int,
    bias: float = 0.9,
    train: int = 500,
    val: int = 200,
    test: int = 600,
    size: tuple[int, int] = (15, 25),
    test_size: tuple[int, int] | None = None,
    extra: int = 10,
    features: int = 12,
    regression: bool = False,
    shuffled: bool = False,
) -> MotifSplits:
    """Trees with two attachments: a wheel or a random tree, and a star or a random tree.

    A wheel is there iff the label is 1. In training and validation the star is there with
    probability ``bias`` if the label is 1, else 1 - ``bias``; in ``test`` with 1/2. Further test
    sets: ``alike`` (as in training) and ``reversed`` (1 - ``bias``).

    Args:
        bias: μ.
        train, val, test: graphs of each split; every test set has ``test``.
        size: nodes of the tree, both ends included.
        test_size: those in test sets; default as in training.
        extra: random edges added to every graph.
        features: of a node, its degree one-hot; larger ones count as features - 1.
        regression: predict 2 · label + 0.1 · nodes + noise instead of the label.
        shuffled: training and validation labels are permuted (canary).
    """
    shares = {"train": bias, "val": bias, "test": 0.5, "alike": bias, "reversed": 1 - bias}
    counts, made, rare = {"train": train, "val": val}, {}, torch.zeros(0, dtype=torch.bool)
    for name, share in shares.items():
        g = np.random.default_rng(derive(seed, "motifs", name))
        count, nodes = counts.get(name, test), size if name in counts else test_size or size
        graphs, odd = _drawn(g, count, share, nodes, extra, features, regression)
        if shuffled and name in counts:
            graphs = graphs.labelled(graphs.y[torch.from_numpy(g.permutation(count))])
        made[name], rare = graphs, odd if name == "train" else rare
    tests = {name: made[name] for name in ("alike", "reversed")}
    dims = {"features": features, "outputs": 1 if regression else 2}
    return MotifSplits(made["train"], made["test"], made["val"], dims, tests, rare)


def _drawn(
    g: np.random.Generator,
    count: int,
    share: float,
    size: tuple[int, int],
    extra: int,
    features: int,
    regression: bool,
) -> tuple[Graphs, Tensor]:
    """Graphs, and whether the star of each disagrees with its label."""
    labels = g.integers(2, size=count)
    starred = g.random(count) < np.where(labels == 1, share, 1 - share)
    base = g.integers(size[0], size[1] + 1, size=count)
    nodes = base + _BASE
    ends = np.concatenate(
        [
            _attachment(g, labels == 1, WHEEL),
            _attachment(g, starred, STAR) + MOTIF,
            _trees(g, count, size[1]) + _BASE,
            _joints(g, base),
            np.stack([g.integers(nodes[:, None], size=(count, extra)) for _ in range(2)], 2),
        ],
        axis=1,
    )
    owner = torch.from_numpy(np.repeat(np.arange(count), nodes))
    pairs = torch.from_numpy(_numbered(ends, nodes))
    x = degrees(pairs, len(owner), features - 1)
    y = torch.from_numpy(labels)
    if regression:
        y = (2 * y + 0.1 * torch.from_numpy(nodes + g.standard_normal(count))).float()
    rare = torch.from_numpy(starred != (labels == 1))
    return gathered(x, owner, pairs, y), rare


def _trees(g: np.random.Generator, count: int, nodes: int) -> np.ndarray:
    """Barabási-Albert trees (m = 1), ``count`` of them at once: edges (count, nodes - 1, 2).

    A new node joins either end of an edge drawn at random: by degree, that is. The first n nodes
    are a tree of n nodes.
    """
    parents = np.zeros((count, nodes), dtype=int)
    rows = np.arange(count)
    for new in range(2, nodes):
        child = g.integers(1, new, size=count)
        parents[:, new] = np.where(g.random(count) < 0.5, child, parents[rows, child])
    children = np.broadcast_to(np.arange(nodes), parents.shape)
    return np.stack([children, parents], 2)[:, 1:]


def _attachment(g: np.random.Generator, there: np.ndarray, motif: np.ndarray) -> np.ndarray:
    """Edges (count, e, 2) of the motif where it is ``there``, else of a tree and random edges."""
    tree = _trees(g, len(there), MOTIF)
    count = len(there), len(motif) - MOTIF + 1
    start = g.integers(MOTIF, size=count)
    end = (start + g.integers(1, MOTIF, size=count)) % MOTIF
    other = np.concatenate([tree, np.stack([start, end], 2)], 1)
    return np.where(there[:, None, None], motif, other)


def _joints(g: np.random.Generator, base: np.ndarray) -> np.ndarray:
    """An edge from each attachment, at any of its nodes, to any node of the tree: (count, 2, 2)."""
    count = len(base)
    own = np.add(g.integers(MOTIF, size=(count, 2)), (0, MOTIF))
    return np.stack([own, _BASE + g.integers(base[:, None], size=(count, 2))], 2)


def _numbered(ends: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Both directions of each edge once, numbered over all graphs; no loops, no absent nodes."""
    starts = np.cumsum(nodes) - nodes
    there = (ends < nodes[:, None, None]).all(2) & (ends[:, :, 0] != ends[:, :, 1])
    pairs = (ends + starts[:, None, None])[there]
    total = int(nodes.sum())
    keys = np.unique(np.concatenate([pairs, pairs[:, ::-1]]) @ [total, 1])
    return np.stack(np.divmod(keys, total), 1)
