"""Graphs: reading rules on tiny files with known content, and what the generator promises."""

import pickle
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

pytest.importorskip("torch_geometric")

from experiments.ff_g2m.data import archive, block_model, component, planetoid, rewired, undirected


def write_planetoid(root: Path) -> None:
    """600 known nodes of 2 classes, test ids 600 to 604 in disorder; id 602 has no features."""
    known = sparse.csr_matrix(np.tile([[1.0, 1.0, 0.0, 0.0]], (600, 1)).astype(np.float32))
    labels = np.eye(2, dtype=np.int32)[np.arange(600) % 2]
    test = [604, 600, 603, 601]
    words = sparse.csr_matrix(np.diag([1.0, 2.0, 3.0, 4.0]).astype(np.float32))
    graph = defaultdict(list, {0: [1, 1, 0], 1: [0], 604: [2], 3: [601]})
    parts = {
        "y": labels[:40],
        "tx": words,
        "ty": np.eye(2, dtype=np.int32)[[0, 1, 1, 0]],
        "allx": known,
        "ally": labels,
        "graph": graph,
    }
    for name, content in parts.items():
        (root / f"ind.cora.{name}").write_bytes(pickle.dumps(content, protocol=2))
    (root / "ind.cora.test.index").write_text("\n".join(map(str, test)))


def test_planetoid_puts_test_rows_at_their_nodes(tmp_path):
    write_planetoid(tmp_path)
    graph = planetoid(tmp_path, seed=0, name="cora")
    x = graph.x.to_dense()
    # row i of tx belongs to test.index[i]; rows are divided by their sums
    assert torch.equal(x[[604, 600, 603, 601]], torch.eye(4))
    assert torch.equal(x[602], torch.zeros(4)) and torch.equal(x[0], torch.tensor([0.5, 0.5, 0, 0]))
    assert graph.y[[604, 600, 603, 601]].tolist() == [0, 1, 1, 0]
    assert graph.pairs.T.tolist() == [[0, 1], [2, 604], [3, 601]]
    assert graph.train.tolist() == list(range(40)) and graph.val.tolist() == list(range(40, 540))
    assert graph.test.tolist() == [600, 601, 603, 604]
    assert graph.dims == {"features": 4, "classes": 2, "nodes": 605, "edges": 3}


def test_rows_of_sparse_features_are_those_of_dense_ones(tmp_path):
    write_planetoid(tmp_path)
    graph = planetoid(tmp_path, seed=0, name="cora")
    picked = torch.tensor([601, 0, 601, 604])
    assert torch.equal(graph.rows(picked).to_dense(), graph.x.to_dense()[picked])


def write_archive(
    path: Path, adjacency: sparse.csr_matrix, words: sparse.csr_matrix, classes: int = 3
) -> None:
    arrays = {}
    for kind, matrix in (("adj", adjacency), ("attr", words)):
        for part in ("data", "indices", "indptr", "shape"):
            arrays[f"{kind}_{part}"] = getattr(matrix, part)
    labels = (np.arange(len(words.indptr) - 1) % classes).astype(np.int8)
    names = np.array([f"node {i}" for i in range(len(labels))], dtype=object)  # stored as pickles
    np.savez(path, labels=labels, node_names=names, class_names=names[:classes], **arrays)


def test_component_keeps_the_largest_part_and_splits_it_by_class(tmp_path):
    edges = [(i, i + 1) for i in range(199)] + [(200, 201), (201, 202)]
    adjacency = sparse.csr_matrix((np.ones(len(edges)), np.array(edges).T), (203, 203))
    words = sparse.random(203, 10, 0.3, format="csr", random_state=0)
    write_archive(tmp_path / "g.npz", adjacency, words)
    graph = component(tmp_path, seed=1, file="g.npz")
    assert graph.dims == {"features": 10, "classes": 3, "nodes": 200, "edges": 199}
    assert np.allclose(graph.x.to_dense(), words.toarray()[:200])
    assert torch.bincount(graph.y[graph.train]).tolist() == [20, 20, 20]
    assert torch.bincount(graph.y[graph.val]).tolist() == [30, 30, 30]
    parts = torch.cat([graph.train, graph.val, graph.test])
    assert sorted(parts.tolist()) == list(range(200))
    assert not torch.equal(component(tmp_path, seed=2, file="g.npz").train, graph.train)


