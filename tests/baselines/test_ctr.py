"""Click models: equations against loops and other layers, and published parameter counts."""

from itertools import combinations

import pytest
import torch
from torch import nn

from baselines.ctr import (
    DCN,
    DNN,
    FM,
    AutoIntPlus,
    DCNv2,
    DeepFM,
    FeatureEmbedding,
    FieldAttention,
    MatrixCross,
    VectorCross,
    penalised_squares,
    perceptron,
    second_order,
)

# Rows of the embedding table in the published runs of the baselines (without padding rows)
FRAPPE = {"rows": 5389, "fields": 10}
MOVIELENS = {"rows": 90239, "fields": 3}
CRITEO = {"rows": 2086316, "fields": 39, "numeric": 13}
COUNTS = [
    (FM, {"rows": 5389}, 59280),
    (FM, {"rows": 90239}, 992630),
    (DeepFM, FRAPPE, 423280),
    (DeepFM, CRITEO, 23429477),
    (DCN, FRAPPE, 418591),
    (DCN, {**MOVIELENS, "cross_layers": 4}, 1238661),
    (DCNv2, {**FRAPPE, "cross_layers": 4}, 458391),
    (DCNv2, {**CRITEO, "batch_norm": False, "hidden": (500, 500, 500)}, 22018021),
    (AutoIntPlus, {**FRAPPE, "attention_layers": 5}, 622180),
    (AutoIntPlus, {**MOVIELENS, "wide": True}, 1383799),
    (
        AutoIntPlus,
        {**CRITEO, "attention": 256, "attention_layers": 3, "heads": 2, "wide": True},
        23844454,
    ),
]
MODELS = [DNN, DeepFM, DCN, DCNv2, AutoIntPlus]


@pytest.mark.parametrize(("model", "settings", "published"), COUNTS)
def test_parameters_are_as_many_as_published(model, settings, published):
    with torch.device("meta"):
        assert sum(p.numel() for p in model(**settings).parameters()) == published


@pytest.mark.parametrize("model", MODELS)
def test_a_logit_depends_on_its_own_example_and_all_its_fields(model):
    torch.manual_seed(0)
    net = model(rows=12, fields=4, numeric=1).eval()
    nn.init.normal_(net.embedding.table)  # from 1e-4, differences would drown in rounding
    ids, numbers = torch.tensor([[1, 5, 9], [2, 6, 10]]), torch.randn(2, 1)
    logits = net(ids, numbers)
    assert logits.shape == (2,)
    assert torch.allclose(net(ids.flip(0), numbers.flip(0)), logits.flip(0), atol=1e-5)
    for field in range(3):
        changed = ids.clone()
        changed[0, field] += 1
        other = net(changed, numbers)
        assert not torch.isclose(other[0], logits[0], atol=1e-5)
        assert torch.isclose(other[1], logits[1], atol=1e-5)
    assert not torch.isclose(net(ids, numbers + 1)[0], logits[0], atol=1e-5)


def test_second_order_is_the_sum_over_pairs():
    e = torch.randn(3, 5, 4)
    pairs = sum((e[:, i] * e[:, j]).sum(1) for i, j in combinations(range(5), 2))
    assert torch.allclose(second_order(e), pairs, atol=1e-5)


def test_fm_adds_bias_weights_and_pairs():
    net = FM(rows=6, numeric=1, dimension=3)
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    ids, numbers = torch.tensor([[1, 4]]), torch.tensor([[0.5]])
    w, v = net.weights.table, net.embedding.table
    a, b, c = 0.5 * v[0], v[1], v[4]
    expected = net.bias + 0.5 * w[0] + w[1] + w[4] + (a @ b + a @ c + b @ c)
    assert torch.allclose(net(ids, numbers), expected)


def test_deepfm_without_its_perceptron_is_fm():
    torch.manual_seed(0)
    deep, plain = DeepFM(rows=6, fields=2, dimension=3).eval(), FM(rows=6, dimension=3)
    nn.init.normal_(plain.embedding.table)
    nn.init.zeros_(deep.deep[-1].weight)
    deep.embedding, deep.weights = plain.embedding, plain.weights
    ids = torch.tensor([[0, 3], [2, 5]])
    assert torch.allclose(deep(ids), plain(ids))


def test_vector_cross_by_hand():
    cross = VectorCross(3, 2)
    nn.init.normal_(cross.biases)
    x0 = torch.randn(4, 3)
    x = x0
    for layer in range(2):
        outer = x0[:, :, None] * x[:, None, :]  # x_0 x_l^T, as the paper writes it
        x = outer @ cross.weights[layer].weight[0] + cross.biases[layer] + x
    assert torch.allclose(cross(x0), x, atol=1e-5)


