"""What a dataset hands to a procedure: splits that are indexed by whole batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

Batch = dict[str, Tensor]


class Split(Protocol):
    """Examples that yield a batch for a tensor of indices: no collate, no per-sample calls.

    A ``datasets.Dataset`` in torch format is one too, for data that does not fit in memory.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Tensor) -> Batch: ...


class Tensors:
    """A split held in memory: named tensors of equal first dimension.

    The target is called ``y``; every other name is passed to the model as a keyword argument.

    Raises:
        ValueError: when there is no tensor or the first dimensions differ.
    """

    def __init__(self, **columns: Tensor) -> None:
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"columns need one common length, got {lengths}")
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, indices: Tensor) -> Batch:
        return {name: column[indices] for name, column in self.columns.items()}

    def to(self, device: torch.device | str) -> Tensors:
        return Tensors(**{k: v.to(device, non_blocking=True) for k, v in self.columns.items()})


class Rows:
    """A split backed by a ``datasets.Dataset`` (memory-mapped Arrow), indexed by batches."""

    def __init__(self, dataset: object, columns: Sequence[str]) -> None:
        self.dataset = dataset.with_format("torch", columns=list(columns))  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, indices: Tensor) -> Batch:
        return dict(self.dataset[indices.tolist()])


@dataclass(frozen=True)
class Splits:
    """Training, test and, where the protocol has one, validation examples.

    Attributes:
        tests: further test sets by name; or, for a variable that is swept, a split for each of
            its values: ``{"rotated": split, "noise": {0.0: split, 0.1: split}}``.
        dims: integers a spec may refer to as ``${data.<name>}`` (features, classes, …).
    """

    train: Split
    test: Split
    val: Split | None = None
    dims: dict[str, int] = field(default_factory=dict)
    tests: Mapping[str, Split | Mapping[float, Split]] = field(default_factory=dict)
