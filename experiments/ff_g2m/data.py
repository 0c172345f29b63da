"""Attributed graphs with a node-classification split: Planetoid, archives, a generator."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from baselines.gnn import sparse_matrix
from harness.loading.pickles import load_arrays
from harness.loading.splits import Batch
from harness.seeding import derive

UNLABELLED = -1


@dataclass(frozen=True)
class Graph:
    """One graph; all of its nodes are seen in training (transductive) but those ``unseen``.

    Attributes:
        x: features (N, F), dense or sparse CSR.
        y: class of each node (N,).
        pairs: undirected edges (2, E), each once, without loops.
        train, val, test: node indices of the split.
        unseen: those of the test nodes that are hidden in training, with all their edges.
    """

    x: Tensor
    y: Tensor
    pairs: Tensor
    train: Tensor
    val: Tensor
    test: Tensor
    unseen: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))

    @property
    def dims(self) -> dict[str, int]:
        return {
            "features": self.x.shape[1],
            "classes": int(self.y.max()) + 1,
            "nodes": len(self.y),
            "edges": self.pairs.shape[1],
        }

    def labels(self, nodes: Tensor) -> Tensor:
        """The classes of some nodes, ``UNLABELLED`` at the others: (N,)."""
        return torch.full_like(self.y, UNLABELLED).scatter(0, nodes, self.y[nodes])

    def rows(self, nodes: Tensor) -> Tensor:
        """The features of some nodes, in the layout of ``x``."""
        if self.x.layout != torch.sparse_csr:
            return self.x[nodes]
        picked = torch.index_select(self.x.to_sparse(), 0, nodes)
        return picked.to_sparse_csr()

    @property
    def observed(self) -> Tensor:
        """The nodes that training sees, in ascending order."""
        nodes = torch.arange(len(self.y), device=self.y.device)
        return nodes[~torch.isin(nodes, self.unseen)]

    def seen(self) -> Graph:
        """What training sees: the graph of the observed nodes alone, numbered anew."""
        if not len(self.unseen):
            return self
        kept = self.observed
        number = torch.full_like(self.y, -1).scatter(0, kept, torch.arange(len(kept)).to(kept))
        ends = number[self.pairs]
        split = {name: number[getattr(self, name)] for name in ("train", "val", "test")}
        return Graph(
            x=self.rows(kept),
            y=self.y[kept],
            pairs=ends[:, (ends >= 0).all(0)],
            **{name: nodes[nodes >= 0] for name, nodes in split.items()},
        )

    def hiding(self, share: float, seed: int) -> Graph:
        """The same graph, of whose test nodes a random ``share`` is unseen in training.

        Raises:
            ValueError: when the share is no share, or leaves no test node on one of the sides.
        """
        if share == 0:
            return self
        hidden = int(len(self.test) * share)
        if not 0 < hidden < len(self.test):
            raise ValueError(f"{share} of {len(self.test)} test nodes cannot be hidden")
        order = _generator(seed, "unseen").permutation(len(self.test))
        return replace(self, unseen=self.test[torch.from_numpy(order[:hidden])])

    def to(self, device: torch.device | str) -> Graph:
        return Graph(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


class Whole:
    """A split of one example, the graph: each step and each evaluation is of all of its nodes."""

    def __init__(self, **columns: Tensor) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return 1

    def __getitem__(self, indices: Tensor) -> Batch:
        return self.columns


def planetoid(
    root: Path,
    seed: int,
    name: Literal["cora", "citeseer", "pubmed"],
    rewire: bool = False,
    unseen: float = 0.0,
) -> Graph:
    """A citation graph with the public split: 20 labels a class, 500 validation, 1000 test nodes.

    Rows of words are normalised to sum 1. With ``rewire`` the edges are replaced by random ones
    of the same degrees (a control: the graph then says nothing about the classes). ``unseen`` is
    the share of the test nodes that training does not see (inductive).
    """
    part = {k: load_arrays(root / f"ind.{name}.{k}") for k in ("y", "tx", "ty", "allx", "ally")}
    adjacency: dict[int, list[int]] = load_arrays(root / f"ind.{name}.graph")
    test = np.loadtxt(root / f"ind.{name}.test.index", dtype=np.int64)
    known, nodes = part["allx"].shape[0], int(test.max()) + 1
    # row i of tx belongs to node test[i]; test nodes without features keep a row of zeros
    place = sparse.csr_matrix(
        (np.ones(len(test)), (test - known, np.arange(len(test)))), (nodes - known, len(test))
    )
    words = sparse.vstack([part["allx"], place @ part["tx"]]).tocsr()
    labels = np.zeros(nodes, dtype=np.int64)
    labels[:known] = part["ally"].argmax(1)
    labels[test] = part["ty"].argmax(1)
    sources = np.repeat(list(adjacency), [len(found) for found in adjacency.values()])
    targets = np.concatenate([np.asarray(found, np.int64) for found in adjacency.values()])
    pairs = undirected(np.stack([sources, targets]))
    labelled = len(part["y"])
    graph = Graph(
        x=_csr(_row_normalised(words)),
        y=torch.from_numpy(labels),
        pairs=torch.from_numpy(rewired(pairs, _generator(seed, "rewire")) if rewire else pairs),
        train=torch.arange(labelled),
        val=torch.arange(labelled, labelled + 500),
        test=torch.from_numpy(np.sort(test)),
    )
    return graph.hiding(unseen, seed)


def archive(root: Path, seed: int, file: str, unseen: float = 0.0) -> Graph:
    """A graph of the 'Pitfalls of GNN Evaluation' archives with the paper's random split.

    20 labels a class, 500 validation and 1000 test nodes, drawn anew for each seed; features as
    they are stored. ``unseen`` is the share of the test nodes that training does not see.
    """
    words, adjacency, labels = _read_archive(root / file)
    generator = _generator(seed, "split")
    train = _per_class(labels, np.arange(len(labels)), 20, generator)
    rest = generator.permutation(np.setdiff1d(np.arange(len(labels)), train))
    split = {"train": train, "val": rest[:500], "test": rest[500:1500]}
    return _graph(words, adjacency, labels, split).hiding(unseen, seed)


def component(root: Path, seed: int, file: str, unseen: float = 0.0) -> Graph:
    """The largest component of a graph of the 'Pitfalls of GNN Evaluation' archives.

    Split as in CPF and GLNN: 20 training and 30 validation labels a class, drawn
    anew for each seed; the rest is tested. Features as they are stored. ``unseen`` is the share of
    the test nodes that training does not see.
    """
    words, adjacency, labels = _read_archive(root / file)
    _, part = sparse.csgraph.connected_components(adjacency, directed=False)
    keep = np.flatnonzero(part == np.bincount(part).argmax())
    words, adjacency, labels = words[keep], adjacency[keep][:, keep], labels[keep]
    generator = _generator(seed, "split")
    train = _per_class(labels, np.arange(len(labels)), 20, generator)
    rest = np.setdiff1d(np.arange(len(labels)), train)
    val = _per_class(labels, rest, 30, generator)
    split = {"train": train, "val": val, "test": np.setdiff1d(rest, val)}
    return _graph(words, adjacency, labels, split).hiding(unseen, seed)


def block_model(
    seed: int,
    nodes: int = 1500,
    classes: int = 4,
    degree: float = 4.0,
    homophily: float = 0.75,
    boundary: float = 0.0,
    features: int = 64,
    noise: float = 0.6,
    rewire: bool = False,
    unseen: float = 0.0,
) -> Graph:
    """Contextual stochastic block model: classes are visible in features and in neighbours.

    ``x_i = μ[y_i] + noise ε`` with unit vectors ``μ``. An edge joins equal classes with
    probability ``homophily``. ``boundary`` is the share of nodes that have as many neighbours in
    the next class as in their own, so that averages over their neighbours say little and
    differences across their edges much. Split: 20 labels a class, 300 validation, 600 test nodes,
    of which training does not see a share ``unseen``.

    Raises:
        ValueError: when there are too few nodes for the split.
    """
    if nodes < 20 * classes + 60:
        raise ValueError(f"{nodes} nodes are too few for 20 labels in each of {classes} classes")
    g = _generator(seed, "graph")
    labels = g.permutation(np.arange(nodes) % classes)
    means = g.standard_normal((classes, features))
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    x = means[labels] + noise * g.standard_normal((nodes, features))
    undecided = g.random(nodes) < boundary
    sources = g.integers(nodes, size=round(nodes * degree / 2))
    pairs = undirected(np.stack([sources, _targets(labels, sources, undecided, homophily, g)]))
    train = _per_class(labels, np.arange(nodes), 20, g)
    rest = g.permutation(np.setdiff1d(np.arange(nodes), train))
    third = min(300, len(rest) // 3)
    graph = Graph(
        x=torch.from_numpy(x).float(),
        y=torch.from_numpy(labels),
        pairs=torch.from_numpy(rewired(pairs, _generator(seed, "rewire")) if rewire else pairs),
        train=torch.from_numpy(train),
        val=torch.from_numpy(rest[:third]),
        test=torch.from_numpy(rest[third : 3 * third]),
    )
    return graph.hiding(unseen, seed)


def _targets(
    labels: np.ndarray,
    sources: np.ndarray,
    undecided: np.ndarray,
    homophily: float,
    g: np.random.Generator,
) -> np.ndarray:
    """For each source another node: of its class, of another one, or of the next class."""
    classes = int(labels.max()) + 1
    own, n = labels[sources], len(sources)
    other = (own + g.integers(1, classes, size=n)) % classes
    usual = np.where(g.random(n) < homophily, own, other)
    split = np.where(g.random(n) < 0.5, own, (own + 1) % classes)
    wanted = np.where(undecided[sources], split, usual)
    members = [np.flatnonzero(labels == c) for c in range(classes)]
    drawn = g.random(n)
    return np.array(
        [members[c][int(u * len(members[c]))] for c, u in zip(wanted, drawn, strict=True)]
    )


def undirected(edges: np.ndarray) -> np.ndarray:
    """Each edge of ``edges`` (2, M) once as ``i < j``, without duplicates and loops: (2, E)."""
    low, high = edges.min(0), edges.max(0)
    return np.unique(np.stack([low, high])[:, low != high], axis=1).astype(np.int64)


def rewired(pairs: np.ndarray, generator: np.random.Generator, tries: int = 100) -> np.ndarray:
    """Random edges with the degrees of ``pairs`` (2, E): all ends are shuffled, conflicts repaired.

    Loops and duplicates that are left after ``tries`` rounds of repair are dropped.
    """
    left, right = np.split(generator.permutation(pairs.ravel()), 2)
    for _ in range(tries):
        bad = _conflicts(left, right)
        if not len(bad):
            break
        # exchange the ends of conflicting edges with those of random ones
        partners = generator.integers(len(right), size=len(bad))
        for edge, partner in zip(bad, partners, strict=True):
            right[edge], right[partner] = right[partner], right[edge]
    return undirected(np.stack([left, right]))


def _conflicts(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Indices of loops and of repetitions of an earlier edge."""
    low, high = np.minimum(left, right), np.maximum(left, right)
    _, first = np.unique(low * (high.max() + 1) + high, return_index=True)
    repeated = np.ones(len(left), dtype=bool)
    repeated[first] = False
    return np.flatnonzero(repeated | (left == right))


