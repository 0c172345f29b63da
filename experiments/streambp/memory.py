"""Memory and operations, counted on the meta device: models of any size, without computing.

A :class:`~harness.procedures.cost.Ledger` sees every tensor that forward and backward passes
make; weights and their gradients exist before and are added exactly. GB are 10^9 bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.streambp.backward import Method, backward, chunks
from experiments.streambp.model import Decoder
from experiments.streambp.objectives import SFT
from harness.procedures.base import Outcome, Progress, Trial, exact
from harness.procedures.cost import Ledger, SavedBytes, flops, parameters
from harness.records import Series

META = torch.device("meta")
BYTES = 2  # of a weight in bfloat16
MAX_BEND = 1e-3  # of the counted bytes, beyond which they are not affine in the length


def step(model: Decoder, length: int, method: Method, padded: bool = False) -> Callable[[], Tensor]:
    """One backward pass on the model's device, gradients allocated beforehand."""
    device = next(model.parameters()).device
    tokens = torch.zeros(1, length, dtype=torch.long, device=device)
    valid = torch.ones_like(tokens, dtype=torch.bool) if padded else None
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    return lambda: backward(model, tokens, SFT(tokens), method, valid)


def peak(
    make: Callable[[], Decoder],
    length: int,
    method: Method,
    padded: bool = False,
    device: torch.device = META,
) -> int:
    """Most bytes alive in one backward pass beside weights and their gradients.

    Counted on the meta device; on a CUDA device it is what torch's allocator says.
    """
    with device:
        model = make().to(torch.bfloat16)
    run = step(model, length, method, padded)
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return int(torch.cuda.max_memory_allocated(device) - before)
    weights = list(model.parameters())
    with Ledger([*weights, *(p.grad for p in weights if p.grad is not None)]) as ledger:
        run()
    return int(ledger.peak)


def make(dims: Mapping[str, int], layers: int | None = None) -> Decoder:
    """A decoder of a published size, with fewer layers if given."""
    return Decoder(**{**dims, "layers": layers or dims["layers"]})  # type: ignore[arg-type]


class Weights:
    """Bytes of a model's weights and their gradients in bfloat16."""

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"fixed_gib", "parameters"}

    def run(self, trial: Trial) -> Outcome:
        count = parameters(lambda: make(trial.data.dims))
        return Outcome({"fixed_gib": exact(2 * BYTES * count / 2**30), "parameters": exact(count)})


class Longest:
    """The longest sequence whose backward pass fits a budget, and what a token costs.

    Bytes are affine in the length from some length on, with fixed chunks, and in the number of
    layers. They are taken at three lengths with one layer (the third is a check) and at the
    first length with two, and the line is solved for the budget.

    Args:
        method: how to backpropagate.
        budget: of the device, in GiB.
        lengths: three lengths, multiples of the chunks.
        counted: count on the meta device; otherwise measure on the trial's.

    Raises:
        ValueError: where bytes turn out not to be affine in the length.
    """

    def __init__(
        self,
        method: Method,
        budget: float = 80.0,
        lengths: Sequence[int] = (12000, 16000, 24000),
        counted: bool = True,
    ) -> None:
        self.method, self.budget, self.lengths = method, budget, list(lengths)
        self.counted = counted

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"longest", "bytes_per_token"}

    def run(self, trial: Trial) -> Outcome:
        device, dims = META if self.counted else trial.device, trial.data.dims

        def taken(layers: int, length: int) -> int:
            return peak(lambda: make(dims, layers), length, self.method, device=device)

        first, second, third = self.lengths
        found = []
        for done, length in enumerate(self.lengths):
            trial.report(Progress(done, 4))
            found.append(taken(1, length))
        slope = (found[1] - found[0]) / (second - first)
        line = found[1] + slope * (third - second)
        if abs(found[2] / line - 1) > MAX_BEND:
            raise ValueError(f"{found[2]} bytes at {third} tokens, where {line:.0f} were expected")
        a_token = slope + (dims["layers"] - 1) * (taken(2, first) - found[0]) / first
        fixed = 2 * BYTES * parameters(lambda: make(dims)) + found[0] - slope * first
        longest = (self.budget * 2**30 - fixed) / a_token
        return Outcome({"longest": exact(longest), "bytes_per_token": exact(a_token)})


