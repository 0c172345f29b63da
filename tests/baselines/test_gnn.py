"""Graph networks against dense matrix products, and their sparse inputs against dense ones."""

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("torch_geometric")

from baselines.dropout import dropout
from baselines.gnn import GAT, GCN, GraphSAGE, mean_propagation, sparse_matrix

# a path 0-1-2-3 with the chord 0-2, and the isolated node 4
PAIRS = torch.tensor([[0, 1, 2, 0], [1, 2, 3, 2]])
NODES = 5


def adjacency() -> torch.Tensor:
    dense = torch.zeros(NODES, NODES)
    dense[PAIRS[0], PAIRS[1]] = 1
    return dense + dense.T


def features() -> torch.Tensor:
    x = torch.randn(NODES, 6, generator=torch.Generator().manual_seed(0))
    return x.masked_fill(x < 0, 0)


def test_gcn_is_the_dense_product_of_kipf_and_welling():
    torch.manual_seed(0)
    model, x = GCN(6, 3, hidden=8, layers=3).eval(), features()
    loops = adjacency() + torch.eye(NODES)
    scale = torch.diag(loops.sum(1).rsqrt())
    expected = x
    for index, layer in enumerate(model.layers):
        expected = scale @ loops @ scale @ expected @ layer.lin.weight.T + layer.bias
        expected = expected.relu() if index < 2 else expected
    assert torch.allclose(model(x, GCN.operator(PAIRS, NODES)), expected, atol=1e-6)


def test_graphsage_means_over_neighbours_and_the_node_counted_twice():
    torch.manual_seed(0)
    model, x = GraphSAGE(6, 3, layers=1).eval(), features()
    weights = adjacency() + 2 * torch.eye(NODES)
    mean = weights / weights.sum(1, keepdim=True)
    layer = model.layers[0]
    expected = mean @ x @ layer.lin.weight.T + layer.bias
    assert torch.allclose(model(x, GraphSAGE.operator(PAIRS, NODES)), expected, atol=1e-6)


def test_gat_weighs_neighbours_by_a_softmax_of_its_scores():
    torch.manual_seed(0)
    model, x = GAT(6, 3, hidden=4, layers=2, heads=2).eval(), features()
    layer = model.layers[-1]
    hidden = model.layers[0](x, GAT.operator(PAIRS, NODES)).relu()
    z = hidden @ layer.lin.weight.T
    score = (z @ layer.att_dst[0, 0])[:, None] + (z @ layer.att_src[0, 0])[None, :]
    score = F.leaky_relu(score, 0.2)
    score = score.masked_fill(adjacency() + torch.eye(NODES) == 0, -torch.inf)
    expected = score.softmax(1) @ z + layer.bias
    assert torch.allclose(model(x, GAT.operator(PAIRS, NODES)), expected, atol=1e-5)


@pytest.mark.parametrize("network", [GCN, GraphSAGE, GAT])
def test_sparse_features_give_the_logits_and_gradients_of_dense_ones(network):
    torch.manual_seed(0)
    model, x = network(6, 3, hidden=8).eval(), features()
    operator = network.operator(PAIRS, NODES)
    gradients = []
    for layout in (x, x.to_sparse_csr()):
        model.zero_grad()
        output = model(layout, operator)
        output.square().sum().backward()
        gradients.append([output, *(p.grad.clone() for p in model.parameters())])
    for dense, sparse in zip(*gradients, strict=True):
        assert torch.allclose(dense, sparse, atol=1e-5)


@pytest.mark.parametrize("network", [GCN, GraphSAGE, GAT])
def test_networks_are_equivariant_to_the_order_of_nodes(network):
    torch.manual_seed(0)
    model, x = network(6, 3, hidden=8).eval(), features()
    order = torch.tensor([3, 0, 4, 2, 1])
    place = torch.argsort(order)
    expected = model(x, network.operator(PAIRS, NODES))[order]
    moved = model(x[order], network.operator(place[PAIRS], NODES))
    assert torch.allclose(moved, expected, atol=1e-6)


def test_means_keep_constants_also_at_isolated_nodes():
    ones = torch.ones(NODES, 2)
    assert torch.allclose(mean_propagation(PAIRS, NODES) @ ones, ones)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="3 heads do not divide 64"):
        GAT(6, 3, heads=3)


def test_dropout_keeps_the_mean_and_drops_the_stated_share():
    torch.manual_seed(0)
    x = torch.full((400, 500), 2.0)
    kept = dropout(x, 0.3, training=True)
    assert kept.unique().tolist() == pytest.approx([0, 2 / 0.7])
    assert float((kept == 0).double().mean()) == pytest.approx(0.3, abs=5 * (0.21 / 200_000) ** 0.5)
    assert dropout(x, 0.3, training=False) is x


def test_dropout_of_sparse_features_touches_stored_values_only():
    torch.manual_seed(0)
    x = sparse_matrix(torch.arange(50), torch.arange(50), torch.ones(50), (50, 50))
    kept = dropout(x, 0.5, training=True).to_dense()
    assert set(kept.diagonal().tolist()) == {0.0, 2.0}
    assert float(kept.sum() - kept.diagonal().sum()) == 0
