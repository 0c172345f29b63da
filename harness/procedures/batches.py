"""Batches straight from a split: one indexing operation a batch, no per-sample calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from harness.loading.splits import Batch, Split
from harness.seeding import derive


class Batches:
    """An iterable of batches, reshuffled at every epoch by (seed, epoch).

    Args:
        split: the examples.
        batch_size: examples in a batch; the last one may be smaller.
        shuffle: ``(seed, epoch)`` of the order to use now; ``None`` keeps the split's order.
        drop_last: leave out an incomplete last batch (kept if it is the only one).
        shard: ``(rank, ranks)`` of the process; each gets its share of every batch. A process
            without a share of a training batch (``shuffle`` given) gets the first example, so
            that all make the same steps, and has to weigh it by :meth:`share`.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        shuffle: Callable[[], tuple[int, int]] | None = None,
        drop_last: bool = False,
        shard: Callable[[], tuple[int, int]] = lambda: (0, 1),
    ) -> None:
        self.split = split
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last and len(split) >= batch_size
        self.shard = shard

    def __len__(self) -> int:
        whole, rest = divmod(len(self.split), self.batch_size)
        return whole if self.drop_last or not rest else whole + 1

    @property
    def examples(self) -> int:
        """Examples of one pass, those of all processes together."""
        return min(len(self) * self.batch_size, len(self.split))

    def order(self) -> torch.Tensor:
        """Indices of the examples in the order of this epoch."""
        if self.shuffle is None:
            return torch.arange(len(self.split))
        seed, epoch = self.shuffle()
        generator = torch.Generator().manual_seed(derive(seed, "shuffle", epoch))
        return torch.randperm(len(self.split), generator=generator)

    def size(self, index: int) -> int:
        """Examples of a batch, those of all processes together."""
        return min(self.batch_size, len(self.split) - index * self.batch_size)

    def share(self, index: int) -> float:
        """Examples of this process in a batch, relative to an equal share of it."""
        rank, ranks = self.shard()
        examples = self.size(index)
        return len(range(rank, examples, ranks)) * ranks / examples

    def __iter__(self) -> Iterator[Batch]:
        return self.starting(0)

    def starting(self, first: int) -> Iterator[Batch]:
        """The batches from the one with that index on."""
        rank, ranks = self.shard()
        for indices in torch.split(self.order(), self.batch_size)[first : len(self)]:
            part = indices[rank::ranks]
            if len(part) == 0 and self.shuffle is not None:
                part = indices[:1]
            if len(part):
                yield self.split[part]
