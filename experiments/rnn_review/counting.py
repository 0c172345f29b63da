"""What counting alone achieves: the predictor without memory, n-grams, and a word's usual tag."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from experiments.rnn_review.data import IGNORED
from experiments.rnn_review.text import UNKNOWN, Buckets, Text
from harness.loading.splits import Tensors
from harness.procedures.base import Outcome, Trial
from harness.records import Series

Codes = npt.NDArray[np.int64]
Chances = npt.NDArray[np.float64]


class Marginals:
    """``loss`` of the best predictor that knows which step it is and nothing else.

    It foretells how often each symbol was the target of that step, in training.
    """

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"loss"}

    def run(self, trial: Trial) -> Outcome:
        train, test = (s.columns["y"] for s in (trial.data.train, trial.data.test))
        kinds = trial.data.dims["outputs"]
        counts = torch.nn.functional.one_hot(train, kinds).double().sum(0)  # (T, kinds)
        chances = (counts / len(train)).clamp_min(1e-12)
        loss = -chances.log()[torch.arange(test.shape[1]), test].mean()
        return Outcome({"loss": float(loss)})


class NGrams:
    """``loss``: cross-entropy of the next character by n-grams, in nats; over n as a series.

    Interpolated as Kneser and Ney (1995) do, with one discount d a length of context h, whose h'
    lacks the first character:

        p(c | h) = max(N(h c) - d, 0) / N(h) + d U(h) / N(h) p(c | h'),   d = n_1 / (n_1 + 2 n_2)

    N counts occurrences for the longest context and different characters before h c for shorter
    ones, U(h) different c after h, and n_k the h c with N(h c) = k.

    Args:
        orders: characters of context, up to; ``loss`` is that of the order that is best on the
            validation part, which is what a choice would come to.
    """

    def __init__(self, orders: int = 6) -> None:
        self.orders = orders

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"loss", "loss_over_order"}

    def run(self, trial: Trial) -> Outcome:
        data: Text = trial.data
        kinds = data.dims["symbols"]
        assert isinstance(data.val, Tensors)
        val = data.val.columns["x"].flatten()
        chosen = int(np.argmin(losses(data.beginning, val, kinds, self.orders)))
        found = losses(data.beginning, data.end, kinds, self.orders)
        x = [float(order) for order in range(self.orders + 1)]
        series = Series(over="characters of context", x=x, y=found)
        return Outcome({"loss": found[chosen]}, {"loss_over_order": series})


def losses(train: Tensor, test: Tensor, kinds: int, orders: int) -> list[float]:
    """Mean negative log-probabilities (nats) of a text's characters, for contexts of 0 to orders.

    The first ``orders`` characters, which have no whole context, are not scored.
    """
    seen, new = train.numpy(), test.numpy()
    below: Chances = np.full(len(new) - orders, 1 / kinds)
    found = []
    for order in range(orders + 1):
        wanted = grams(new, kinds, order + 1)[orders - order :]
        occurrences = np.unique(grams(seen, kinds, order + 1), return_counts=True)
        found.append(float(-np.log(discounted(*occurrences, kinds, wanted, below)).mean()))
        longer = np.unique(grams(seen, kinds, order + 2))  # each with another character before
        before = np.unique(longer % kinds ** (order + 1), return_counts=True)
        below = discounted(*before, kinds, wanted, below)
    return found


def grams(text: Codes, kinds: int, length: int) -> Codes:
    """All stretches of so many characters, as one number each."""
    found = np.zeros(len(text) - length + 1, dtype=np.int64)
    for k in range(length):
        found = found * kinds + text[k : len(text) - length + 1 + k]
    return found


def discounted(known: Codes, times: Codes, kinds: int, wanted: Codes, below: Chances) -> Chances:
    """p(c | h) of wanted h c, from those that are known and how often, and from p(c | h')."""
    once, twice = int((times == 1).sum()), int((times == 2).sum())
    discount = min(max(once / max(once + 2 * twice, 1), 0.01), 0.99)
    heads, first = np.unique(known // kinds, return_index=True)
    total = looked_up(heads, np.add.reduceat(times, first), wanted // kinds)
    after = looked_up(heads, np.diff(np.append(first, len(known))), wanted // kinds)
    share = np.maximum(looked_up(known, times, wanted) - discount, 0) + discount * after * below
    return np.where(total > 0, share / np.maximum(total, 1), below)


def looked_up(keys: Codes, values: Codes, wanted: Codes) -> Codes:
    """Values of keys (sorted); 0 where there is none."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)


class UsualTag:
    """``accuracy`` of giving each word its most frequent tag in training.

    A word without a number of its own gets the most frequent tag of such words with its ending.
    """

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"accuracy"}

    def run(self, trial: Trial) -> Outcome:
        dims = trial.data.dims
        words, endings, tags = flat(trial.data.train)
        rare = words == UNKNOWN
        by_word = counted(words, tags, dims["symbols"], dims["outputs"])
        by_ending = counted(endings[rare], tags[rare], dims["suffixes"], dims["outputs"])
        by_ending += by_ending.sum(0) / (1 + by_ending.sum())  # decides where nothing was counted
        words, endings, tags = flat(trial.data.test)
        counts = torch.where((words == UNKNOWN)[:, None], by_ending[endings], by_word[words])
        usual = 1 + counts[:, 1:].argmax(1)  # 0 is no tag
        return Outcome({"accuracy": float((usual == tags).double().mean())})


def counted(names: Tensor, tags: Tensor, kinds: int, outputs: int) -> Tensor:
    """How often each name has each tag, (kinds, outputs)."""
    counts = torch.zeros(kinds, outputs)
    return counts.index_put_((names, tags), torch.ones(len(names)), accumulate=True)


def flat(split: Buckets) -> tuple[Tensor, Tensor, Tensor]:
    """All words, endings and tags of a split, in a row each."""
    batch = split[torch.arange(len(split))]
    there = batch["y"] != IGNORED
    return batch["x"][there], batch["suffix"][there], batch["y"][there]
