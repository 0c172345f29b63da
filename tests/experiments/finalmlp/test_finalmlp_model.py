"""Gates and fusions against loops and torch's own bilinear form; controls; published counts."""

import pytest
import torch
from torch import nn
from torch.nn.functional import bilinear

from baselines.ctr import FM
from experiments.finalmlp.model import (
    BilinearFusion,
    Context,
    DualMLP,
    FeatureGate,
    FinalMLP,
    PlainFusion,
)
from experiments.finalmlp.published import COLUMNS, sizes


def layout(name: str) -> dict[str, int]:
    return {key: COLUMNS[name].dims[key] for key in ("rows", "fields", "numeric")}


def context(name: str, first: int, fields: int = 1) -> Context:
    columns = COLUMNS[name]
    rows = sum(columns.sizes[first : first + fields])
    return Context(first, fields, columns.first_rows[first], rows)


COUNTS = [
    (
        FinalMLP,
        "frappe",
        {
            "hidden1": [400],
            "hidden2": [100],
            "gates": [400],
            "heads": 5,
            "context1": context("frappe", 0),
            "context2": context("frappe", 1),
        },
        253392,
    ),
    (
        FinalMLP,
        "movielens",
        {"hidden1": [400], "hidden2": [800], "gates": [800], "heads": 10},
        1040902,
    ),
    (
        FinalMLP,
        "criteo",
        {
            "hidden1": [400] * 3,
            "hidden2": [1000],
            "gates": [800],
            "heads": 200,
            "context1": context("criteo", 0, 13),
            "context2": context("criteo", 18),
        },
        22478162,
    ),
    (DualMLP, "frappe", {"hidden2": [500] * 3}, 972992),
    (DualMLP, "avazu", {"hidden2": [400]}, 13487812),
]


@pytest.mark.parametrize(("model", "data", "settings", "published"), COUNTS)
def test_parameters_are_as_many_as_published(model, data, settings, published):
    with torch.device("meta"):
        built = model(**layout(data), **settings)
    assert sum(p.numel() for p in built.parameters()) == published


@pytest.mark.parametrize(
    ("data", "published"),
    [("frappe", 59280), ("movielens", 992630), ("criteo", 22949477), ("avazu", 14284590)],
)
def test_without_rows_for_padding_fm_has_as_many_parameters_as_on_the_leaderboard(data, published):
    dims = sizes(data, padding=False).dims
    with torch.device("meta"):
        machine = FM(dims["rows"], dims["numeric"])
    assert sum(p.numel() for p in machine.parameters()) == published
    categorical = dims["fields"] - dims["numeric"]
    assert sizes(data).dims["rows"] == dims["rows"] + categorical


def test_the_bilinear_term_is_the_sum_over_heads():
    torch.manual_seed(0)
    fusion = BilinearFusion(6, 4, heads=2)
    o1, o2 = torch.randn(3, 6), torch.randn(3, 4)
    expected = fusion.linear1(o1)[:, 0] + fusion.linear2(o2)[:, 0]
    for example in range(3):
        for head in range(2):
            left = o1[example, 3 * head : 3 * head + 3]
            right = o2[example, 2 * head : 2 * head + 2]
            expected[example] += left @ fusion.weight[head] @ right
    assert torch.allclose(fusion(o1, o2), expected, atol=1e-5)


def test_one_head_is_the_full_bilinear_form():
    fusion = BilinearFusion(6, 4, heads=1)
    o1, o2 = torch.randn(3, 6), torch.randn(3, 4)
    full = bilinear(o1, o2, fusion.weight)[:, 0]
    linear = (fusion.linear1(o1) + fusion.linear2(o2))[:, 0]
    assert torch.allclose(fusion(o1, o2), full + linear, atol=1e-5)


def test_without_weights_it_is_concatenation_and_with_the_identity_an_inner_product():
    fusion, concat = BilinearFusion(4, 4, heads=1), PlainFusion(4, 4, "concat")
    o1, o2 = torch.randn(3, 4), torch.randn(3, 4)
    with torch.no_grad():
        concat.linear.weight.copy_(torch.cat([fusion.linear1.weight, fusion.linear2.weight], 1))
        fusion.weight.zero_()
        assert torch.allclose(fusion(o1, o2), concat(o1, o2), atol=1e-6)
        fusion.weight.copy_(torch.eye(4)[None])
        assert torch.allclose(fusion(o1, o2), concat(o1, o2) + (o1 * o2).sum(1), atol=1e-6)


@pytest.mark.parametrize(("kind", "joined"), [("sum", torch.add), ("product", torch.mul)])
def test_streams_of_one_width_are_joined_element_by_element(kind, joined):
    o1, o2 = torch.randn(3, 4), torch.randn(3, 4)
    fusion = PlainFusion(4, 4, kind)
    assert torch.allclose(fusion(o1, o2), fusion.linear(joined(o1, o2))[:, 0])
    narrow = PlainFusion(4, 2, kind)
    mapped = o2[:, :2] @ narrow.map.weight.T
    assert torch.allclose(narrow(o1, o2[:, :2]), narrow.linear(joined(o1, mapped))[:, 0])


