"""Streaming inference of 1-D convolutional feature extractors with overlapping windows.

Notation of the paper: windows of L samples advance by S samples; a network is f = g(h(x)), where
h is a stack of convolutions, activations, normalisations and pooling, and g any classifier on the
whole embedding. Here h is an ``nn.Sequential`` and is taken apart into :class:`Stage`s: one layer
that looks along time, and the pointwise layers after it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

POINTWISE = (
    nn.BatchNorm1d,
    nn.Dropout,
    nn.Dropout1d,
    nn.Identity,
    nn.ReLU,
    nn.ELU,
    nn.GELU,
    nn.LeakyReLU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Tanh,
)


class NotStreamable(ValueError):
    """A layer, or a step, with which the stack cannot be streamed; the message says why."""


@dataclass(frozen=True)
class Stage:
    """One layer along time and the pointwise layers that follow it.

    Output column j is computed from input columns ``j * stride - left`` to
    ``j * stride - left + reach - 1``; columns outside the window are zeros.

    Attributes:
        layer: a convolution or pooling; an identity where the stack begins pointwise.
        then: pointwise layers.
        reach: input columns that an output column spans.
        left, right: zeros that full inference puts before and after the window.
    """

    layer: nn.Module
    then: tuple[nn.Module, ...] = ()
    reach: int = 1
    stride: int = 1
    left: int = 0
    right: int = 0

    @property
    def ahead(self) -> int:
        """Zeros after the newest column that the last output column of a window sees."""
        return max(0, self.reach - self.stride - self.left)

    def padded(self, x: Tensor) -> Tensor:
        """The stage on columns (B, C, n) that are zero-padded already."""
        if isinstance(self.layer, nn.Conv1d):
            conv = self.layer
            return F.conv1d(x, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)
        return self.layer(x)  # type: ignore[no-any-return]

    def pointwise(self, x: Tensor) -> Tensor:
        for layer in self.then:
            x = layer(x)
        return x

    def full(self, x: Tensor) -> Tensor:
        """The stage on a whole window (B, C, T), as the original network computes it."""
        return self.pointwise(self.padded(F.pad(x, (self.left, self.right))))


def stages(features: nn.Sequential) -> list[Stage]:
    """Take a feature extractor apart.

    Understands ``Conv1d`` (any stride, dilation and groups, zero padding of its own or from a
    ``ZeroPad1d`` before it), unpadded ``MaxPool1d`` and ``AvgPool1d``, ``BatchNorm1d``, dropout
    and activations, nested in any number of ``Sequential``s.

    Raises:
        NotStreamable: for any other layer, and for one whose output is not one column for each
            ``stride`` columns of its input.
    """
    found: list[Stage] = []
    left = right = 0
    for layer in _flat(features):
        if isinstance(layer, nn.ZeroPad1d):
            left, right = left + layer.padding[0], right + layer.padding[1]
        elif isinstance(layer, POINTWISE):
            if left or right:
                raise NotStreamable(f"zeros are put before {layer}, which is pointwise")
            last = found.pop() if found else Stage(nn.Identity())
            found.append(Stage(**{**vars(last), "then": (*last.then, layer)}))
        else:
            found.append(_along_time(layer, left, right))
            left = right = 0
    if left or right:
        raise NotStreamable("zeros are put after the last layer")
    return found


def _flat(layers: nn.Sequential) -> Iterator[nn.Module]:
    for layer in layers:
        if isinstance(layer, nn.Sequential):
            yield from _flat(layer)
        else:
            yield layer


def _along_time(layer: nn.Module, left: int, right: int) -> Stage:
    if isinstance(layer, nn.Conv1d):
        if layer.padding_mode != "zeros":
            raise NotStreamable(f"{layer} pads with other values than zeros")
        reach = (layer.kernel_size[0] - 1) * layer.dilation[0] + 1
        own = _own_padding(layer, reach)
        stage = Stage(layer, (), reach, layer.stride[0], left + own[0], right + own[1])
    elif isinstance(layer, (nn.MaxPool1d, nn.AvgPool1d)):
        reach, stride, padding, dilation = _pooling(layer)
        if padding or layer.ceil_mode or dilation != 1:
            raise NotStreamable(f"{layer} is padded, dilated or rounds up")
        stage = Stage(layer, (), reach, stride, left, right)
    else:
        raise NotStreamable(f"{type(layer).__name__} is not a layer that can be streamed")
    zeros = stage.left + stage.right
    if not stage.reach - stage.stride <= zeros <= stage.reach - 1:
        raise NotStreamable(
            f"{layer} with {zeros} padding zeros: its output is not 1/{stage.stride} as long"
        )
    return stage


def _own_padding(conv: nn.Conv1d, reach: int) -> tuple[int, int]:
    if conv.padding == "same":
        return (reach - 1) // 2, reach - 1 - (reach - 1) // 2
    if conv.padding == "valid":
        return 0, 0
    return int(conv.padding[0]), int(conv.padding[0])


def _pooling(pool: nn.MaxPool1d | nn.AvgPool1d) -> tuple[int, ...]:
    """Length, stride, padding and dilation, which torch keeps as numbers or tuples of one."""
    sizes: list[Any] = [pool.kernel_size, pool.stride, pool.padding, getattr(pool, "dilation", 1)]
    return tuple(int(size[0] if isinstance(size, tuple) else size) for size in sizes)


def total_stride(parts: Sequence[Stage]) -> int:
    """Input samples for each column of the embedding."""
    return math.prod(stage.stride for stage in parts)


def needed_history(parts: Sequence[Stage]) -> int:
    """Samples before a window that its embedding depends on (0 if it starts exactly there).

    With at least so many, rounded up to the total stride, the embedding of an extended window
    is free of the zeros before it (section Training for Streaming Inference: L_a).
    """
    samples, jump = 0, 1
    for stage in parts:
        samples += stage.left * jump
        jump *= stage.stride
    return samples


def multiplications(parts: Sequence[Stage], columns: int) -> int:
    """Multiply-accumulates of the convolutions on so many new input columns."""
    total = 0
    for stage in parts:
        columns //= stage.stride
        if isinstance(stage.layer, nn.Conv1d):
            total += columns * stage.layer.weight.numel()
    return total


@dataclass
class _Buffer:
    """Newest input columns of a stage that its next outputs need again.

    ``needed`` counts the columns, old and new, that the new outputs are computed from.
    """

    columns: Tensor
    needed: int


class Streaming:
    """h in streaming mode: it is given S new samples and returns the embedding of the window.

    The first ``layers`` stages compute their new columns only: each keeps the newest columns of
    its input in a buffer (exact streaming, eq. 2) or takes zeros for them (approximate
    streaming). The columns they made for the window are kept and shifted (eq. 7); stages after
    them see all of these (partial streaming). Where S is no multiple of a pooling length, the
    number of new columns is rounded down, and the kept ones no longer lie where they should.

    Args:
        features: in evaluation mode.
        window: L, a multiple of the total stride.
        step: S.
        memory: whether past columns are kept (exact) or replaced by zeros (approximate).
        layers: stages that are streamed; all by default.

    Raises:
        NotStreamable: see :func:`stages`; or a stage would get no new column.
    """

    def __init__(
        self,
        features: nn.Sequential,
        window: int,
        step: int,
        memory: bool = True,
        layers: int | None = None,
    ) -> None:
        if features.training:
            raise NotStreamable("the feature extractor is in training mode")
        parts = stages(features)
        if window % total_stride(parts) or not 0 < step <= window:
            raise NotStreamable(
                f"a window of {window} samples, a step of {step}: the window has to be a multiple "
                f"of {total_stride(parts)}, the step at most the window"
            )
        self.memory = memory
        self.streamed, self.rest = parts[:layers], parts[len(parts[:layers]) :]
        self.window, self.step = window, step
        self.aligned = step % total_stride(self.streamed) == 0
        self.new_columns = _new_columns(self.streamed, step)
        self._buffers: list[_Buffer] = []
        self._kept = torch.empty(0)

    @torch.no_grad()
    def start(self, x: Tensor) -> Tensor:
        """Full inference on the first window (B, C, L); returns its embedding (B, E, T)."""
        if x.shape[-1] != self.window:
            raise ValueError(f"the first window has {x.shape[-1]} samples, not {self.window}")
        self._buffers, new = [], self.step
        for stage in self.streamed:
            outputs = new // stage.stride
            needed = outputs * stage.stride + stage.left
            past = max(needed - new, 0)
            columns = F.pad(x, (past, 0))[..., x.shape[-1] :]
            if not self.memory:
                columns = torch.zeros_like(columns)
            self._buffers.append(_Buffer(columns, needed))
            x, new = stage.full(x), outputs
        self._kept = x
        return self._finish()

    @torch.no_grad()
    def push(self, x: Tensor) -> Tensor:
        """The next S samples (B, C, S); returns the embedding (B, E, T) of the newest window."""
        if x.shape[-1] != self.step or (self.streamed and not self._buffers):
            raise ValueError(f"push {self.step} samples at a time, after start()")
        for stage, buffer in zip(self.streamed, self._buffers, strict=True):
            x = self._advance(stage, buffer, x)
        self._kept = torch.cat([self._kept[..., x.shape[-1] :], x], dim=-1)
        return self._finish()

    def _advance(self, stage: Stage, buffer: _Buffer, x: Tensor) -> Tensor:
        """New output columns of a stage from its new input columns."""
        past = buffer.columns.shape[-1]
        conv = stage.layer
        symmetric = past == stage.left == stage.ahead and past + x.shape[-1] == buffer.needed
        if not self.memory and isinstance(conv, nn.Conv1d) and symmetric:
            # The convolution brings as many zeros itself: no copy is needed.
            x = F.conv1d(x, conv.weight, conv.bias, conv.stride, past, conv.dilation, conv.groups)
            return stage.pointwise(x)
        seen = torch.cat([buffer.columns, x], dim=-1) if past else x
        if self.memory and past:
            buffer.columns = seen[..., -past:]
        if seen.shape[-1] > buffer.needed:  # misaligned: the oldest columns are passed over
            seen = seen[..., -buffer.needed :]
        if stage.ahead:
            seen = F.pad(seen, (0, stage.ahead))
        return stage.pointwise(stage.padded(seen))

    def _finish(self) -> Tensor:
        x = self._kept
        for stage in self.rest:
            x = stage.full(x)
        return x

    def run(self, signal: Tensor) -> Tensor:
        """Stream a signal (C, n); embeddings (windows, E, T) of the windows at 0, S, 2 S, …

        Raises:
            ValueError: the signal is shorter than a window.
        """
        embeddings = [self.start(signal[None, :, : self.window])]
        for end in range(self.window + self.step, signal.shape[-1] + 1, self.step):
            embeddings.append(self.push(signal[None, :, end - self.step : end]))
        return torch.cat(embeddings)


def _new_columns(parts: Sequence[Stage], step: int) -> int:
    for stage in parts:
        step //= stage.stride
        if step == 0:
            raise NotStreamable(f"the step leaves no new column for {stage.layer}")
    return step