class Growth:
    """How memory and operations of a small decoder grow with length and number of chunks.

    Memory is that of a padded sequence through fused attention, whose mask is a tensor; what a
    chunk saves and how much it computes are of attention written out.

    Args:
        method: how to backpropagate; its layer chunk is kept while the length grows.
        lengths: lengths, each twice the one before.
        divisions: numbers of chunks D that the last length is divided into.
        model: arguments of the decoder.
    """

    def __init__(
        self,
        method: Method,
        model: dict[str, Any],
        lengths: Sequence[int] = (1024, 2048, 4096),
        divisions: Sequence[int] = (1, 2, 4, 8, 16),
    ) -> None:
        self.method, self.model = method, model
        self.lengths, self.divisions = list(lengths), list(divisions)

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {
            *("memory", "memory_growth", "score_flops", "score_flops_error"),
            *("saved_by_layer", "saved_by_layer_error", "saved_by_head", "saved_by_head_error"),
            "flops_over_checkpointing",
        }

    def make(self, attention: str = "plain") -> Decoder:
        return Decoder(**self.model, attention=attention)

    def run(self, trial: Trial) -> Outcome:
        memory = [
            peak(lambda: self.make("fused"), length, self.method, padded=True)
            for length in self.lengths
        ]
        growth = np.diff(memory)
        rows = [self.lengths[-1] // d for d in self.divisions]
        base = self._flops(Method("checkpoint"))
        scores = [self._divided(d)["bmm"] / base["bmm"] for d in self.divisions]
        halves = [(1 + d) / (2 * d) for d in self.divisions]
        layer, head = list(map(self._saved_by_layer, rows)), list(map(self._saved_by_head, rows))
        shares = [1 / d for d in self.divisions]
        whole = self._flops(self.method)
        return Outcome(
            {
                "memory_growth": exact(growth[-1] / (2 * growth[-2])),
                "score_flops_error": exact(worst(scores, halves)),
                "saved_by_layer_error": exact(worst(layer, shares, layer[0])),
                "saved_by_head_error": exact(worst(head, shares, head[0])),
                "flops_over_checkpointing": exact(sum(whole.values()) / sum(base.values())),
            },
            {
                "memory": Series(
                    over="length", x=list(map(float, self.lengths)), y=list(map(float, memory))
                ),
                "saved_by_layer": self._over_chunks(layer),
                "saved_by_head": self._over_chunks(head),
                "score_flops": self._over_chunks(scores),
            },
        )

    def _over_chunks(self, values: Iterable[float]) -> Series:
        return Series(over="chunks", x=list(map(float, self.divisions)), y=list(values))

    def _inputs(self, rows: int) -> tuple[Decoder, Tensor, Tensor, Tensor]:
        """On the meta device: a decoder, the last rows of a layer's input, its keys and values."""
        with torch.device("meta"):
            model = self.make()
            h = torch.zeros(1, self.lengths[-1], self.model["width"])
            keys, values = model.layers[0].keys_values(h)  # type: ignore[operator]
        last = h[:, -rows:].clone().requires_grad_()
        return model, last, *(x.detach().requires_grad_() for x in (keys, values))

    def _saved_by_layer(self, rows: int) -> float:
        """Bytes that one chunk of a layer keeps for its backward pass beside keys and values."""
        model, h, keys, values = self._inputs(rows)
        with SavedBytes([*model.parameters(), keys, values]) as saved:
            model.layers[0].rows(h, keys, values, self.lengths[-1] - rows)  # type: ignore[operator]
        return float(saved.bytes)

    def _saved_by_head(self, rows: int) -> float:
        model, h, *_ = self._inputs(rows)
        labels = torch.zeros(1, rows, dtype=torch.long, device="meta")
        with SavedBytes([*model.parameters(), labels]) as saved:
            SFT(labels).part(model.logits(h), slice(0, 1), slice(0, rows))
        return float(saved.bytes)

    def _flops(self, method: Method) -> dict[str, int]:
        """Operations of a backward pass over the longest sequence, by kind."""
        with torch.device("meta"):
            model = self.make()
        return flops(step(model, self.lengths[-1], method))

    def _divided(self, divisions: int) -> dict[str, int]:
        rows = self.lengths[-1] // divisions
        return self._flops(replace(self.method, layer_chunk=rows, head_chunk=self.lengths[-1]))


def worst(found: Sequence[float], law: Sequence[float], unit: float = 1.0) -> float:
    """The largest relative deviation of figures, in a unit, from a law."""
    return max(abs(f / unit / share - 1) for f, share in zip(found, law, strict=True))


class LinearToy:
    """Table 8: ``L = sum(X W1 W2)``, X of (rows, width), divided into D chunks of rows.

    The gradient of the sum is a matrix of ones that a matrix product needs written out, as cuBLAS
    does; gradients of weights are made by the first chunk and added to by the next ones.

    Args:
        rows: rows of X.
        width: of X and of both square matrices.
        divisions: numbers of chunks D; 1 is standard backpropagation.
    """

    def __init__(
        self,
        rows: int = 100_000,
        width: int = 2**14,
        divisions: Sequence[int] = (1, 20, 50, 100, 200, 500),
    ) -> None:
        self.rows, self.width, self.divisions = rows, width, list(divisions)

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"toy_gb", "toy_gb_standard", "toy_gb_streamed"}

    def run(self, trial: Trial) -> Outcome:
        gb = [self._peak(d) / 1e9 for d in self.divisions]
        return Outcome(
            {
                "toy_gb_standard": exact(gb[0]),
                "toy_gb_streamed": exact(gb[1]),
            },
            {"toy_gb": Series(over="chunks", x=list(map(float, self.divisions)), y=gb)},
        )

    def _peak(self, divisions: int) -> int:
        with torch.device("meta"):
            x = torch.zeros(self.rows, self.width)
            first, second = (torch.zeros(self.width, self.width) for _ in range(2))
        for weight in (first, second):
            weight.requires_grad_()
        with Ledger([x, first, second]) as ledger:
            for rows in chunks(self.rows, -(-self.rows // divisions)):
                z = (x[rows] @ first) @ second
                z.backward(torch.ones_like(z))  # type: ignore[no-untyped-call]
                del z
        return int(ledger.peak) + 4 * (x.numel() + first.numel() + second.numel())
