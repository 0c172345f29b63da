"""What counting alone achieves: the predictor without memory, n-grams, and a word's usual tag."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from experiments.rnn_review.data import IGNORED
from experiments.rnn_review.text import Buckets, Text
from harness.loading.splits import Tensors
from harness.procedures.base import Outcome, Trial
from harness.records import Series

Codes = npt.NDArray[np.int64]


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

    Interpolated as Witten and Bell (1991) do: with N(h) the times a context h was seen and U(h)
    how many different characters followed it, p(c | h) = (N(h c) + U(h) p(c | h')) / (N(h) + U(h)),
    where h' is h without its first character.

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
    chance: npt.NDArray[np.float64] = np.full(len(new) - orders, 1 / kinds)
    found = []
    for order in range(orders + 1):
        contexts, places = codes(seen, kinds, order), codes(new, kinds, order)[orders - order :]
        next_seen, next_new = seen[order:], new[orders:]
        pairs, times = np.unique(contexts * kinds + next_seen, return_counts=True)
        heads, first = np.unique(pairs // kinds, return_index=True)
        different = np.diff(np.append(first, len(pairs)))
        total = np.add.reduceat(times, first)
        n, u = looked_up(heads, total, places), looked_up(heads, different, places)
        n_next = looked_up(pairs, times, places * kinds + next_new)
        chance = np.where(n > 0, (n_next + u * chance) / np.maximum(n + u, 1), chance)
        found.append(float(-np.log(chance).mean()))
    return found


def codes(text: Codes, kinds: int, order: int) -> Codes:
    """The ``order`` characters before each as one number, for all that have so many before them."""
    found = np.zeros(len(text) - order, dtype=np.int64)
    for k in range(order):
        found = found * kinds + text[k : len(text) - order + k]
    return found


def looked_up(keys: Codes, values: Codes, wanted: Codes) -> Codes:
    """Values of keys (sorted); 0 where there is none."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)


class UsualTag:
    """``accuracy`` of giving each word its most frequent tag in training.

    Words without a number of their own get the most frequent tag of all that have none.
    """

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"accuracy"}

    def run(self, trial: Trial) -> Outcome:
        dims = trial.data.dims
        words, tags = flat(trial.data.train)
        counts = torch.zeros(dims["symbols"], dims["outputs"])
        counts.index_put_((words, tags), torch.ones(len(words)), accumulate=True)
        usual = 1 + counts[:, 1:].argmax(1)  # 0 is no tag
        words, tags = flat(trial.data.test)
        return Outcome({"accuracy": float((usual[words] == tags).double().mean())})


def flat(split: Buckets) -> tuple[Tensor, Tensor]:
    """All words and tags of a split, in a row each."""
    batch = split[torch.arange(len(split))]
    counted = batch["y"] != IGNORED
    return batch["x"][counted], batch["y"][counted]
