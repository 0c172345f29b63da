"""Additive attention, u_ij = v^T tanh(W1 e_j + W2 d_i), computed in blocks that stay in the cache.

The sums W1 e_j + W2 d_i of a batch are by far the largest thing that the networks compute: 26
million numbers for 128 instances of 50 points and outputs of 16 tokens. They are made for a few
instances at a time, only as many points and tokens of each as there are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

BLOCK = 1 << 17  # numbers: half a megabyte


def additive(keys: Tensor, queries: Tensor, v: Tensor, inputs: Tensor, outputs: Tensor) -> Tensor:
    """Scores of every key for every query.

    Args:
        keys: W1 e, (B, n, H).
        queries: W2 d, (B, m, H).
        v: (H,).
        inputs: keys of each instance that count, (B,).
        outputs: queries of each instance that count, (B,).

    Returns:
        u, (B, m, n); what does not count is 0, or the score of its padding.
    """
    with torch.autocast("cpu", enabled=False):
        keys, queries = keys.to(v.dtype), queries.to(v.dtype)
        blocks = _blocks(inputs, outputs, len(v))
        scores: Tensor = _Additive.apply(keys, queries, v, blocks)  # type: ignore[no-untyped-call]
    return scores


Rows = Tensor | slice


def _blocks(inputs: Tensor, outputs: Tensor, units: int) -> list[tuple[Rows, int, int]]:
    """Instances of similar size, with their largest numbers of keys and queries."""
    most, longest = int(inputs.max()), int(outputs.max())
    if int(inputs.min()) == most and int(outputs.min()) == longest:
        size = max(1, BLOCK // (most * longest * units))
        starts = range(0, len(inputs), size)
        return [(slice(start, start + size), most, longest) for start in starts]
    order = (inputs * (int(outputs.max()) + 1) + outputs).argsort(stable=True)
    n, m = inputs[order].tolist(), outputs[order].tolist()
    blocks: list[tuple[Rows, int, int]] = []
    start, most = 0, 0
    for stop in range(len(n)):
        longest = max(most, m[stop])
        if stop > start and (stop + 1 - start) * n[stop] * longest * units > BLOCK:
            blocks.append((order[start:stop], n[stop - 1], most))
            start, longest = stop, m[stop]
        most = longest
    return [*blocks, (order[start:], n[-1], most)]


class _Additive(Function):
    @staticmethod
    def forward(
        ctx: Any, keys: Tensor, queries: Tensor, v: Tensor, blocks: list[tuple[Rows, int, int]]
    ) -> Tensor:
        scores = keys.new_zeros(len(keys), queries.shape[1], keys.shape[1])
        joint = []
        for rows, n, m in blocks:
            tanh = (keys[rows, None, :n] + queries[rows, :m, None]).tanh_()
            scores[rows, :m, :n] = tanh @ v
            joint.append(tanh)
        ctx.save_for_backward(v, *joint)
        ctx.blocks, ctx.shapes = blocks, (keys.shape, queries.shape)
        return scores

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        v, *joint = ctx.saved_tensors
        of_keys, of_queries = (grads[0].new_zeros(shape) for shape in ctx.shapes)
        of_v = torch.zeros_like(v)
        for (rows, n, m), tanh in zip(ctx.blocks, joint, strict=True):
            of_scores = grads[0][rows, :m, :n].contiguous()
            of_v += of_scores.flatten() @ tanh.flatten(0, 2)
            of_joint = torch.ops.aten.tanh_backward(of_scores.unsqueeze(-1), tanh)
            of_queries[rows, :m] = of_joint.sum(dim=2) * v
            of_keys[rows, :n] = of_joint.sum(dim=1) * v
        return of_keys, of_queries, of_v, None
