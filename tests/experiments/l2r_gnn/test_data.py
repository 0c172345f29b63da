"""Generated graphs against networkx, real formats on small files that the tests write."""

import networkx as nx
import numpy as np
import pytest
import torch

pytest.importorskip("torch_geometric")

from experiments.l2r_gnn.data import TARGET, by_size, esol, read_tu
from experiments.l2r_gnn.molecules import ATOMS, parsed, scaffold_split, scaffolds
from experiments.l2r_gnn.motifs import MOTIF, STAR, WHEEL, motifs


def network(graphs, i):
    batch = graphs[torch.tensor([i])]
    found = nx.Graph()
    found.add_nodes_from(range(len(batch["x"])))
    found.add_edges_from(batch["edges"].tolist())
    return found


def test_motifs_are_wheels_and_stars():
    assert nx.is_isomorphic(nx.Graph(WHEEL.tolist()), nx.wheel_graph(MOTIF))
    assert nx.is_isomorphic(nx.Graph(STAR.tolist()), nx.star_graph(MOTIF - 1))


def test_graphs_hold_what_their_label_says():
    """Without further edges a wheel is there iff the label is 1, and all else hangs together."""
    data = motifs(3, train=30, val=2, test=2, extra=0)
    for i in range(30):
        graph = network(data.train, i)
        assert nx.is_connected(graph) and 29 <= len(graph) <= 39
        first = graph.subgraph(range(MOTIF))
        wheel = nx.is_isomorphic(first, nx.wheel_graph(MOTIF))
        assert wheel == bool(data.train.y[i])
        star = nx.is_isomorphic(graph.subgraph(range(MOTIF, 2 * MOTIF)), nx.star_graph(MOTIF - 1))
        if not bool(data.rare[i]):
            assert star or not wheel
        rest = graph.subgraph(range(2 * MOTIF, len(graph)))
        assert nx.is_tree(rest)


def test_stars_go_with_labels_in_training_and_not_in_the_test():
    data = motifs(0, bias=0.8, train=2000, val=500, test=2000, extra=0)
    assert float(data.rare.float().mean()) == pytest.approx(0.2, abs=0.03)

    def starred(graphs):
        """Star hubs: all six edges within the motif end in leaves of it (a tree may be one)."""
        shift = torch.cat([torch.zeros(1, dtype=torch.long), graphs.arcs.cumsum(0)[:-1]])
        of = torch.repeat_interleave(graphs.arcs)
        low, high = graphs.edges.amin(1), graphs.edges.amax(1)
        inner = (low == MOTIF) & (high < 2 * MOTIF)
        assert len(shift) == len(graphs)
        return torch.bincount(of[inner], minlength=len(graphs)) == 12

    def phi(graphs):
        pair = torch.stack([starred(graphs), graphs.y]).double()
        return float(torch.corrcoef(pair)[0, 1])

    assert phi(data.train) > 0.5 and phi(data.val) > 0.45 and phi(data.tests["alike"]) > 0.5
    assert abs(phi(data.test)) < 0.07 and phi(data.tests["reversed"]) < -0.5


def test_splits_are_different_graphs_and_seeds_different_data():
    one, two = motifs(0, train=40, val=40, test=40), motifs(1, train=40, val=40, test=40)
    seen = [one.train, one.val, one.test, *one.tests.values(), two.train]
    keys = {(tuple(s.nodes.tolist()), tuple(s.arcs.tolist())) for s in seen}
    assert len(keys) == len(seen)


def test_shuffled_labels_are_the_same_labels_and_tests_are_untouched():
    plain, shuffled = (motifs(0, train=60, val=9, test=9, shuffled=s) for s in (False, True))
    assert torch.equal(plain.train.x, shuffled.train.x)
    assert not torch.equal(plain.train.y, shuffled.train.y)
    assert plain.train.y.sum() == shuffled.train.y.sum()
    assert torch.equal(plain.test.y, shuffled.test.y)


def test_sizes_of_tests_and_targets_of_regression():
    data = motifs(0, train=50, val=5, test=50, test_size=(40, 60), regression=True)
    assert data.train.nodes.max() <= 39 < 54 <= data.test.nodes.min()
    assert data.train.y.dtype == torch.float32 and data.dims["outputs"] == 1
    left = data.train.y - 0.1 * data.train.nodes
    assert set(left.round().tolist()) <= {0.0, 2.0}


# Files


def written(folder, labelled=True):
    """Six graphs: paths of 2, 3, 4, 5, 6 and 7 nodes, classes -1 and 1 in turns."""
    folder.mkdir()
    rows, owner, first = [], [], 1
    for graph, nodes in enumerate(range(2, 8), 1):
        rows += [f"{i}, {i + 1}\n{i + 1}, {i}" for i in range(first, first + nodes - 1)]
        owner += [graph] * nodes
        first += nodes
    name = folder.name
    (folder / f"{name}_A.txt").write_text("\n".join(rows))
    (folder / f"{name}_graph_indicator.txt").write_text("\n".join(map(str, owner)))
    (folder / f"{name}_graph_labels.txt").write_text("-1\n1\n" * 3)
    if labelled:
        kinds = "\n".join(str(2 * (i % 2)) for i in range(len(owner)))
        (folder / f"{name}_node_labels.txt").write_text(kinds)


