import math
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from experiments.rnn_review.counting import Marginals, NGrams, UsualTag, losses
from experiments.rnn_review.data import copying, copying_bound
from experiments.rnn_review.text import cut, tagged


def trial(data):
    return SimpleNamespace(data=data)


def by_hand(train, test, kinds, order, skipped):
    """Kneser and Ney's interpolation, character by character."""

    def counted(length, top):
        """How often each stretch of characters stands, or after how many different ones."""
        words = [tuple(train[k : k + length]) for k in range(len(train) - length + 1)]
        if top:
            return Counter(words)
        longer = {tuple(train[k : k + length + 1]) for k in range(len(train) - length)}
        return Counter(word[1:] for word in longer)

    def chance(c, context, top):
        lower = chance(c, context[1:], False) if context else 1 / kinds
        counts = counted(len(context) + 1, top)
        once = sum(n == 1 for n in counts.values())
        twice = sum(n == 2 for n in counts.values())
        d = min(max(once / max(once + 2 * twice, 1), 0.01), 0.99)
        after = {word[-1]: n for word, n in counts.items() if word[:-1] == context}
        if not after:
            return lower
        return (max(after.get(c, 0) - d, 0) + d * len(after) * lower) / sum(after.values())

    scored = range(skipped, len(test))
    found = [chance(test[k], tuple(test[k - order : k]), True) for k in scored]
    return -sum(map(math.log, found)) / len(found)


def test_ngrams_are_interpolated_as_by_hand():
    text = torch.randint(3, (120,), generator=torch.Generator().manual_seed(0)).tolist()
    train, test = text[:90], [*text[90:], 3, 0, 3, 0]  # 3 was never seen
    found = losses(torch.tensor(train), torch.tensor(test), 4, 3)
    for order in range(4):
        assert found[order] == pytest.approx(by_hand(train, test, 4, order, 3), rel=1e-12)


def test_ngrams_foretell_what_their_context_decides():
    text = torch.tensor([0, 1, 1, 2] * 2000)
    outcome = NGrams(orders=3).run(trial(cut(text, 3, 10, None)))
    curve = outcome.series["loss_over_order"].y
    assert curve[0] == pytest.approx(1.5 * math.log(2), abs=0.01)  # entropy of 1/4, 1/2, 1/4
    assert curve[1] == pytest.approx(0.5 * math.log(2), abs=0.02)  # after 1 comes 1 or 2
    assert outcome.metrics["loss"] == min(curve) < 0.01


def test_the_order_is_the_one_that_is_best_on_validation_data():
    """On a test text without order it is the worst."""
    data = cut(torch.tensor([0, 1, 1, 2] * 2000), 3, 10, None)
    shuffled = data.end[torch.randperm(len(data.end), generator=torch.Generator().manual_seed(0))]
    outcome = NGrams(orders=2).run(trial(replace(data, end=shuffled)))
    curve = outcome.series["loss_over_order"].y
    assert outcome.metrics["loss"] == curve[2] > min(curve) + 0.5


def test_the_predictor_without_memory_meets_the_bound_of_copying():
    data = copying(0, length=30, count=5, kinds=4, train=20_000, test=2000)
    loss = Marginals().run(trial(data)).metrics["loss"]
    assert loss == pytest.approx(copying_bound(30, 5, 4), rel=0.002)


def test_the_usual_tag_is_the_most_frequent_one_of_a_word_or_of_its_ending():
    verbs = [("run", "VERB"), ("run", "NOUN"), ("run", "VERB"), ("a", "DET"), ("a", "DET")]
    rare = [("nation", "NOUN"), ("ration", "NOUN"), ("option", "VERB"), ("gladly", "ADV")]
    test = [("run", "VERB"), ("run", "NOUN"), ("a", "DET"), ("motion", "NOUN"), ("only", "ADJ")]
    data = tagged([verbs, rare], [verbs], [[*test, ("new", "NOUN"), ("new", "X")]], 2, None)
    right = [True, False, True, True, False, True, False]
    accuracy = UsualTag().run(trial(data)).metrics["accuracy"]
    assert accuracy == pytest.approx(sum(right) / len(right))


def test_the_usual_tag_is_that_of_training_whatever_the_test_says():
    known = [("run", "VERB"), ("run", "VERB"), ("nation", "NOUN")]
    hostile = [("run", "NOUN"), ("run", "NOUN"), ("ration", "VERB")]
    data = tagged([known], [known], [hostile], 2, None)
    assert UsualTag().run(trial(data)).metrics["accuracy"] == 0