def test_heads_must_divide_both_widths():
    with pytest.raises(ValueError, match="3 heads must divide both widths, 6 and 4"):
        BilinearFusion(6, 4, heads=3)


def gated(mismatched: bool = False) -> tuple[FeatureGate, torch.Tensor]:
    """A gate on the second of three categorical fields (rows 4 to 7), and four examples."""
    torch.manual_seed(0)
    gate = FeatureGate(6, [8], Context(1, 1, 4, 4), 0, 2, mismatched)
    nn.init.normal_(gate.embedding.table)
    return gate, torch.tensor([[0, 4, 8], [1, 5, 8], [2, 6, 9], [3, 4, 9]])


def test_a_gate_depends_on_its_context_alone_and_lies_between_0_and_2():
    gate, ids = gated()
    factors = gate(ids)
    torch.testing.assert_close(factors[0], factors[3])
    assert not torch.allclose(factors[0], factors[1])
    assert factors.min() > 0 and factors.max() < 2
    x = gate.embedding.table[1]  # value 5 is the field's second row
    hidden = (gate.gate[0].weight @ x + gate.gate[0].bias).relu()
    expected = 2 * torch.sigmoid(gate.gate[2].weight @ hidden + gate.gate[2].bias)
    assert torch.allclose(factors[1], expected, atol=1e-6)


def test_a_mismatched_gate_has_the_context_of_another_example():
    gate, ids = gated()
    other, _ = gated(mismatched=True)
    assert torch.allclose(other(ids), gate(ids).roll(1, 0))


def test_gates_of_numeric_fields_read_the_numbers():
    gate = FeatureGate(4, [8], Context(0, 2, 0, 2), 3, 2)
    ids, numbers = torch.tensor([[5], [6]]), torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 4.0]])
    factors = gate(ids, numbers)
    torch.testing.assert_close(factors[0], factors[1])  # the third number is not in the context
    assert not torch.allclose(gate(ids, 2 * numbers)[0], factors[0])
    with pytest.raises(ValueError, match="not of both"):
        FeatureGate(4, [8], Context(2, 2, 2, 5), 3, 2)


def test_without_a_context_gates_start_open_and_are_the_same_for_all():
    gate = FeatureGate(4, [8], None, 0, 2)
    factors = gate(torch.tensor([[0], [1], [2]]))
    torch.testing.assert_close(factors, torch.ones(1, 4))
    nn.init.normal_(gate.constant)
    assert not torch.allclose(gate(torch.tensor([[0]])), torch.ones(1, 4))


def final(**settings: object) -> FinalMLP:
    torch.manual_seed(0)
    net = FinalMLP(8, 2, dimension=2, hidden1=[4], hidden2=[4], gates=None, **settings).eval()
    nn.init.normal_(net.embedding.table)
    return net


def test_a_mismatched_stream_enters_the_bilinear_term_only():
    ids = torch.tensor([[0, 4], [1, 5], [2, 6]])
    right, wrong = final(heads=2), final(heads=2, mismatched="stream")
    assert not torch.allclose(right(ids), wrong(ids))
    for net in (right, wrong):
        nn.init.zeros_(net.fusion.weight)
    assert torch.allclose(right(ids), wrong(ids))
    assert sum(p.numel() for p in right.parameters()) == sum(p.numel() for p in wrong.parameters())


def test_without_gates_and_fused_by_concatenation_it_is_dualmlp():
    concat, ids = final(fusion="concat"), torch.tensor([[0, 4], [1, 5], [2, 6]])
    dual = DualMLP(8, 2, dimension=2, hidden1=[4], hidden2=[4]).eval()
    with torch.no_grad():
        dual.embedding.table.copy_(concat.embedding.table)
        for ours, theirs in ((dual.stream1, concat.stream1), (dual.stream2, concat.stream2)):
            ours[:3].load_state_dict(theirs.state_dict())
        first, second = concat.fusion.linear.weight.split(4, 1)
        dual.stream1[3].weight.copy_(first)
        dual.stream2[3].weight.copy_(second)
        assert torch.allclose(dual(ids), concat(ids), atol=1e-6)


def test_each_gate_feeds_its_own_stream():
    torch.manual_seed(0)
    context1, context2 = Context(0, 1, 0, 4), Context(1, 1, 4, 4)
    net = FinalMLP(8, 2, hidden1=[4], hidden2=[4], gates=[4], context1=context1, context2=context2)
    ids = torch.tensor([[0, 4], [1, 5], [2, 6]])
    net(ids).sum().backward()
    assert all(gate.embedding.table.grad.abs().sum() > 0 for gate in net.gates)
    net.zero_grad()
    nn.init.zeros_(net.stream2[0].weight)  # then nothing of the second gate reaches the logit
    net(ids).sum().backward()
    assert net.gates[0].embedding.table.grad.abs().sum() > 0
    assert net.gates[1].embedding.table.grad.abs().sum() == 0
