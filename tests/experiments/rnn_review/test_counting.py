import math
from types import SimpleNamespace

import pytest
import torch

from experiments.rnn_review.counting import Marginals, NGrams, UsualTag, losses
from experiments.rnn_review.data import copying, copying_bound
from experiments.rnn_review.text import cut, tagged


def trial(data):
    return SimpleNamespace(data=data)


def by_hand(train, test, kinds, order, skipped):
    """Witten and Bell's interpolation, character by character."""

    def chance(c, context):
        lower = 1 / kinds if not context else chance(c, context[1:])
        n = len(context)
        after = [train[k + n] for k in range(len(train) - n) if train[k : k + n] == context]
        if not after:
            return lower
        different = len(set(after))
        return (after.count(c) + different * lower) / (len(after) + different)

    # an empty context falls back on equal chances
    scored = range(skipped, len(test))
    return -sum(math.log(chance(test[k], test[k - order : k])) for k in scored) / len(scored)


def test_ngrams_are_interpolated_as_by_hand():
    text = torch.randint(3, (200,), generator=torch.Generator().manual_seed(0)).tolist()
    train, test = text[:150], [*text[150:], 0, 0, 0, 0]
    found = losses(torch.tensor(train), torch.tensor(test), 4, 3)  # a character never seen
    for order in range(4):
        assert found[order] == pytest.approx(by_hand(train, test, 4, order, 3), rel=1e-12)


def test_ngrams_foretell_what_their_context_decides():
    text = torch.tensor([0, 1, 1, 2] * 2000)
    outcome = NGrams(orders=3).run(trial(cut(text, 3, 10, None)))
    curve = outcome.series["loss_over_order"].y
    assert curve[0] == pytest.approx(1.5 * math.log(2), abs=0.01)  # entropy of 1/4, 1/2, 1/4
    assert curve[1] == pytest.approx(0.5 * math.log(2), abs=0.02)  # after 1 comes 1 or 2
    assert outcome.metrics["loss"] == min(curve) < 0.01


def test_the_predictor_without_memory_meets_the_bound_of_copying():
    data = copying(0, length=30, count=5, kinds=4, train=20_000, test=2000)
    loss = Marginals().run(trial(data)).metrics["loss"]
    assert loss == pytest.approx(copying_bound(30, 5, 4), rel=0.002)


def test_the_usual_tag_is_the_most_frequent_one():
    train = [[("run", "VERB"), ("run", "NOUN"), ("run", "VERB"), ("a", "DET"), ("a", "DET")]]
    test = [[("run", "VERB"), ("run", "NOUN"), ("a", "DET"), ("new", "X")]]
    accuracy = UsualTag().run(trial(tagged(train, train, test, 1, None))).metrics["accuracy"]
    assert accuracy == 0.5
