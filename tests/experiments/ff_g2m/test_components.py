"""The largest component of a Planetoid graph, and its split by class."""

import os
from pathlib import Path

import pytest
import torch

pytest.importorskip("torch_geometric")

from baselines.gnn import sparse_matrix
from experiments.ff_g2m import components
from experiments.ff_g2m.components import planetoid_component
from experiments.ff_g2m.data import Graph


def two_parts() -> Graph:
    """A chain of 200 nodes, every other one of 400, and a chain of three; halves for words."""
    chain = torch.arange(0, 400, 2)
    pairs = torch.cat([torch.stack([chain[:-1], chain[1:]]), torch.tensor([[1, 3], [3, 5]])], 1)
    nodes = torch.arange(400)
    x = sparse_matrix(nodes, nodes % 7, torch.full((400,), 0.5), (400, 7))
    return Graph(x, nodes // 2 % 4, pairs, nodes[:3], nodes[3:5], nodes[5:])


def test_it_keeps_the_largest_part_and_splits_it_by_class(monkeypatch) -> None:
    monkeypatch.setattr(components, "planetoid", lambda root, seed, name: two_parts())
    graph = planetoid_component(Path(), seed=1, name="cora")
    assert graph.dims == {"features": 7, "classes": 4, "nodes": 200, "edges": 199}
    ends = sorted(sorted(pair) for pair in graph.pairs.T.tolist())
    assert ends == [[i, i + 1] for i in range(199)]
    x = graph.x.to_dense()
    assert torch.equal(x.argmax(1), torch.arange(0, 400, 2) % 7) and (x.sum(1) == 1).all()
    assert torch.equal(graph.y, torch.arange(200) % 4)
    assert torch.bincount(graph.y[graph.train]).tolist() == [20] * 4
    assert torch.bincount(graph.y[graph.val]).tolist() == [30] * 4
    parts = torch.cat([graph.train, graph.val, graph.test])
    assert sorted(parts.tolist()) == list(range(200)) and len(graph.test) == 0
    other = planetoid_component(Path(), seed=2, name="cora")
    assert not torch.equal(other.train, graph.train)


@pytest.mark.skipif(not os.environ.get("HARNESS_DATA"), reason="needs Planetoid's files")
@pytest.mark.parametrize(
    ("name", "nodes", "edges"), [("cora", 2485, 5069), ("citeseer", 2120, 3679)]
)
def test_the_real_ones_have_the_published_sizes(name, nodes, edges) -> None:
    root = Path(os.environ["HARNESS_DATA"]) / "planetoid"
    graph = planetoid_component(root, seed=0, name=name)
    assert (graph.dims["nodes"], graph.dims["edges"]) == (nodes, edges)
    assert len(graph.test) == nodes - 50 * graph.dims["classes"]