def test_matrix_cross_by_hand():
    cross = MatrixCross(3, 2)
    x0 = torch.randn(4, 3)
    x = x0
    for layer in cross.maps:
        nn.init.normal_(layer.bias)
        x = x0 * (x @ layer.weight.T + layer.bias) + x
    assert torch.allclose(cross(x0), x, atol=1e-5)


@pytest.mark.parametrize("inputs", [8, 5])
def test_field_attention_is_multi_head_attention_with_a_residual(inputs):
    ours = FieldAttention(inputs, 8, heads=2, scale=True, dropout=0.0)
    theirs = nn.MultiheadAttention(8, 2, bias=False, kdim=inputs, vdim=inputs, batch_first=True)
    x = torch.randn(3, 6, inputs)
    with torch.no_grad():
        theirs.out_proj.weight.copy_(torch.eye(8))
        if theirs.in_proj_weight is not None:
            weights = [ours.queries.weight, ours.keys.weight, ours.values.weight]
            theirs.in_proj_weight.copy_(torch.cat(weights))
            query = x
        else:  # torch maps queries of the embedding's width only
            theirs.q_proj_weight.copy_(torch.eye(8))
            theirs.k_proj_weight.copy_(ours.keys.weight)
            theirs.v_proj_weight.copy_(ours.values.weight)
            query = ours.queries(x)
        attended = theirs(query, x, x, need_weights=False)[0]
        residual = x if inputs == 8 else x @ ours.residual.weight.T
        expected = nn.functional.layer_norm(attended + residual, (8,)).relu()
        assert torch.allclose(ours(x), expected, atol=1e-5)


def test_scaling_matters_only_if_it_is_asked_for():
    torch.manual_seed(0)
    scaled = FieldAttention(4, 4, heads=1, scale=True, dropout=0.0)
    plain = FieldAttention(4, 4, heads=1, scale=False, dropout=0.0)
    plain.load_state_dict(scaled.state_dict())
    plain.queries.weight.data /= 2  # the root of a head's width
    x = torch.randn(2, 3, 4)
    assert torch.allclose(scaled(x), plain(x), atol=1e-6)


def test_numbers_multiply_their_vectors_and_come_first():
    embedding = FeatureEmbedding(rows=5, dimension=2, numeric=2)
    e = embedding(torch.tensor([[4]]), torch.tensor([[2.0, -1.0]]))
    table = embedding.table
    torch.testing.assert_close(e[0], torch.stack([2 * table[0], -table[1], table[4]]))
    with pytest.raises(ValueError, match="2 numeric fields are missing"):
        embedding(torch.tensor([[4]]))


def test_vectors_of_numbers_start_larger_than_those_of_categories():
    table = FeatureEmbedding(rows=4000, dimension=10, numeric=2000).table
    assert table[:2000].std().item() == pytest.approx((2 / 11) ** 0.5, rel=0.05)
    assert table[2000:].std().item() == pytest.approx(1e-4, rel=0.05)


def test_the_penalty_covers_every_row_of_every_table():
    net = DeepFM(rows=7, fields=2, dimension=3)
    nn.init.constant_(net.embedding.table, 2.0)
    nn.init.constant_(net.weights.table, 1.0)
    assert penalised_squares(net).item() == 7 * 3 * 4 + 7
    assert not {id(p) for p in net.deep.parameters()} & {id(net.embedding.table)}


def test_the_bias_of_a_factorisation_machine_is_penalised_and_those_of_networks_are_not():
    """In the authors' library one regulariser holds for all parameters of FM."""
    machine = FM(rows=7, dimension=3)
    for parameter in machine.parameters():
        nn.init.constant_(parameter, 2.0)
    assert penalised_squares(machine).item() == 4 * sum(p.numel() for p in machine.parameters())
    penalised_squares(machine).backward()
    assert machine.bias.grad.item() == 4.0
    deep = DNN(rows=7, fields=2, dimension=3)
    nn.init.zeros_(deep.embedding.table)
    nn.init.constant_(deep.deep[-1].bias, 2.0)
    assert penalised_squares(deep).item() == 0.0


def test_layers_of_a_perceptron_stand_in_the_published_order():
    names = [type(layer).__name__ for layer in perceptron(4, [3, 2], 1, 0.5, True)]
    assert names == [*["Linear", "BatchNorm1d", "ReLU", "Dropout"] * 2, "Linear"]
    assert len(perceptron(4, [3], None)) == 2


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FieldAttention(4, 6, 4, True, 0.0), "4 heads do not divide"),
        (lambda: FeatureEmbedding(2, 3, numeric=3), "3 numeric fields"),
        (lambda: perceptron(4, [3], 1, dropout=1.0), r"\[0, 1\)"),
    ],
)
def test_impossible_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
