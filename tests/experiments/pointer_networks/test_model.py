import itertools

import pytest
import torch

from experiments.pointer_networks.model import (
    AttentionSeq2Seq,
    EncoderDecoder,
    PointerNetwork,
    Seq2Seq,
)
from experiments.pointer_networks.search import beam_search

NETWORKS = {
    "lstm": lambda: Seq2Seq(points=5, hidden=8),
    "attention": lambda: AttentionSeq2Seq(points=5, hidden=8),
    "pointer": lambda: PointerNetwork(hidden=8),
    "embedded": lambda: PointerNetwork(hidden=8, embedding=4),
}
Y = torch.tensor([[2, 4, 5, 0, -1, -1], [1, 3, 2, 4, 5, 0]])


@pytest.fixture
def points() -> torch.Tensor:
    return torch.rand(2, 5, 2, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> EncoderDecoder:
    return build(request.param)


def build(name: str) -> EncoderDecoder:
    torch.manual_seed(1)
    network: EncoderDecoder = NETWORKS[name]()
    with torch.no_grad():  # far from the small initial weights, so that every part matters
        for parameter in network.parameters():
            parameter.mul_(12)
    return network.eval()


def test_teacher_forcing_equals_decoding_step_by_step(
    network: EncoderDecoder, points: torch.Tensor
) -> None:
    logits = network(points, Y)
    memory, state = network.encode(points)
    token = torch.zeros(2, dtype=torch.int64)
    for i in range(Y.shape[1]):
        step, state = network.step(memory, token, state)
        torch.testing.assert_close(step, logits[:, i])
        token = Y[:, i].clamp(min=0)


def test_logits_see_only_the_tokens_before_them(
    network: EncoderDecoder, points: torch.Tensor
) -> None:
    changed = Y.clone()
    changed[:, 2] = torch.tensor([1, 5])
    before, after = network(points, Y), network(points, changed)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3], after[:, 3])


def test_pointer_network_follows_equation_3_point_by_point(points: torch.Tensor) -> None:
    network = build("pointer")
    assert isinstance(network, PointerNetwork)
    w1, w2, v = network.attention.w1.weight, network.attention.w2.weight, network.attention.v
    logits = network(points, Y)
    for p, y, found in zip(points, Y, logits, strict=True):
        h = c = torch.zeros(8)
        encoded = [network.end]
        for x in p:
            h, c = _lstm_step(network.encoder, x, h, c)
            encoded.append(h)
        x = network.start
        for i, token in enumerate(y):
            h, c = _lstm_step(network.decoder, x, h, c)
            u = torch.stack([v @ torch.tanh(w1 @ e + w2 @ h) for e in encoded])
            torch.testing.assert_close(found[i], u)
            if token <= 0:
                break
            x = p[token - 1]


