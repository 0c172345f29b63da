"""The memory network against its equations, written word by word."""

import itertools

import pytest
import torch

from experiments.gradient_noise.data import Question, question_splits
from experiments.gradient_noise.memory import MemoryNetwork, most_blanks, noisy_times

STORIES = [
    Question((("mary", "went", "home"), ("john", "went", "out")), ("where", "is", "mary"), "home"),
    Question((("mary", "went", "out"),), ("where", "is", "mary"), "out"),
]
VOCABULARY = ["home", "is", "john", "mary", "out", "went", "where"]


def network_and_batch():
    torch.manual_seed(0)
    splits = question_splits(STORIES, STORIES)
    net = MemoryNetwork(**splits.dims, dim=4, hops=2)
    batch = splits.test[torch.arange(2)]
    return net, {name: column for name, column in batch.items() if name != "y"}, batch["y"]


def encode(words, table, longest):
    """Σ_j weight_kj A x_j with weight_kj = 1 + 4 (k - (d+1)/2) (j - (J+1)/2) / (d J)."""
    dim = table.shape[1]
    total = torch.zeros(dim)
    for j, word in enumerate(words, start=1):
        for k in range(1, dim + 1):
            weight = 1 + 4 * (k - (dim + 1) / 2) * (j - (longest + 1) / 2) / (dim * longest)
            total[k - 1] += weight * table[VOCABULARY.index(word), k - 1]
    return total


@pytest.mark.parametrize("linear", [False, True])
def test_forward_is_attention_over_position_encoded_sentences(linear):
    net, batch, y = network_and_batch()
    scores = net(**batch, linear=linear)
    tables = net.embedding.detach().split(4, dim=1)
    times = net.time.detach().split(4, dim=1)
    for row, question in enumerate(STORIES):
        u = encode(question.words, tables[0], longest=4)
        latest_first = question.story[::-1]
        for hop in range(2):
            m, c = (
                torch.stack(
                    [
                        encode(latest_first[i], tables[level], 4) + times[level][i]
                        if i < len(latest_first)
                        else torch.zeros(4)
                        for i in range(2)
                    ]
                )
                for level in (hop, hop + 1)
            )
            p = m @ u if linear else (m @ u).softmax(0)
            u = u + p @ c
        torch.testing.assert_close(scores[row], tables[2] @ u, rtol=1e-4, atol=1e-6)
    assert [VOCABULARY[i] for i in y] == ["home", "out"]


def test_the_order_of_words_and_of_sentences_matters():
    net, batch, _ = network_and_batch()
    swapped = dict(batch, story=batch["story"].flip(1))
    assert not torch.allclose(net(**batch)[0], net(**swapped)[0])
    unordered = batch["story"] * (torch.arange(14) < 7)
    assert not torch.allclose(net(**batch)[0], net(**dict(batch, story=unordered))[0])


def test_noisy_times_keep_the_order_and_skip_as_many_slots_as_there_are_blanks():
    generator = torch.Generator().manual_seed(0)
    length = torch.tensor([35] * 4000)
    times = torch.arange(40).expand(4000, -1)
    draws = torch.rand(4000, 1 + most_blanks(40), generator=generator)
    found = noisy_times(times, length, draws)[:, :35]
    assert (found.diff(dim=1) >= 1).all()
    # ⌈35 / 10⌉ = 4: between 0 and 4 blanks, equally often; those before the last sentence count.
    shift = found[:, -1] - 34
    assert set(shift.tolist()) == {0, 1, 2, 3, 4}
    # The number of blanks b is uniform, and each of the b + 35 slots is equally likely to be
    # one: sentence i is shifted by b (i + 1) / 36 on average.
    for i in (0, 17, 34):
        expected = 2 * (i + 1) / 36
        assert float((found[:, i] - i).float().mean()) == pytest.approx(expected, abs=0.06)


def test_arrangements_of_blanks_are_equally_likely():
    generator = torch.Generator().manual_seed(1)
    many = 60_000
    times = torch.arange(30).expand(many, -1)
    found = noisy_times(
        times, torch.full((many,), 21), torch.rand(many, 1 + most_blanks(21), generator=generator)
    )
    # Two blanks among 23 slots: look only at which of the first three slots are blank.
    blank = ~(found[:, :3, None] == torch.arange(3)).any(1)
    two = blank[found[:, 20] == 22]
    share = {
        pair: float((two[:, pair[0]] & two[:, pair[1]]).float().mean())
        for pair in itertools.combinations(range(3), 2)
    }
    spread = max(share.values()) - min(share.values())
    assert min(share.values()) > 0
    assert spread < 0.005


def test_stories_of_up_to_ten_sentences_have_at_most_one_blank_and_times_stay_in_the_memory():
    times, length = torch.arange(20).expand(3, -1), torch.tensor([2, 9, 10])
    for number, blanks in ((0.499, 0), (0.501, 1)):  # as many as not, before the first sentence
        draws = torch.tensor([number, 0.0, 0.0]).expand(3, -1)
        assert (noisy_times(times, length, draws)[:, :10] == times[:, :10] + blanks).all()
    capped = noisy_times(
        torch.arange(50).expand(1, -1), torch.tensor([50]), torch.zeros(1, 5) + 0.99
    )
    assert int(capped.max()) == 49
