"""Many graphs of different sizes in one set of tensors, batched without a loop over graphs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.loading.splits import Batch


@dataclass(frozen=True)
class Graphs:
    """A split of G graphs, one after the other.

    Attributes:
        x: node features (nodes, F).
        edges: directed edges (E, 2), ends counted within their graph, both directions of each.
        nodes: (G,), how many nodes each graph has.
        arcs: (G,), how many directed edges each graph has.
        y: targets (G, …).
    """

    x: Tensor
    edges: Tensor
    nodes: Tensor
    arcs: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, indices: Tensor) -> Batch:
        """A disconnected graph of some graphs.

        ``x`` (n, F), ``edges`` (e, 2) numbered in the batch, ``graph`` (n,) is the place in the
        batch of each node's graph, ``index`` (B,) the place in the split of each graph, ``y`` (B,).
        """
        picked = self.take(indices)
        graph = torch.repeat_interleave(picked.nodes)
        shift = _starts(picked.nodes).repeat_interleave(picked.arcs)
        return {
            "x": picked.x,
            "edges": picked.edges + shift[:, None],
            "graph": graph,
            "index": indices,
            "y": picked.y,
        }

    def take(self, indices: Tensor) -> Graphs:
        """Some of the graphs, in that order."""
        return Graphs(
            self.x[_ranges(self.nodes, indices)],
            self.edges[_ranges(self.arcs, indices)],
            self.nodes[indices],
            self.arcs[indices],
            self.y[indices],
        )

    def labelled(self, y: Tensor) -> Graphs:
        """The same graphs with other targets."""
        return replace(self, y=y)


def gathered(x: Tensor, owner: Tensor, pairs: Tensor, y: Tensor) -> Graphs:
    """Graphs from nodes and edges that are numbered over all of them.

    Args:
        x: node features (nodes, F).
        owner: (nodes,) the graph of each node, in rising order; every graph has a node.
        pairs: directed edges (E, 2), in any order.
        y: targets (G, …).

    Raises:
        ValueError: when nodes are out of order, or an edge joins two graphs.
    """
    nodes = torch.bincount(owner, minlength=len(y))
    if (owner.diff() < 0).any() or len(nodes) != len(y):
        raise ValueError("nodes have to be in the order of their graphs, one target a graph")
    if (owner[pairs[:, 0]] != owner[pairs[:, 1]]).any():
        raise ValueError("an edge joins two graphs")
    pairs = pairs[owner[pairs[:, 0]].argsort(stable=True)]
    of = owner[pairs[:, 0]]
    local = pairs - _starts(nodes)[of][:, None]
    return Graphs(x, local, nodes, torch.bincount(of, minlength=len(y)), y)


def degrees(pairs: Tensor, nodes: int, most: int) -> Tensor:
    """One-hot degrees (nodes, most + 1) of directed edges (E, 2); larger ones count as ``most``."""
    counted = torch.bincount(pairs[:, 0], minlength=nodes).clamp(max=most)
    return torch.nn.functional.one_hot(counted, most + 1).float()


def shaped(output: Tensor) -> Tensor:
    """Outputs (B, C) as losses want them: (B,) where C is 1."""
    return output[:, 0] if output.shape[1] == 1 else output


def _starts(sizes: Tensor) -> Tensor:
    return sizes.cumsum(0) - sizes


def _ranges(sizes: Tensor, indices: Tensor) -> Tensor:
    """Positions of the rows of some groups, of which ``sizes`` has how many rows each has."""
    chosen = sizes[indices]
    first = _starts(sizes)[indices] - _starts(chosen)
    return torch.arange(int(chosen.sum())) + first.repeat_interleave(chosen)
