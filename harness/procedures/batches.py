"""Batches straight from a split: one indexing operation a batch, no per-sample calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from harness.data.splits import Batch, Split
from harness.seeding import derive


class Batches:
    """An iterable of batches, reshuffled at every epoch by (seed, epoch).

    Args:
        split: the examples.
        batch_size: examples in a batch; the last one may be smaller.
        shuffle: ``(seed, epoch)`` of the order to use now; ``None`` keeps the split's order.
        drop_last: leave out an incomplete last batch (kept if it is the only one).
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        shuffle: Callable[[], tuple[int, int]] | None = None,
        drop_last: bool = False,
    ) -> None:
        self.split = split
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last and len(split) >= batch_size

    def __len__(self) -> int:
        whole, rest = divmod(len(self.split), self.batch_size)
        return whole if self.drop_last or not rest else whole + 1

    def order(self) -> torch.Tensor:
        """Indices of the examples in the order of this epoch."""
        if self.shuffle is None:
            return torch.arange(len(self.split))
        seed, epoch = self.shuffle()
        generator = torch.Generator().manual_seed(derive(seed, "shuffle", epoch))
        return torch.randperm(len(self.split), generator=generator)

    def __iter__(self) -> Iterator[Batch]:
        for indices in torch.split(self.order(), self.batch_size)[: len(self)]:
            yield self.split[indices]
