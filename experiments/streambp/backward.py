"""Backpropagation in four ways; all add the same gradients to what is in ``.grad``.

``standard`` keeps every activation, ``checkpoint`` only the inputs of layers; ``mst``
(mini-sequence transformer, arXiv 2407.15892) besides runs MLP and head in chunks; ``stream`` (the
paper) goes through layers and head chunk by chunk along the sequence, for
``dL/dW = sum over chunks i of (dZ_i/dW)^T dL/dZ_i`` (section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from experiments.streambp.model import Decoder, Layer
from experiments.streambp.objectives import Objective, slope, whole

Name = Literal["standard", "checkpoint", "mst", "stream"]
Flaw = Literal["", "no-key-gradient", "top-left-mask"]


@dataclass(frozen=True)
class Method:
    """How to backpropagate.

    Attributes:
        name: see the module.
        layer_chunk: rows at a time in a layer (``mst``: in its MLP).
        head_chunk: rows at a time at the head.
        cached: ``stream`` computes a layer's keys and values once (the paper); otherwise those of
            the prefix anew for every chunk (the released code).
        flaw: something left out or wrong, for controls: the gradient through keys and values of
            earlier chunks, or the causal mask aligned to the top left, as ``is_causal`` does.
    """

    name: Name = "stream"
    layer_chunk: int = 500
    head_chunk: int = 100
    cached: bool = True
    flaw: Flaw = ""


def backward(
    model: Decoder,
    tokens: Tensor,
    objective: Objective,
    method: Method,
    valid: Tensor | None = None,
) -> Tensor:
    """Add the gradient of the loss to the parameters' ``.grad``.

    Args:
        tokens: (B, T).
        valid: (B, T), false at padding; ``None`` where there is none.

    Returns:
        The loss, detached.
    """
    if method.name == "stream":
        return _stream(model, tokens, objective, method, valid)
    h = model.embedding(tokens)
    for layer in model.layers:
        h = _whole_layer(layer, h, valid, method)
    if method.name == "mst":
        loss = _chunked_loss(model, h, objective, method)
        loss.backward()  # type: ignore[no-untyped-call]
    else:
        logits = model.logits(h)  # alive to the end, as where a model's output holds them
        loss = whole(objective, logits)
        del h
        loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def _whole_layer(layer: nn.Module, h: Tensor, valid: Tensor | None, method: Method) -> Tensor:
    if method.name == "standard":
        return layer(h, valid)  # type: ignore[no-any-return]
    if method.name == "checkpoint":
        return checkpoint(layer, h, valid, use_reentrant=False)  # type: ignore[no-any-return]

    def with_mini_sequences(h: Tensor) -> Tensor:
        assert isinstance(layer, Layer)
        mixed = layer.mixed(h, *layer.keys_values(h), 0, valid)
        parts = torch.split(mixed, method.layer_chunk, 1)
        done = [checkpoint(layer.mlp, part, use_reentrant=False) for part in parts]
        return mixed + torch.cat(done, 1)

    return checkpoint(with_mini_sequences, h, use_reentrant=False)  # type: ignore[no-any-return]


def _chunked_loss(model: Decoder, h: Tensor, objective: Objective, method: Method) -> Tensor:
    """Logits of a chunk at a time, computed again in the backward pass."""
    losses = []
    for group in objective.groups:

        def part(x: Tensor, rows: slice, group: slice = group) -> Tensor:
            return objective.part(model.logits(x), group, rows)

        parts = [
            checkpoint(part, h[group, rows], rows, use_reentrant=False)
            for rows in chunks(h.shape[1], method.head_chunk)
        ]
        losses.append(objective.outer(torch.stack(parts).sum(), group))
    return torch.stack(losses).sum()


def chunks(length: int, size: int) -> Iterator[slice]:
    """Slices of ``size`` that cover ``range(length)``; the last may be shorter."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def _stream(
    model: Decoder, tokens: Tensor, objective: Objective, method: Method, valid: Tensor | None
) -> Tensor:
    with torch.no_grad():
        inputs = [model.embedding(tokens)]
        for layer in model.layers:
            inputs.append(_forward(layer, inputs[-1], method, valid))
    loss, gradient = _head(model, inputs.pop(), objective, method)
    for layer in reversed(model.layers):
        assert isinstance(layer, Layer)
        gradient = _layer(layer, inputs.pop(), gradient, method, valid)
    model.embedding(tokens).backward(gradient)
    return loss


