"""Graphs from the TU Dortmund text files, split by size, and ESOL, split by scaffold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from experiments.l2r_gnn.graphs import Graphs, degrees, gathered
from experiments.l2r_gnn.molecules import ATOMS, BONDS, parsed, scaffold_split, scaffolds
from harness.loading.splits import Splits
from harness.seeding import derive

TARGET = "measured log solubility in mols per litre"


def by_size(
    root: Path,
    name: str = "PROTEINS",
    nodes: int = 25,
    train: int = 500,
    held_out: float = 0.1,
    shuffled: bool = False,
) -> Splits:
    """Train on small graphs, test on all others (``node_separate_data`` of the public code).

    ``train`` graphs are drawn among those of at most ``nodes`` nodes, the same ones for every
    seed; a share ``held_out`` of them is for validation. Of the rest, ``large`` are the test
    graphs with more than ``nodes`` nodes.

    Args:
        root: folder of the data set's folder ``name``.
        shuffled: labels of training and validation graphs are permuted (canary).

    Raises:
        ValueError: when there are fewer than ``train`` small graphs.
    """
    graphs = read_tu(root / name, name)
    small = np.flatnonzero(graphs.nodes.numpy() <= nodes)
    if len(small) < train:
        raise ValueError(f"{name} has {len(small)} graphs of at most {nodes} nodes, not {train}")
    g = np.random.default_rng(derive(0, "size", name))
    chosen = g.permutation(small)[:train]
    rest = np.setdiff1d(np.arange(len(graphs)), chosen)
    cut = round(held_out * train)
    parts = [graphs.take(torch.from_numpy(part)) for part in (chosen[cut:], chosen[:cut], rest)]
    if shuffled:
        parts[:2] = [p.labelled(p.y[torch.from_numpy(g.permutation(len(p)))]) for p in parts[:2]]
    large = parts[2].take(torch.nonzero(parts[2].nodes > nodes)[:, 0])
    return Splits(
        train=parts[0],
        val=parts[1],
        test=parts[2],
        tests={"large": large},
        dims={"features": graphs.x.shape[1], "outputs": int(graphs.y.max()) + 1},
    )


def read_tu(folder: Path, name: str, most: int = 30) -> Graphs:
    """Graphs of a TU data set: node labels one-hot, or degrees up to ``most`` without any.

    ``<name>_A.txt`` has a line "row, column" (from 1) for each direction of each edge,
    ``_graph_indicator.txt`` the graph of every node, ``_graph_labels.txt`` and
    ``_node_labels.txt`` what they say.
    """

    def column(kind: str) -> Tensor:
        path = folder / f"{name}_{kind}.txt"
        return torch.from_numpy(np.loadtxt(path, dtype=np.int64, delimiter=",", ndmin=1))

    pairs, owner = column("A") - 1, column("graph_indicator") - 1
    _, y = torch.unique(column("graph_labels"), return_inverse=True)
    if (folder / f"{name}_node_labels.txt").exists():
        _, kinds = torch.unique(column("node_labels"), return_inverse=True)
        x = one_hot(kinds).float()
    else:
        x = degrees(pairs, len(owner), most)
    return gathered(x, owner, pairs, y)


def esol(root: Path, shuffled: bool = False) -> Splits:
    """Log solubility of 1,128 molecules, whole scaffolds held out (80, 10 and 10 %).

    Nodes are atoms: their kind, and how many bonds of each order they have.

    Args:
        shuffled: targets of training and validation molecules are permuted (canary).
    """
    table = pd.read_csv(root / "delaney-processed.csv")
    molecules = [parsed(text.strip()) for text in table["smiles"]]
    sizes = np.array([len(atoms) for atoms, _ in molecules])
    starts = np.cumsum(sizes) - sizes
    atoms = np.concatenate([atoms for atoms, _ in molecules])
    bonds = np.concatenate(
        [
            np.add(np.array(bonds, dtype=np.int64).reshape(-1, 3), (start, start, 0))
            for start, (_, bonds) in zip(starts, molecules, strict=True)
        ]
    )
    owner = np.repeat(np.arange(len(sizes)), sizes)
    pairs = np.concatenate([bonds[:, :2], bonds[:, 1::-1]])
    of = np.zeros((len(atoms), len(BONDS)), dtype=np.float32)
    np.add.at(of, (pairs[:, 0], np.tile(bonds[:, 2], 2)), 1)
    kinds = one_hot(torch.from_numpy(atoms), len(ATOMS)).float()
    x = torch.cat([kinds, torch.from_numpy(of)], 1)
    y = torch.from_numpy(table[TARGET].to_numpy(np.float32, copy=True))
    graphs = gathered(x, torch.from_numpy(owner), torch.from_numpy(pairs), y)
    indices = scaffold_split(scaffolds(atoms, owner, pairs))
    train, val, test = (graphs.take(torch.from_numpy(part)) for part in indices)
    if shuffled:
        g = np.random.default_rng(derive(0, "shuffled"))
        train, val = (
            p.labelled(p.y[torch.from_numpy(g.permutation(len(p)))]) for p in (train, val)
        )
    return Splits(train=train, val=val, test=test, dims={"features": x.shape[1], "outputs": 1})