def test_archive_keeps_all_nodes_and_splits_them_once(tmp_path):
    adjacency = sparse.random(1700, 1700, 0.002, format="csr", random_state=0)
    words = 2 * sparse.eye(1700, format="csr", dtype=np.float32)
    write_archive(tmp_path / "g.npz", adjacency, words, classes=3)
    graph = archive(tmp_path, seed=1, file="g.npz")
    assert np.array_equal(graph.x.to_dense(), words.toarray())
    assert graph.dims["classes"] == 3 and graph.y[:4].tolist() == [0, 1, 2, 0]
    assert torch.bincount(graph.y[graph.train]).tolist() == [20, 20, 20]
    assert len(graph.val) == 500 and len(graph.test) == 1000
    assert len(torch.cat([graph.train, graph.val, graph.test]).unique()) == 1560
    both = adjacency + adjacency.T
    assert graph.dims["nodes"] == 1700
    assert graph.dims["edges"] == (both.nnz - np.count_nonzero(both.diagonal())) // 2


def test_of_archives_too_a_share_of_the_test_nodes_is_hidden(tmp_path):
    ring = sparse.csr_matrix((np.ones(1700), (np.arange(1700), np.roll(np.arange(1700), 1))))
    write_archive(tmp_path / "g.npz", ring, sparse.eye(1700, format="csr"))
    for load, hidden in ((archive, 200), (component, (1700 - 150) // 5)):
        graph = load(tmp_path, seed=0, file="g.npz", unseen=0.2)
        assert len(graph.unseen) == hidden and torch.isin(graph.unseen, graph.test).all()
        assert len(graph.observed) == len(graph.seen().y) == 1700 - hidden
        assert torch.equal(load(tmp_path, seed=0, file="g.npz").test, graph.test)


def test_undirected_drops_loops_and_duplicates():
    edges = np.array([[3, 1, 1, 2, 0], [1, 3, 3, 2, 4]])
    assert undirected(edges).T.tolist() == [[0, 4], [1, 3]]


def test_rewiring_keeps_degrees_and_forgets_classes():
    graph = block_model(seed=0)
    moved = torch.from_numpy(rewired(graph.pairs.numpy(), np.random.default_rng(0)))
    degrees = [torch.bincount(p.flatten(), minlength=1500) for p in (graph.pairs, moved)]
    assert torch.equal(*degrees)
    same = (graph.y[moved[0]] == graph.y[moved[1]]).double().mean()
    assert float(same) == pytest.approx(0.25, abs=5 * (0.1875 / moved.shape[1]) ** 0.5)


def test_block_model_has_the_stated_homophily_degree_and_split():
    graph = block_model(seed=3)
    same = (graph.y[graph.pairs[0]] == graph.y[graph.pairs[1]]).double().mean()
    assert float(same) == pytest.approx(0.75, abs=0.04)
    assert 2 * graph.dims["edges"] / 1500 == pytest.approx(4.0, abs=0.05)
    assert torch.bincount(graph.y[graph.train]).tolist() == [20] * 4
    assert len(graph.val) == 300 and len(graph.test) == 600
    assert len(torch.cat([graph.train, graph.val, graph.test]).unique()) == 980


def test_boundary_nodes_have_half_their_edges_in_the_next_class():
    graph = block_model(seed=3, boundary=1.0)
    gap = (graph.y[graph.pairs[0]] - graph.y[graph.pairs[1]]) % 4
    assert float((gap == 0).double().mean()) == pytest.approx(0.5, abs=0.05)
    assert not (gap == 2).any()


def test_block_model_is_decided_by_its_seed():
    first, again, other = block_model(seed=1), block_model(seed=1), block_model(seed=2)
    assert torch.equal(first.x, again.x) and torch.equal(first.pairs, again.pairs)
    assert not torch.equal(first.y, other.y)
    assert torch.equal(block_model(seed=1, rewire=True).x, first.x)


def test_block_model_refuses_too_few_nodes():
    with pytest.raises(ValueError, match="too few"):
        block_model(seed=0, nodes=100)