def _forward(layer: nn.Module, h: Tensor, method: Method, valid: Tensor | None) -> Tensor:
    """A layer's outputs, in chunks, so that no square of T × T exists here, either."""
    assert isinstance(layer, Layer)
    if not method.cached:
        return layer(h, valid)  # type: ignore[no-any-return]
    keys, values = layer.keys_values(h)
    output = torch.empty_like(h)
    for rows in chunks(h.shape[1], method.layer_chunk):
        k, v = (x[:, :, : rows.stop] for x in (keys, values))
        output[:, rows] = layer.rows(h[:, rows], k, v, rows.start, valid)
    return output


def _head(model: Decoder, h: Tensor, objective: Objective, method: Method) -> tuple[Tensor, Tensor]:
    """The loss, and its gradient (B, T, d) by the last layer's outputs h."""
    gradient = torch.empty_like(h)
    loss = h.new_zeros((), dtype=torch.promote_types(h.dtype, torch.float32))
    for group in objective.groups:
        if objective.linear:
            weight = slope(objective, loss, group)
            total = _head_parts(model, h, gradient, objective, method, group, weight)
        else:
            with _apart([*model.norm.parameters(), *model.head.parameters()]) as scale:
                total = _head_parts(model, h, gradient, objective, method, group)
                weight = slope(objective, total, group)
                scale(weight)
            gradient[group] *= weight.to(gradient.dtype)
        loss += objective.outer(total, group)
    return loss, gradient


def _head_parts(
    model: Decoder,
    h: Tensor,
    gradient: Tensor,
    objective: Objective,
    method: Method,
    group: slice,
    weight: Tensor | float = 1.0,
) -> Tensor:
    """Backpropagate ``weight`` times each part of a group; the sum of the parts."""
    total = h.new_zeros((), dtype=torch.promote_types(h.dtype, torch.float32))
    for rows in chunks(h.shape[1], method.head_chunk):
        x = h[group, rows].detach().requires_grad_()
        part = objective.part(model.logits(x), group, rows)
        (part * weight).backward()  # type: ignore[no-untyped-call]
        assert x.grad is not None
        gradient[group, rows] = x.grad
        total += part.detach()
    return total


class _apart:
    """Gradients of parameters begin at none inside, are scaled, and added to what was there."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters

    def __enter__(self) -> Callable[[Tensor], None]:
        self.before = [p.grad for p in self.parameters]
        for parameter in self.parameters:
            parameter.grad = None
        return self._scale

    def _scale(self, factor: Tensor) -> None:
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad *= factor.to(parameter.grad.dtype)

    def __exit__(self, *_: object) -> None:
        for parameter, before in zip(self.parameters, self.before, strict=True):
            if before is not None:
                parameter.grad = before if parameter.grad is None else before.add_(parameter.grad)


def _layer(
    layer: Layer, h: Tensor, gradient: Tensor, method: Method, valid: Tensor | None
) -> Tensor:
    """The gradient by a layer's input h (B, T, d) from that by its output, written over it."""
    if not method.cached:
        return _layer_as_released(layer, h, gradient, method, valid)
    source = h.detach().requires_grad_()
    keys, values = layer.keys_values(source)
    by_keys, by_values = torch.zeros_like(keys), torch.zeros_like(values)
    offset = 0 if method.flaw == "top-left-mask" else None
    for rows in chunks(h.shape[1], method.layer_chunk):
        x = h[:, rows].detach().requires_grad_()
        k, v = (part[:, :, : rows.stop].detach().requires_grad_() for part in (keys, values))
        layer.rows(x, k, v, rows.start, valid, offset).backward(gradient[:, rows])  # type: ignore[no-untyped-call]
        assert x.grad is not None
        gradient[:, rows] = x.grad
        since = rows.start if method.flaw == "no-key-gradient" else 0
        assert k.grad is not None and v.grad is not None
        by_keys[:, :, since : rows.stop] += k.grad[:, :, since:]
        by_values[:, :, since : rows.stop] += v.grad[:, :, since:]
    torch.autograd.backward([keys, values], [by_keys, by_values])
    assert source.grad is not None
    return gradient.add_(source.grad)


def _layer_as_released(
    layer: Layer, h: Tensor, gradient: Tensor, method: Method, valid: Tensor | None
) -> Tensor:
    """The same, with norm, keys and values of the whole prefix computed again for every chunk."""
    source = h.detach().requires_grad_()
    for rows in chunks(h.shape[1], method.layer_chunk):
        keys, values = layer.keys_values(source[:, : rows.stop])
        found = layer.rows(source[:, rows], keys, values, rows.start, valid)
        found.backward(gradient[:, rows])  # type: ignore[no-untyped-call]
    assert source.grad is not None
    return source.grad
