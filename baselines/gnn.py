"""Graph networks for node classification: GCN, GraphSAGE ('gcn' aggregation) and GAT.

Each network takes node features and what its class method ``operator`` made of the graph once:
a sparse propagation matrix or a list of edges. Features may be a sparse CSR matrix, which makes
the first product of a bag of words several times cheaper than the dense one.
"""

from __future__ import annotations

import warnings
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv

from baselines.dropout import dropout


def sparse_matrix(rows: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    """A CSR matrix from coordinates; values at equal coordinates are added."""
    with warnings.catch_warnings():  # torch warns that CSR is in beta and its checks are off
        warnings.filterwarnings("ignore", message="Sparse ")
        coordinates = torch.stack([rows, columns])
        return torch.sparse_coo_tensor(coordinates, values, size).coalesce().to_sparse_csr()


def with_loops(pairs: Tensor, nodes: int) -> Tensor:
    """Both directions of undirected ``pairs`` (2, E) and a loop at each node: (2, 2E + N)."""
    loops = torch.arange(nodes, device=pairs.device).expand(2, -1)
    return torch.cat([pairs, pairs.flip(0), loops], dim=1)


def symmetric_propagation(pairs: Tensor, nodes: int) -> Tensor:
    """``D^-1/2 (A + I) D^-1/2`` with ``D`` the degrees of ``A + I`` (Kipf & Welling, eq. 2)."""
    rows, columns = with_loops(pairs, nodes)
    scale = torch.bincount(rows, minlength=nodes).float().rsqrt()
    return sparse_matrix(rows, columns, scale[rows] * scale[columns], (nodes, nodes))


def mean_propagation(pairs: Tensor, nodes: int, loops: int = 1) -> Tensor:
    """Row-stochastic ``(D + loops I)^-1 (A + loops I)``, ``D`` the degrees of ``A``."""
    rows, columns = with_loops(pairs, nodes)
    weights = torch.where(rows == columns, float(loops), 1.0)
    degrees = torch.zeros(nodes, device=pairs.device).index_add_(0, rows, weights)
    return sparse_matrix(rows, columns, weights / degrees[rows], (nodes, nodes))


class GCN(nn.Module):
    """``H' = ReLU(P H W + b)`` with dropout after each hidden layer; the last layer is linear.

    ``P`` is the symmetrically normalised adjacency with loops.

    Args:
        features: F, input features of a node.
        classes: C, outputs of a node.
        hidden: width of each hidden layer.
        layers: number of propagations, at least 1.
        dropout: probability after each hidden layer.
    """

    def __init__(
        self, features: int, classes: int, hidden: int = 64, layers: int = 2, dropout: float = 0.5
    ) -> None:
        super().__init__()
        widths = [features, *[hidden] * (layers - 1), classes]
        self.dropout = dropout
        self.layers = nn.ModuleList(
            GCNConv(i, o, normalize=False, add_self_loops=False) for i, o in pairwise(widths)
        )

    @classmethod
    def operator(cls, pairs: Tensor, nodes: int) -> Tensor:
        """The propagation matrix (N, N) of undirected ``pairs`` (2, E) without loops."""
        return symmetric_propagation(pairs, nodes)

    def forward(self, x: Tensor, operator: Tensor) -> Tensor:
        """Logits (N, C) of features ``x`` (N, F), dense or CSR."""
        for layer in self.layers[:-1]:
            x = dropout(layer(x, operator).relu(), self.dropout, self.training)
        return self.layers[-1](x, operator)  # type: ignore[no-any-return]


class GraphSAGE(GCN):
    """GraphSAGE with 'gcn' aggregation: one weight for the mean over neighbours and the node.

    Like DGL's layer on a graph that has loops already, the node itself counts twice.
    """

    @classmethod
    def operator(cls, pairs: Tensor, nodes: int) -> Tensor:
        return mean_propagation(pairs, nodes, loops=2)


class GAT(nn.Module):
    """Graph attention with several concatenated heads, ReLU, and a single head as last layer.

    Args:
        features: F, input features of a node.
        classes: C, outputs of a node.
        hidden: width of each hidden layer, over all heads.
        layers: number of attention layers, at least 2.
        dropout: probability on each layer's input.
        heads: of each hidden layer; divides ``hidden``.
        attention_dropout: probability on the attention weights.

    Raises:
        ValueError: when ``heads`` does not divide ``hidden``.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        hidden: int = 64,
        layers: int = 2,
        dropout: float = 0.5,
        heads: int = 4,
        attention_dropout: float = 0.3,
    ) -> None:
        super().__init__()
        if hidden % heads:
            raise ValueError(f"{heads} heads do not divide {hidden} hidden units")
        widths = [features, *[hidden] * (layers - 1)]
        self.dropout = dropout
        self.layers = nn.ModuleList(
            _attention(width, hidden // heads, heads, attention_dropout) for width in widths[:-1]
        )
        self.layers.append(_attention(widths[-1], classes, 1, attention_dropout))

    @classmethod
    def operator(cls, pairs: Tensor, nodes: int) -> Tensor:
        """Directed edges with loops (2, 2E + N) of undirected ``pairs`` (2, E)."""
        return with_loops(pairs, nodes)

    def forward(self, x: Tensor, operator: Tensor) -> Tensor:
        """Logits (N, C) of features ``x`` (N, F), dense or CSR."""
        for layer in self.layers[:-1]:
            x = layer(dropout(x, self.dropout, self.training), operator).relu()
        return self.layers[-1](dropout(x, self.dropout, self.training), operator)  # type: ignore[no-any-return]


def _attention(features: int, units: int, heads: int, dropout: float) -> GATConv:
    return GATConv(features, units, heads, dropout=dropout, add_self_loops=False)
