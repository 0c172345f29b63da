"""Recurrent networks that are equivariant to flows: symmetries that act at a constant rate in time.

A flow equivariant network keeps one bank of hidden maps for each velocity ν of a set V, carries
every bank along at its own velocity, and uses the same weights in all of them:

    h_{t+1}(ν) = σ(W * ψ(ν) h_t(ν) + U * f_t),    h_0 = 0

where ψ(ν) moves a map by ν. When the input moves at ν̂ in addition, f'_t = ψ(ν̂)^t f_t, then

    h'_t(ν) = ψ(ν̂)^{t-1} h_t(ν - ν̂)    wherever ν - ν̂ is in V.

With V = {0} it is the recurrent network that is equivariant to still transformations only (G-RNN).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Flow = Literal["constant", "alternating", "learned"]


def velocities(reach: int, height: int, width: int) -> list[tuple[int, int]]:
    """All (rows, columns) a step of up to ``reach`` along each axis that has more than one cell."""
    down, right = (range(-reach, reach + 1) if side > 1 else range(1) for side in (height, width))
    return list(itertools.product(down, right))


def circular(inputs: int, outputs: int, height: int, width: int, kernel: int = 3) -> nn.Conv2d:
    """A convolution without bias on a torus; on a ring (one row) the kernel is a row, too."""
    size = (kernel if height > 1 else 1, kernel if width > 1 else 1)
    padding = (size[0] // 2, size[1] // 2)
    return nn.Conv2d(inputs, outputs, size, padding=padding, padding_mode="circular", bias=False)


class FlowCell(nn.Module):
    """One step of the recurrence; a subclass says how maps move.

    Args:
        inputs: U, of a frame.
        recurrent: W, of a bank.
        velocities: of the banks.
        shape: of a bank's maps (hidden, height, width).
    """

    def __init__(
        self, inputs: nn.Module, recurrent: nn.Module, velocities: list[Any], shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.recurrent = recurrent
        self.velocities = velocities
        self.shape = shape
        self.activation: Callable[[Tensor], Tensor] = F.relu

    def initial(self, batch: int, like: Tensor) -> Tensor:
        """No activity: zeros (batch, banks, hidden, height, width)."""
        return like.new_zeros(batch, len(self.velocities), *self.shape)

    def forward(self, frame: Tensor, h: Tensor, step: int) -> Tensor:
        """The next state.

        Args:
            frame: (batch, channels, height, width).
            h: (batch, banks, hidden, height, width).
            step: how many frames were seen before.
        """
        carried = self.recurrent(self.carry(h, step).flatten(0, 1)).unflatten(0, h.shape[:2])
        return self.activation(carried + self.inputs(frame)[:, None])

    def carry(self, h: Tensor, step: int) -> Tensor:
        """Every bank moved by a step at its own velocity."""
        banks = zip(h.unbind(1), self.velocities, strict=True)
        return torch.stack([self.moved(bank, velocity) for bank, velocity in banks], dim=1)

    def moved(self, maps: Tensor, velocity: Any) -> Tensor:
        """ψ(velocity): maps (batch, hidden, height, width) moved by one step."""
        raise NotImplementedError


class TranslationCell(FlowCell):
    """Banks move over a torus at integer velocities.

    Args:
        channels: of a frame.
        hidden: maps in each bank.
        reach: fastest velocity along an axis: (2 reach + 1)² banks, on a ring 2 reach + 1.
        flow: ``constant`` is the paper's. ``alternating`` turns each velocity's sign at every
            other step: as many banks and shifts, but no flow (a control). ``learned`` replaces
            the shifts by one trained kernel a bank, shared by its maps (the paper's G-RNN+).
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        height: int,
        width: int,
        reach: int,
        flow: Flow = "constant",
    ) -> None:
        super().__init__(
            circular(channels, hidden, height, width),
            circular(hidden, hidden, height, width),
            velocities(reach, height, width),
            (hidden, height, width),
        )
        self.flow = flow
        if flow == "learned":
            size = [2 * reach + 1 if side > 1 else 1 for side in (height, width)]
            kernels = torch.empty(len(self.velocities), 1, *size)
            for kernel in kernels:
                nn.init.kaiming_normal_(kernel[None], mode="fan_out", nonlinearity="linear")
            self.kernels = nn.Parameter(kernels)

    def carry(self, h: Tensor, step: int) -> Tensor:
        if self.flow == "learned":
            return self._filtered(h)
        if self.flow == "alternating" and step % 2:
            banks = zip(h.unbind(1), self.velocities, strict=True)
            return torch.stack(
                [shifted(bank, -rows, -columns) for bank, (rows, columns) in banks], 1
            )
        return super().carry(h, step)

    def moved(self, maps: Tensor, velocity: Any) -> Tensor:
        return shifted(maps, *velocity)

    def _filtered(self, h: Tensor) -> Tensor:
        batch, _, hidden, *_ = h.shape
        rows, columns = self.kernels.shape[2:]
        maps = h.transpose(1, 2).flatten(0, 1)  # banks are the channels
        padded = F.pad(maps, (columns // 2, columns // 2, rows // 2, rows // 2), mode="circular")
        found = F.conv2d(padded, self.kernels, groups=len(self.velocities))
        return found.reshape(batch, hidden, *found.shape[1:]).transpose(1, 2)


def shifted(maps: Tensor, rows: int, columns: int) -> Tensor:
    """Maps (…, height, width) moved down and to the right over a torus."""
    return torch.roll(maps, (rows, columns), (-2, -1)) if rows or columns else maps


class Forecaster(nn.Module):
    """Reads frames, then predicts the next ones, each from the prediction before.

    A prediction is a convolutional decoding of the largest activity over banks. What is fed back
    is cut off from the gradient, as in the authors' code, and not clamped.

    Args:
        cell: the recurrence.
        decoder: from (batch, maps, height, width) to a frame.
    """

    def __init__(self, cell: FlowCell, decoder: nn.Module) -> None:
        super().__init__()
        self.cell = cell
        self.decoder = decoder

    def forward(self, x: Tensor, steps: int) -> Tensor:
        """Frames (batch, steps, channels, height, width) after x (batch, time, channels, …)."""
        h, seen = self.state(x), x.shape[1]
        frame, predicted = x[:, -1], []
        for step in range(seen, seen + steps):
            h = self.cell(frame.detach(), h, step)
            frame = self.decoder(h.amax(dim=1))
            predicted.append(frame)
        return torch.stack(predicted, dim=1)

    def state(self, x: Tensor) -> Tensor:
        """The hidden state (batch, banks, …) after all frames of x (batch, time, channels, …)."""
        h = self.cell.initial(len(x), x)
        for step, frame in enumerate(x.unbind(1)):
            h = self.cell(frame, h, step)
        return h


class TranslationForecaster(Forecaster):
    """The network for moving digits; see :class:`TranslationCell` for the arguments.

    Args:
        decoder_layers: convolutions with ReLU before the last one, which makes a frame.
    """

    def __init__(
        self,
        height: int,
        width: int,
        channels: int = 1,
        hidden: int = 128,
        reach: int = 2,
        decoder_layers: int = 4,
        flow: Flow = "constant",
    ) -> None:
        size = (height, width)
        layers = (circular(hidden, hidden, *size) for _ in range(decoder_layers))
        super().__init__(
            TranslationCell(channels, hidden, *size, reach, flow),
            nn.Sequential(*activated(layers), circular(hidden, channels, *size)),
        )


def activated(layers: Iterable[nn.Module]) -> list[nn.Module]:
    """ReLU behind each layer."""
    return [part for layer in layers for part in (layer, nn.ReLU())]
