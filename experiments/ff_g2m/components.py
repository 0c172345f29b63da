"""Largest components of the Planetoid graphs, split as CPF and GLNN do."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from baselines.gnn import sparse_matrix
from experiments.ff_g2m.data import Graph, planetoid
from harness.seeding import derive

TRAINED, VALIDATED = 20, 30  # labels a class


def planetoid_component(root: Path, seed: int, name: Literal["cora", "citeseer"]) -> Graph:
    """The largest component of a Planetoid graph, with words as zeros and ones.

    Cora's (2485 nodes, 5069 edges) is the graph that CPF took from it; Citeseer's has ten nodes
    more than CPF's. 20 training and 30 validation labels a class, drawn anew for each seed; the
    rest is tested.
    """
    whole = planetoid(root, seed, name)
    nodes = largest_component(whole.pairs, len(whole.y))
    place = torch.full((len(whole.y),), -1)
    place[nodes] = torch.arange(len(nodes))
    inside = (place[whole.pairs] >= 0).all(0)  # both ends of an edge, or none
    rows, columns = whole.x.to_dense()[nodes].nonzero().T
    size = (len(nodes), whole.x.shape[1])
    y = whole.y[nodes]
    train, val, test = cpf_split(y, np.random.default_rng(derive(seed, "split")))
    return Graph(
        x=sparse_matrix(rows, columns, torch.ones(len(rows)), size),
        y=y,
        pairs=place[whole.pairs[:, inside]],
        train=train,
        val=val,
        test=test,
    )


def largest_component(pairs: Tensor, nodes: int) -> Tensor:
    """Its nodes, ascending; ``pairs`` (2, E) are undirected edges."""
    i, j = pairs.numpy()
    adjacency = sparse.coo_matrix((np.ones(len(i)), (i, j)), (nodes, nodes))
    _, part = sparse.csgraph.connected_components(adjacency, directed=False)
    return torch.from_numpy(np.flatnonzero(part == np.bincount(part).argmax()))


def cpf_split(labels: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Training, validation and test nodes: 20 and 30 random ones of each class, and the rest."""
    found: tuple[list[np.ndarray], ...] = ([], [], [])
    for label in range(int(labels.max()) + 1):
        shuffled = generator.permutation(np.flatnonzero(labels.numpy() == label))
        for part, taken in zip(
            np.split(shuffled, [TRAINED, TRAINED + VALIDATED]), found, strict=True
        ):
            taken.append(part)
    train, val, test = (torch.from_numpy(np.sort(np.concatenate(parts))) for parts in found)
    return train, val, test
