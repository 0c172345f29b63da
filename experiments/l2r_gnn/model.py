"""Graph networks that read a batch of graphs: GIN, GCN, SGC, PNA, JKNet, TopKPool and SAGPool.

All have Z = ``represent(…)``, one row a graph, and a linear classifier on it, which is what the
weights of the paper are learned for. Layers are those of torch_geometric.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch_geometric.nn import (
    GCNConv,
    GINConv,
    PNAConv,
    SAGPooling,
    SGConv,
    TopKPooling,
)

from experiments.l2r_gnn.graphs import shaped

Convolution = Literal["gin", "gcn", "sgc", "pna"]


class GraphNetwork(nn.Module):
    """Layers h ← ReLU(BN(conv(h))), nodes pooled into Z, and logits ``head(Z)``.

    Args:
        features: F, of a node.
        outputs: C classes, or 1 for a regression, whose output is (B,).
        hidden: d, coordinates of Z and of every layer.
        layers: of convolution.
        convolution: ``gin`` (Xu et al. 2019), ``gcn`` (Kipf & Welling 2017), ``sgc`` (Wu et al.
            2019: one linear layer on ``layers`` propagations) or ``pna`` (Corso et al. 2020).
        pooling: of the nodes of a graph.
        jump: Z is a linear map of all layers' pooled nodes (JKNet with concatenation).
        keep: which nodes go on after each layer, the best ``ratio`` by a learned score:
            ``topk`` (Gao & Ji 2019) or ``sag`` (Lee et al. 2019); Z is the sum over layers then.
        ratio: of nodes that ``keep`` leaves.
    """

    def __init__(
        self,
        features: int,
        outputs: int,
        hidden: int = 32,
        layers: int = 3,
        convolution: Convolution = "gin",
        pooling: Literal["sum", "mean"] = "sum",
        jump: bool = False,
        keep: Literal["topk", "sag"] | None = None,
        ratio: float = 0.8,
    ) -> None:
        super().__init__()
        count = 1 if convolution == "sgc" else layers
        widths = [features, *[hidden] * count]
        self.convolution, self.pooling, self.outputs = convolution, pooling, outputs
        self.layers = nn.ModuleList(_layer(convolution, i, o, layers) for i, o in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden) for _ in range(count))
        selection = SAGPooling if keep == "sag" else TopKPooling
        self.selections = nn.ModuleList(
            selection(hidden, ratio=ratio) for _ in range(count if keep else 0)
        )
        self.jump = nn.Linear(count * hidden, hidden) if jump else None
        self.head = nn.Linear(hidden, outputs)

    def represent(self, x: Tensor, edges: Tensor, graph: Tensor) -> Tensor:
        """Z (B, d) of a batch of :class:`~experiments.l2r_gnn.graphs.Graphs`."""
        arcs, graphs = edges.T, int(graph[-1]) + 1
        pooled = []
        for index, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            x = norm(layer(x, arcs))
            x = x if self.convolution == "sgc" else x.relu()
            if self.selections:
                x, arcs, _, graph, _, _ = self.selections[index](x, arcs, batch=graph)
            pooled.append(self._pooled(x, graph, graphs))
        if self.jump is not None:
            return self.jump(torch.cat(pooled, 1))  # type: ignore[no-any-return]
        return torch.stack(pooled).sum(0) if self.selections else pooled[-1]

    def classify(self, z: Tensor) -> Tensor:
        """Logits (B, C) of representations, or (B,) where there is one output."""
        return shaped(self.head(z))

    def forward(self, x: Tensor, edges: Tensor, graph: Tensor) -> Tensor:
        return self.classify(self.represent(x, edges, graph))

    def _pooled(self, x: Tensor, graph: Tensor, graphs: int) -> Tensor:
        total = x.new_zeros(graphs, x.shape[1]).index_add(0, graph, x)
        if self.pooling == "sum":
            return total
        return total / torch.bincount(graph, minlength=graphs)[:, None]


def _layer(convolution: Convolution, inputs: int, outputs: int, hops: int) -> nn.Module:
    if convolution == "gin":
        hidden = nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()
        layer: nn.Module = GINConv(
            nn.Sequential(*hidden, nn.Linear(outputs, outputs)), train_eps=True
        )
    elif convolution == "pna":
        # The histogram only sets the degree whose scale is 1: graphs here have about 2 or 3.
        layer = PNAConv(
            inputs,
            outputs,
            aggregators=["mean", "min", "max", "std"],
            scalers=["identity", "amplification", "attenuation"],
            deg=torch.tensor([0, 1, 1, 1, 1]),
        )
    elif convolution == "gcn":
        layer = GCNConv(inputs, outputs)
    else:
        layer = SGConv(inputs, outputs, K=hops)
    return layer