def test_tu_files_are_read(tmp_path):
    written(tmp_path / "P")
    graphs = read_tu(tmp_path / "P", "P")
    assert graphs.nodes.tolist() == [2, 3, 4, 5, 6, 7] and graphs.y.tolist() == [0, 1] * 3
    assert nx.is_isomorphic(network(graphs, 3), nx.path_graph(5))
    assert graphs.x[:3].tolist() == [[1, 0], [0, 1], [1, 0]]


def test_without_node_labels_degrees_are_features(tmp_path):
    written(tmp_path / "P", labelled=False)
    x = read_tu(tmp_path / "P", "P", most=4).x
    assert x.shape[1] == 5 and x[:5].argmax(1).tolist() == [1, 1, 1, 2, 1]


def test_training_graphs_are_small_and_all_others_are_tested(tmp_path):
    written(tmp_path / "P")
    data = by_size(tmp_path, "P", nodes=5, train=3, held_out=0.34)
    train, val, test = (set(s.nodes.tolist()) for s in (data.train, data.val, data.test))
    assert len(train) == 2 and len(val) == 1 and train | val < {2, 3, 4, 5}
    assert train | val | test == set(range(2, 8)) and len(test) == 3
    assert sorted(data.tests["large"].nodes.tolist()) == [6, 7]
    with pytest.raises(ValueError, match="4 graphs"):
        by_size(tmp_path, "P", nodes=5, train=5)


def bonds(smiles):
    atoms, found = parsed(smiles)
    return [ATOMS[a] for a in atoms], [(min(i, j), max(i, j), k) for i, j, k in found]


def test_molecules_are_parsed():
    assert bonds("CC(=O)N#C") == (
        ["C", "C", "O", "N", "C"],
        [(0, 1, 0), (1, 2, 1), (1, 3, 0), (3, 4, 2)],
    )
    atoms, ring = bonds("c1cc[nH]c1Cl")
    assert atoms == ["c", "c", "c", "[nH]", "c", "Cl"]
    assert sorted(ring) == [(0, 1, 3), (0, 4, 3), (1, 2, 3), (2, 3, 3), (3, 4, 3), (4, 5, 0)]
    assert bonds("C1CC=1")[1][-1] == (0, 2, 1)
    assert bonds("Br/C=C\\F")[1] == [(0, 1, 0), (1, 2, 1), (2, 3, 0)]


@pytest.mark.parametrize("smiles", ["C[N+]C", "C1CC", "C(C", "CC)C", "C%10C"])
def test_what_is_no_such_molecule_is_refused(smiles):
    with pytest.raises(ValueError):
        parsed(smiles)


def scaffold_of(*smiles):
    molecules = [parsed(text) for text in smiles]
    sizes = [len(atoms) for atoms, _ in molecules]
    starts = np.cumsum(sizes) - sizes
    pairs = [
        (i + s, j + s)
        for s, (_, found) in zip(starts, molecules, strict=True)
        for a, b, _ in found
        for i, j in ((a, b), (b, a))
    ]
    atoms = np.concatenate([atoms for atoms, _ in molecules])
    owner = np.repeat(np.arange(len(sizes)), sizes)
    return scaffolds(atoms, owner, np.array(pairs)).tolist()


def test_scaffolds_are_rings_and_what_joins_them():
    found = scaffold_of(
        "CCc1ccccc1", "c1ccccc1O", "CCCC", "c1ccncc1", "c1ccccc1CCc1ccccc1", "c1ccccc1Cc1ccccc1"
    )
    assert found[0] == found[1] and found[2] == 0
    assert len(set(found)) == 5


def test_whole_scaffolds_are_held_out_the_most_frequent_ones_first():
    scaffold = np.array([9] * 6 + [8] * 2 + [7, 6])
    train, val, test = scaffold_split(scaffold)
    assert train.tolist() == list(range(8)) and val.tolist() == [9] and test.tolist() == [8]


def test_esol_is_read(tmp_path):
    molecules = ["CCO ", "c1ccccc1"] * 8 + ["C1CC1", "C1CCC1", "C1CCCC1", "C1CCCCC1"]
    rows = [f"{i / 2},{text}" for i, text in enumerate(molecules)]
    table = "\n".join([f"{TARGET},smiles", *rows])
    (tmp_path / "delaney-processed.csv").write_text(table)
    data = esol(tmp_path)
    assert [len(s) for s in (data.train, data.val, data.test)] == [16, 2, 2]
    assert data.train.y[:3].tolist() == [0, 0.5, 1]
    ethanol = data.train[torch.tensor([0])]
    assert ethanol["x"][:, ATOMS.index("O")].tolist() == [0, 0, 1]
    assert ethanol["x"][:, -4].tolist() == [1, 2, 1]  # single bonds
    assert data.train[torch.tensor([1])]["x"][:, -1].tolist() == [2] * 6  # aromatic ones
    other = esol(tmp_path, shuffled=True)
    assert sorted(other.train.y.tolist()) == sorted(data.train.y.tolist())
    assert torch.equal(other.test.y, data.test.y)
