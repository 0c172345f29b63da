"""``order_video``: videos whose class is an order of events, made from a seed.

The mechanism is the one that the paper is about, so that its claims can fail:

- A class is an ordered triple of events. All 6 orders of a triple are classes, so whoever does
  not see the order is right at most once in six.
- Features are those of a ConvNet after its last ReLU: non-negative, and an event activates an
  eighth of them.
- Informative steps are sparse: half of the steps carry a fifth of the signal, and three steps
  show a random event. Pooling inside a segment can therefore help, and a recurrent network
  over all steps has much noise to carry.
- In the temporal stream the first two triples are the same events, so it cannot tell them
  apart, and the spatial stream adds to it.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from experiments.tslstm.sequences import STEPS, Floats, Streams, Videos, two_stream_splits
from harness.loading.splits import Splits
from harness.seeding import derive

EVENTS = 8
TRIPLES = ((0, 1, 2), (3, 4, 5), (6, 7, 0), (1, 3, 6))
TEMPORAL_TRIPLES = (TRIPLES[0], TRIPLES[0], TRIPLES[2], TRIPLES[3])
FAINT = 0.2
ACTIVE = 8  # an event activates one feature in so many
DISTRACTORS = 3


def order_video(
    seed: int = 0,
    train_per_class: int = 30,
    test_per_class: int = 50,
    width: int = 64,
    noise: float = 0.8,
    triples: int = 4,
    streams: Streams = "both",
    shuffle: bool = False,
) -> Splits:
    """Draw events, training and test videos: 25 steps, two streams of ``width`` features.

    With e(t) the event of step t's phase (the phases end at steps 8±2 and 17±2) and p[e] a
    stream's vector of the event, 1 in an eighth of the features and 0 elsewhere:
    ``x_t = max(0, g_t p[e(t)] + noise * N(0, I))``, where the gain g_t is 1 on a random half of
    the steps and 0.2 on the others; three random steps show a random event.

    Args:
        seed: every seed is another data set.
        noise: standard deviation of each feature's noise, before the ReLU.
        triples: how many of the four triples are used, 6 classes each.
    """
    if not 2 <= triples <= len(TRIPLES):
        raise ValueError(f"triples: 2 to {len(TRIPLES)}, got {triples}")
    generator = np.random.default_rng(derive(seed, "order_video"))
    ranks = generator.permuted(np.tile(np.arange(width), (2, EVENTS, 1)), axis=-1)
    prototypes = (ranks < width // ACTIVE).astype(np.float64)
    train = _draw(generator, prototypes, train_per_class, triples, noise)
    test = _draw(generator, prototypes, test_per_class, triples, noise)
    return two_stream_splits(train, test, 6 * triples, streams, shuffle, seed)


def event_orders(triples: int) -> NDArray[np.int64]:
    """Events of every class by stream and phase: (2, 6 * triples, 3)."""
    return np.array(
        [
            [order for triple in table[:triples] for order in permutations(triple)]
            for table in (TRIPLES, TEMPORAL_TRIPLES)
        ]
    )


def _draw(
    generator: np.random.Generator,
    prototypes: NDArray[np.float64],
    per_class: int,
    triples: int,
    noise: float,
) -> Videos:
    labels = np.repeat(np.arange(6 * triples), per_class)
    videos = len(labels)
    steps = np.arange(STEPS)
    ends = np.stack([generator.integers(6, 11, videos), generator.integers(15, 20, videos)], 1)
    phases = (steps >= ends[:, :1]).astype(np.int64) + (steps >= ends[:, 1:])
    ranks = generator.permuted(np.tile(steps, (videos, 1)), axis=1)
    gains = np.where(ranks < STEPS // 2, 1.0, FAINT)
    distractors = generator.permuted(np.tile(steps, (videos, 1)), axis=1) < DISTRACTORS
    streams: list[Floats] = []
    for table, vectors in zip(event_orders(triples), prototypes, strict=True):
        events = np.take_along_axis(table[labels], phases, axis=1)
        events = np.where(distractors, generator.integers(0, EVENTS, events.shape), events)
        signal = gains[..., None] * vectors[events]
        seen = np.maximum(signal + noise * generator.normal(size=signal.shape), 0)
        streams.append(seen.astype(np.float32))
    return Videos(streams[0], streams[1], labels)