def _lstm_step(
    lstm: torch.nn.LSTM, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    gates = lstm.weight_ih_l0 @ x + lstm.bias_ih_l0 + lstm.weight_hh_l0 @ h + lstm.bias_hh_l0
    i, f, g, o = gates.chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def test_attention_baseline_predicts_from_state_and_context(points: torch.Tensor) -> None:
    network = build("attention")
    assert isinstance(network, AttentionSeq2Seq)
    attention, output = network.attention, network.output
    memory, state = network.encode(points)
    _, first = network.step(memory, torch.zeros(2, dtype=torch.int64), state)
    logits, second = network.step(memory, torch.tensor([3, 1]), first)
    for b, token in enumerate([2, 0]):
        x = torch.cat([points[b, token], first.context[b]])
        h, _ = _lstm_step(network.decoder, x, first.hidden[b], first.cell[b])
        e = network.encoder(points[b])[0]
        u = torch.tanh(e @ attention.w1.weight.T + attention.w2.weight @ h) @ attention.v
        context = u.softmax(dim=0) @ e
        torch.testing.assert_close(second.context[b], context)
        torch.testing.assert_close(logits[b], output.weight @ torch.cat([h, context]) + output.bias)


@pytest.mark.parametrize("name", ["pointer", "embedded"])
def test_padding_changes_nothing_and_is_never_pointed_at(name: str, points: torch.Tensor) -> None:
    network = build(name)
    lengths = torch.tensor([3, 5])
    y = torch.tensor([[1, 2, 3, 0], [4, 2, 5, 0]])
    logits = network(points, y, lengths)
    alone = network(points[:1, :3], y[:1])
    torch.testing.assert_close(logits[:1, :, :4], alone)
    assert logits[0, :, 4:].isinf().all() and logits[1].isfinite().all()


def test_weights_start_within_the_paper_s_range() -> None:
    network = PointerNetwork(hidden=64)
    values = torch.cat([p.detach().flatten() for p in network.parameters()])
    assert values.abs().max() <= 0.08
    assert values.std().item() == pytest.approx(0.08 / 3**0.5, rel=0.02)


def test_greedy_decoding_takes_the_likeliest_token(
    network: EncoderDecoder, points: torch.Tensor
) -> None:
    found = beam_search(network, points, steps=6)
    for p, tokens in zip(points, found.tolist(), strict=True):
        memory, state = network.encode(p.unsqueeze(0))
        last, expected = torch.zeros(1, dtype=torch.int64), []
        for _ in range(6):
            logits, state = network.step(memory, last, state)
            last = logits.argmax(dim=1)
            if last.item() == 0:
                break
            expected.append(last.item())
        assert [t for t in tokens if t != -1] == expected


def test_a_wide_beam_finds_the_likeliest_tour(points: torch.Tensor) -> None:
    network = build("pointer")
    found = beam_search(network, points, steps=6, width=200, constraint="tour")
    tours = torch.tensor(list(itertools.permutations(range(1, 6))))
    targets = torch.nn.functional.pad(tours, (0, 1))
    for p, tokens in zip(points, found, strict=True):
        logp = network(p.expand(len(tours), -1, -1), targets).log_softmax(dim=-1)
        total = logp.gather(2, targets.unsqueeze(2)).sum(dim=(1, 2))
        assert tokens[:5].tolist() == tours[total.argmax()].tolist()


def test_renormalised_beams_are_compared_by_what_the_constraint_allows(
    points: torch.Tensor,
) -> None:
    network = build("pointer")
    settings = {"steps": 6, "width": 200, "constraint": "tour"}
    found = beam_search(network, points, renormalised=True, **settings)  # type: ignore[arg-type]
    tours = torch.tensor(list(itertools.permutations(range(1, 6))))
    targets = torch.nn.functional.pad(tours, (0, 1))
    visited = torch.nn.functional.one_hot(targets, 6).cumsum(dim=1) > 0
    barred = torch.nn.functional.pad(visited[:, :-1], (0, 0, 1, 0))
    barred[:, :, 0] = torch.arange(6) < 5
    for p, tokens in zip(points, found, strict=True):
        logits = network(p.expand(len(tours), -1, -1), targets).masked_fill(barred, -torch.inf)
        total = logits.log_softmax(dim=-1).gather(2, targets.unsqueeze(2)).sum(dim=(1, 2))
        assert tokens[:5].tolist() == tours[total.argmax()].tolist()
    plain = beam_search(network, points, **settings)  # type: ignore[arg-type]
    assert not torch.equal(found, plain), "the two searches prefer different tours here"


@pytest.mark.parametrize("width", [1, 3])
def test_tours_visit_every_point_once(network: EncoderDecoder, width: int) -> None:
    points = torch.rand(50, 5, 2)
    found = beam_search(network, points, steps=6, width=width, constraint="tour")
    assert torch.equal(found[:, :5].sort(dim=1).values, torch.arange(1, 6).expand(50, -1))


def test_tours_of_padded_instances_visit_their_own_points() -> None:
    lengths = torch.tensor([3, 5, 4])
    found = beam_search(
        build("pointer"), torch.rand(3, 5, 2), lengths, steps=6, width=2, constraint="tour"
    )
    visited = [sorted(t for t in row if t > 0) for row in found.tolist()]
    assert visited == [[1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 3, 4]]


def test_polygons_have_three_points_or_more_and_none_twice(network: EncoderDecoder) -> None:
    found = beam_search(network, torch.rand(50, 5, 2), steps=6, width=2, constraint="polygon")
    for row in found.tolist():
        chosen = [t for t in row if t > 0]
        assert len(chosen) >= 3 and len(set(chosen)) == len(chosen)
