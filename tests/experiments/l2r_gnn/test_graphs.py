"""Batches against graphs taken one by one, and networks against a dense computation by hand."""

import pytest
import torch

pytest.importorskip("torch_geometric")

from experiments.l2r_gnn.graphs import degrees, gathered
from experiments.l2r_gnn.model import GraphNetwork
from experiments.l2r_gnn.motifs import motifs
from harness.seeding import seed_all

NETWORKS = {
    "gin": {},
    "gcn": {"convolution": "gcn"},
    "sgc": {"convolution": "sgc"},
    "pna": {"convolution": "pna"},
    "jknet": {"jump": True},
    "topk": {"keep": "topk"},
    "sag": {"keep": "sag"},
    "mean": {"pooling": "mean"},
}


def three():
    """A triangle, a single node and a path of three nodes, edges in no order."""
    owner = torch.tensor([0, 0, 0, 1, 2, 2, 2])
    one_way = torch.tensor([[4, 5], [0, 1], [5, 6], [1, 2], [0, 2]])
    x = torch.arange(14.0).view(7, 2)
    return gathered(x, owner, torch.cat([one_way, one_way.flip(1)]), torch.tensor([0, 1, 1]))


def test_a_batch_holds_its_graphs_in_its_own_numbering():
    batch = three()[torch.tensor([2, 0])]
    assert batch["x"].tolist() == [[8, 9], [10, 11], [12, 13], [0, 1], [2, 3], [4, 5]]
    found = {tuple(edge) for edge in batch["edges"].tolist()}
    path, triangle = {(0, 1), (1, 2)}, {(3, 4), (4, 5), (3, 5)}
    assert found == path | triangle | {(j, i) for i, j in path | triangle}
    assert batch["graph"].tolist() == [0, 0, 0, 1, 1, 1]
    assert batch["index"].tolist() == [2, 0] and batch["y"].tolist() == [1, 0]


def test_taken_graphs_are_batched_like_the_originals():
    graphs = three()
    order = torch.tensor([2, 1, 0])
    one, two = graphs[order], graphs.take(order)[torch.arange(3)]
    assert all(torch.equal(one[name], two[name]) for name in one if name != "index")


@pytest.mark.parametrize(
    ("owner", "pairs"), [([0, 1, 0], [[0, 2]]), ([0, 0, 1], [[0, 2]]), ([0, 0, 2], [[0, 1]])]
)
def test_what_are_no_graphs_is_refused(owner, pairs):
    with pytest.raises(ValueError):
        gathered(torch.zeros(3, 1), torch.tensor(owner), torch.tensor(pairs), torch.zeros(2))


def test_degrees_are_one_hot_and_large_ones_alike():
    pairs = torch.tensor([[0, 1], [0, 2], [0, 3], [1, 0]])
    assert degrees(pairs, 5, 2).argmax(1).tolist() == [2, 1, 0, 0, 0]


@pytest.mark.parametrize("settings", NETWORKS.values(), ids=NETWORKS)
def test_a_graph_is_read_alike_alone_and_in_company(settings):
    graphs = motifs(0, train=6, val=2, test=2).train
    seed_all(0)
    network = GraphNetwork(12, 2, hidden=8, **settings).eval()
    order = torch.tensor([4, 0, 2])
    together = network.represent(*columns(graphs[order]))
    alone = [network.represent(*columns(graphs[i[None]])) for i in order]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)
    assert network(*columns(graphs[order])).shape == (3, 2)


@pytest.mark.parametrize("settings", NETWORKS.values(), ids=NETWORKS)
def test_the_order_of_nodes_does_not_matter(settings):
    graphs = motifs(1, train=2, val=2, test=2).train
    x, edges, graph = columns(graphs[torch.tensor([1])])
    seed_all(1)
    network = GraphNetwork(12, 2, hidden=8, **settings).eval()
    order = torch.randperm(len(x))
    moved = network.represent(x[order], order.argsort()[edges], graph)
    torch.testing.assert_close(moved, network.represent(x, edges, graph), rtol=1e-4, atol=1e-5)


def test_gin_is_its_equation():
    """Z = Σ_nodes ReLU(BN(MLP((1 + ε) h + A h))) with a dense A."""
    x, edges, graph = columns(three()[torch.tensor([0])])
    seed_all(2)
    network = GraphNetwork(2, 1, hidden=4, layers=1).eval()
    layer, norm = network.layers[0], network.norms[0]
    layer.eps.data.fill_(0.3)
    adjacency = torch.zeros(3, 3)
    adjacency[edges[:, 0], edges[:, 1]] = 1
    expected = norm(layer.nn(1.3 * x + adjacency @ x)).relu().sum(0)
    torch.testing.assert_close(network.represent(x, edges, graph)[0], expected)
    assert network(x, edges, graph).shape == (1,)


def test_mean_pooling_divides_by_the_nodes():
    batch = columns(three()[torch.tensor([0, 1])])
    seed_all(3)
    total, mean = GraphNetwork(2, 2, hidden=4).eval(), GraphNetwork(2, 2, 4, pooling="mean").eval()
    mean.load_state_dict(total.state_dict())
    sizes = torch.tensor([[3.0], [1.0]])
    torch.testing.assert_close(mean.represent(*batch) * sizes, total.represent(*batch))


def columns(batch):
    return batch["x"], batch["edges"], batch["graph"]
