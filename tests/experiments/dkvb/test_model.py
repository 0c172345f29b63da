import pytest
import torch
import torch.nn.functional as F

from experiments.dkvb.model import Bottleneck, MovingKeys, SoftFetch, Values

FEATURES, CLASSES, CODEBOOKS, PAIRS, KEY = 6, 4, 3, 5, 2


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Bottleneck(FEATURES, CLASSES, CODEBOOKS, PAIRS, KEY, scale=1.0)


def test_each_head_fetches_its_nearest_key_and_the_values_vote(model):
    z = torch.randn(7, FEATURES)
    expected_pairs, expected_logits = [], []
    for row in z:
        pairs = []
        for c in range(CODEBOOKS):
            head = model.projections[c].T @ row
            away = [float((head - key).norm()) for key in model.keys[c]]
            pairs.append(away.index(min(away)))
        expected_pairs.append(pairs)
        codes = [model.values.codes[c, j] for c, j in enumerate(pairs)]
        expected_logits.append(torch.stack(codes).mean(0))
    assert model.snap(z).tolist() == expected_pairs
    torch.testing.assert_close(model.train()(z), torch.stack(expected_logits))


def test_many_inputs_snap_as_few_do(model, monkeypatch):
    z = torch.randn(11, FEATURES)
    whole = model.snap(z)
    monkeypatch.setattr("experiments.dkvb.model.LARGEST", 2 * CODEBOOKS * PAIRS)
    assert torch.equal(model.snap(z), whole)


def test_columns_of_projections_have_length_one_and_differ_between_codebooks(model):
    lengths = model.projections.norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(CODEBOOKS, KEY))
    assert not torch.allclose(model.projections[0], model.projections[1])


def test_chunks_are_pieces_of_the_features():
    model = Bottleneck(FEATURES, CLASSES, CODEBOOKS, PAIRS, heads="chunk")
    z = torch.randn(4, FEATURES)
    assert torch.equal(model.heads(z), torch.stack(z.chunk(CODEBOOKS, dim=1)))
    with pytest.raises(ValueError, match="equal chunks"):
        Bottleneck(FEATURES, CLASSES, 4, PAIRS, heads="chunk")


def test_only_values_are_trained_and_only_those_fetched_get_a_gradient(model):
    assert [name for name, _ in model.named_parameters()] == ["values.codes"]
    z = torch.randn(2, FEATURES)
    F.cross_entropy(model.train()(z), torch.tensor([0, 1])).backward()
    touched = model.values.codes.grad.abs().sum(2) > 0
    fetched = torch.zeros(CODEBOOKS, PAIRS, dtype=torch.bool)
    for row in model.snap(z):
        fetched[torch.arange(CODEBOOKS), row] = True
    assert torch.equal(touched, fetched)


def test_values_begin_at_nought_unless_told_otherwise(model):
    assert not Values(2, 3, 4).codes.any()
    assert 0.5 < Values(10, 50, 4, scale=1.0).codes.std().item() < 1.5


def test_evaluation_fetches_only_pairs_that_training_has_fetched(model):
    seen, other = torch.randn(1, FEATURES), torch.randn(50, FEATURES)
    model.train()(seen)
    assert torch.equal(model.fetched.nonzero()[:, 1], model.snap(seen)[0])
    logits = model.eval()(other)
    torch.testing.assert_close(logits, model(seen).expand_as(logits))
    assert len(model.snap(other).unique(dim=0)) > 1
    assert int(model.fetched.sum()) == CODEBOOKS, "evaluation takes no notes"


def test_keys_follow_their_heads_by_moving_averages(model):
    """Against sums written out pair by pair, twice."""
    for _ in range(2):
        z = torch.randn(9, FEATURES)
        counts, sums = model.counts.clone(), model.sums.clone()
        for c in range(CODEBOOKS):
            heads = z @ model.projections[c]
            nearest = torch.cdist(heads, model.keys[c]).argmin(1)
            for j in range(PAIRS):
                own = heads[nearest == j]
                counts[c, j] = 0.95 * counts[c, j] + 0.05 * len(own)
                sums[c, j] = 0.95 * sums[c, j] + 0.05 * own.sum(0)
        model.follow(z)
        total = counts.sum(1, keepdim=True)
        smooth = (counts + 1e-5) / (total + PAIRS * 1e-5) * total
        torch.testing.assert_close(model.counts, counts)
        torch.testing.assert_close(model.keys, sums / smooth[..., None], rtol=1e-4, atol=1e-4)


def test_dead_keys_are_put_on_heads_of_the_batch(model):
    z = torch.randn(9, FEATURES)
    model.follow(z, threshold=1e9)
    heads = model.heads(z)
    for c in range(CODEBOOKS):
        assert torch.cdist(model.keys[c], heads[c]).min(1).values.max() < 1e-3
    before = model.counts.clone()
    model.follow(z, threshold=0.0)
    assert not torch.equal(before, model.counts)


def test_frozen_keys_stay_and_moving_ones_do_not():
    torch.manual_seed(0)
    z = torch.randn(8, FEATURES)
    for kind, moves in ((Bottleneck, False), (MovingKeys, True)):
        model = kind(FEATURES, CLASSES, codebooks=CODEBOOKS, pairs=PAIRS, key_dim=KEY)
        before = model.keys.clone()
        model.train()(z)
        assert torch.equal(before, model.keys) != moves
        assert kind.frozen != moves
        before = model.keys.clone()
        model.eval()(z)
        assert torch.equal(before, model.keys)


def test_a_soft_fetch_becomes_a_hard_one_as_it_cools(model):
    soft = SoftFetch(FEATURES, CLASSES, 1e-6, codebooks=CODEBOOKS, pairs=PAIRS, key_dim=KEY)
    soft.load_state_dict(model.state_dict())
    z = torch.randn(6, FEATURES)
    torch.testing.assert_close(soft(z), model.train()(z))
    soft.temperature = 1.0
    F.cross_entropy(soft(z), torch.zeros(6, dtype=torch.long)).backward()
    assert (soft.values.codes.grad.abs().sum(2) > 0).all()