def _read_archive(path: Path) -> tuple[sparse.csr_matrix, sparse.csr_matrix, np.ndarray]:
    """Features (N, F), adjacency (N, N) as stored, and classes (N,)."""
    with np.load(path, allow_pickle=False) as z:

        def matrix(kind: str) -> sparse.csr_matrix:
            parts = (z[f"{kind}_data"], z[f"{kind}_indices"], z[f"{kind}_indptr"])
            return sparse.csr_matrix(parts, shape=tuple(z[f"{kind}_shape"]))

        return matrix("attr"), matrix("adj"), z["labels"].astype(np.int64)


def _graph(
    words: sparse.csr_matrix,
    adjacency: sparse.csr_matrix,
    labels: np.ndarray,
    split: dict[str, np.ndarray],
) -> Graph:
    pairs = undirected(np.stack(adjacency.nonzero()))
    tensors: dict[str, Any] = {name: torch.from_numpy(nodes) for name, nodes in split.items()}
    return Graph(
        x=_csr(words), y=torch.from_numpy(labels), pairs=torch.from_numpy(pairs), **tensors
    )


def _per_class(
    labels: np.ndarray, among: np.ndarray, count: int, generator: np.random.Generator
) -> np.ndarray:
    """``count`` random nodes of each class out of ``among``."""
    shuffled = generator.permutation(among)
    picked = [shuffled[labels[shuffled] == c][:count] for c in range(int(labels.max()) + 1)]
    return np.concatenate(picked)


def _row_normalised(words: sparse.csr_matrix) -> sparse.csr_matrix:
    sums = np.asarray(words.sum(1)).ravel()
    scale = np.divide(1.0, sums, out=np.zeros(len(sums)), where=sums > 0)
    return (sparse.diags(scale) @ words).tocsr()


def _csr(matrix: sparse.csr_matrix) -> Tensor:
    found = matrix.tocoo()
    rows, columns = (torch.from_numpy(k.astype(np.int64)) for k in (found.row, found.col))
    return sparse_matrix(
        rows, columns, torch.from_numpy(found.data.astype(np.float32)), found.shape
    )


def _generator(seed: int, purpose: str) -> np.random.Generator:
    return np.random.default_rng(derive(seed, purpose))
