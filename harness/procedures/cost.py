"""What a computation costs: bytes alive, operations, parameters, and time side by side."""

from __future__ import annotations

import gc
import statistics
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors that are alive, and the most there were at once.

    It sees every storage that an operation returns while the mode is on, in forward and backward
    passes and on any device, ``meta`` included: there a model's memory is counted without computing
    or allocating anything. What a kernel allocates inside, and what an allocator rounds up or
    leaves unused, is not seen.

    Args:
        known: tensors that exist already (parameters, inputs) and are not to be counted.

    Attributes:
        alive: bytes now.
        peak: the most bytes that were alive after an operation.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive = self.peak = 0
        self._seen: dict[int, weakref.ref[Any]] = {}
        self._known = [tensor.untyped_storage() for tensor in known]  # held: ids stay theirs
        self._seen.update({storage._cdata: weakref.ref(storage) for storage in self._known})

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor):
                self._note(leaf)
        self.peak = max(self.peak, self.alive)
        return found

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return

        def gone(_: object) -> None:
            self.alive -= size
            del self._seen[key]

        self._seen[key] = weakref.ref(storage, gone)
        self.alive += size


class SavedBytes(torch.autograd.graph.saved_tensors_hooks):
    """Counts the bytes that autograd keeps for the backward pass; each storage once.

    Args:
        known: tensors that are kept anyway (parameters, inputs) and are not to be counted.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        self.bytes = 0
        self._held = [tensor.untyped_storage() for tensor in known]
        seen = {storage._cdata for storage in self._held}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in seen:
                seen.add(storage._cdata)
                self._held.append(storage)  # else its address could be another's
                self.bytes += storage.nbytes()
            return tensor

        super().__init__(pack, lambda tensor: tensor)

    def __enter__(self) -> Self:  # type: ignore[override]
        super().__enter__()
        return self


def flops(run: Callable[[], object]) -> dict[str, int]:
    """Floating-point operations in ``run`` by kind (``mm``, ``bmm``, ``convolution``, …).

    Those of matrix products, convolutions and fused attention, two for a multiply and an add, as
    ``torch.utils.flop_counter`` counts them, in forward and backward passes.
    """
    with FlopCounterMode(display=False) as counter:
        run()
    found = counter.get_flop_counts().get("Global", {})
    return {str(kind).rpartition(".")[2]: int(count) for kind, count in found.items()}


def parameters(make: Callable[[], nn.Module]) -> int:
    """How many parameters a model has, shared ones once; built on the meta device."""
    with torch.device("meta"):
        return sum(p.numel() for p in make().parameters())


def interleaved(
    runs: Mapping[str, Callable[[], object]], repeats: int = 7, warm_up: int = 1
) -> dict[str, float]:
    """Median seconds of each, run in turns, so that all see the same machine.

    Ratios of these are comparable between machines; the seconds are not.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    collects = gc.isenabled()
    gc.disable()
    try:
        for repeat in range(warm_up + repeats):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                _synchronize()
                if repeat >= warm_up:
                    seconds[name].append(time.perf_counter() - start)
    finally:
        if collects:
            gc.enable()
    return {name: statistics.median(each) for name, each in seconds.items()}


def _synchronize() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
