"""Boltzmann machines whose inference is a mean-field fixed point.

One machine completes images and classifies them: its variables are the pixels, the hidden layers
and the label, and whatever is seen is held fixed while the others settle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.monotone_dbm.couplings import (
    Couplings,
    MonotoneCouplings,
    Phi,
    RestrictedCouplings,
)
from experiments.monotone_dbm.layers import (
    Layer,
    by_states,
    from_states,
    softmax,
    uniform,
)
from experiments.monotone_dbm.prox import along, prox_and_slope
from experiments.monotone_dbm.solvers import Found, Settings, fixed_point

Updates = Literal["proximal", "parallel", "sequential", "damped"]


class Field:
    """What the free variables of a batch feel: Φ q + b, with what is seen in its place.

    Args:
        phi: the couplings.
        bias: b, (N,).
        layers: of the state.
        seen: 1 where a value is held fixed, (B, N).
        held: these values, 0 elsewhere, (B, N).
    """

    def __init__(
        self, phi: Phi, bias: Tensor, layers: Sequence[Layer], seen: Tensor, held: Tensor
    ) -> None:
        self.phi, self.bias, self.layers = phi, bias, layers
        self.free, self.held = 1 - seen, held

    def clamped(self, q: Tensor) -> Tensor:
        return self.free * q + self.held

    def logits(self, q: Tensor) -> Tensor:
        return self.phi(self.clamped(q)) + self.bias

    def proximal(self, q: Tensor, alpha: float) -> Tensor:
        """The damped step ``prox((1 - α) q + α (Φ q + b))``; its fixed points are mean-field's."""
        return self._step(q, alpha)[0]

    def _step(self, q: Tensor, alpha: float) -> tuple[Tensor, list[Tensor]]:
        z = (1 - alpha) * q + alpha * self.logits(q)
        both = [prox_and_slope(part, alpha, 1) for part in by_states(z, self.layers)]
        return self.clamped(from_states([p for p, _ in both], self.layers)), [w for _, w in both]

    def transposed(self, q: Tensor, alpha: float) -> Callable[[Tensor], Tensor]:
        """v ↦ J'v, with J the Jacobian of :meth:`proximal` at q."""
        slopes = self._step(q, alpha)[1]

        def apply(v: Tensor) -> Tensor:
            parts = zip(slopes, by_states(self.free * v, self.layers), strict=True)
            u = from_states([along(w, part, 1) for w, part in parts], self.layers)
            return (1 - alpha) * u + alpha * self.free * self.phi.transposed(u)

        return apply

    def residual(self, q: Tensor) -> Tensor:
        """max |softmax(Φ q + b) - q| of each row's free variables, (B,)."""
        settled = self.clamped(softmax(self.logits(q), self.layers))
        return (settled - self.clamped(q)).abs().amax(1)


def settled(field: Field, start: Tensor, alpha: float, settings: Settings) -> Found:
    """The mean-field point of a monotone field, without gradients."""
    with torch.no_grad():
        return fixed_point(lambda q: field.proximal(q, alpha), field.clamped(start), settings)


def implicit(field: Field, q: Tensor, alpha: float, settings: Settings) -> Tensor:
    """q again, with the gradient of the fixed point: the adjoint is a fixed point, too."""
    with torch.no_grad():
        pulled = field.transposed(q, alpha)
    once = field.proximal(q, alpha)

    def adjoint(gradient: Tensor) -> Tensor:
        found = fixed_point(lambda v: pulled(v) + gradient, gradient, settings)
        return found.point

    if once.requires_grad:
        once.register_hook(adjoint)  # type: ignore[no-untyped-call]
    return once


def mean_field(field: Field, start: Tensor, updates: Updates, steps: int) -> Tensor:
    """Softmax updates of all layers at once, one layer after the other, or half a step at once."""
    q = field.clamped(start)
    for _ in range(steps):
        if updates == "sequential":
            q = _sweep(field, q)
            continue
        new = field.clamped(softmax(field.logits(q), field.layers))
        q = (q + new) / 2 if updates == "damped" else new
    return q


def _sweep(field: Field, q: Tensor) -> Tensor:
    """Every layer by the newest state of the others, from the hidden ones to the visible one."""
    sizes = [layer.size for layer in field.layers]
    for index in [*range(1, len(sizes)), 0]:
        parts = list(torch.split(q, sizes, dim=1))
        new = field.clamped(softmax(field.logits(q), field.layers))
        parts[index] = torch.split(new, sizes, dim=1)[index]
        q = torch.cat(parts, dim=1)
    return q


class BoltzmannMachine(nn.Module):
    """Pixels, hidden layers and a label.

    Args:
        side: of the square image.
        levels: grey levels of a pixel.
        classes: of the label.
        hidden: (states, groups, side) of each hidden layer.
        kernels: see :class:`Couplings`.
        structure: ``monotone``; ``restricted``, free couplings between layers and none within;
            ``bounded``, the same scaled to a norm of 1 - m.
        updates: ``proximal`` steps to the fixed point, or ``steps`` of mean field's.
        alpha: the damping; halved whenever a training batch has not settled after ``steps``.
        monotone: m.
        steps, tolerance, memory: see :class:`Settings`.
        gain: factor of the initial weights.
        sharpness: what the label's logits are multiplied by at first.
    """

    alpha: Tensor

    def __init__(
        self,
        side: int,
        levels: int,
        classes: int,
        hidden: Sequence[tuple[int, int, int]],
        kernels: Sequence[Sequence[int]],
        structure: Literal["monotone", "restricted", "bounded"] = "monotone",
        updates: Updates = "proximal",
        alpha: float = 0.125,
        monotone: float = 0.01,
        steps: int = 50,
        tolerance: float = 1e-2,
        memory: int = 5,
        gain: float = 1.0,
        sharpness: float = 1.0,
    ) -> None:
        super().__init__()
        sizes = [Layer(states, groups, width, width) for states, groups, width in hidden]
        self.layers = [Layer(levels, 1, side, side), *sizes, Layer(classes)]
        self.couplings = _couplings(structure, self.layers, kernels, monotone)
        with torch.no_grad():
            for weight in self.couplings.links.parameters():
                weight.mul_(gain)
        self.updates = updates
        self.settings = Settings(tolerance, steps, memory)
        self.register_buffer("alpha", torch.tensor(alpha, dtype=torch.float64))
        self.pixel_scale = nn.Parameter(torch.full((side, side), 10**0.5))
        self.label_scale = nn.Parameter(torch.tensor(sharpness**0.5))

    def field(self, x: Tensor, seen: Tensor) -> Field:
        """The field of images x (B, side, side), grey levels, where ``seen`` (B, side, side)."""
        pixels = self.layers[0]
        mask = seen[:, None].to(self.label_scale.dtype)
        values = F.one_hot(x, pixels.states).movedim(-1, 1) * mask
        rest = sum(layer.size for layer in self.layers[1:])
        held = F.pad(values.flatten(1), (0, rest))
        masked = F.pad(mask.expand_as(values).flatten(1), (0, rest))
        return Field(self.couplings.phi(), self.couplings.bias(), self.layers, masked, held)

    def infer(self, field: Field) -> Tensor:
        """Marginals (B, N), with gradients in training."""
        start = uniform(self.layers, field.held).expand_as(field.held)
        if self.updates != "proximal":
            return mean_field(field, start, self.updates, self.settings.steps)
        alpha = float(self.alpha)
        found = settled(field, start, alpha, self.settings)
        if not torch.is_grad_enabled():
            return found.point
        if self.training and not found.converged:
            self.alpha.mul_(0.5)
        return implicit(field, found.point, alpha, self.settings)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """Logits of the label (classes) and of every pixel (levels · side · side), side by side."""
        field = self.field(x, seen)
        return self.read(field.logits(self.infer(field)))

    def read(self, fields: Tensor) -> Tensor:
        """What :meth:`forward` gives, from Φ q + b."""
        pixels, label = self.layers[0], self.layers[-1]
        grey = fields[:, : pixels.size].view(-1, pixels.states, *self.pixel_scale.shape)
        grey = grey * self.pixel_scale.square()
        named = fields[:, -label.size :] * self.label_scale.square()
        return torch.cat([named, grey.flatten(1)], dim=1)

    def settle_from(self, field: Field, start: Tensor, steps: int) -> Tensor:
        """Where inference ends from another start, given ``steps`` and a tolerance of 1e-5."""
        if self.updates != "proximal":
            each = len(self.layers) if self.updates == "sequential" else 1
            return mean_field(field, start, self.updates, steps // each)
        settings = replace(self.settings, tolerance=1e-5, steps=steps)
        return settled(field, start, float(self.alpha), settings).point


def _couplings(
    structure: str, layers: Sequence[Layer], kernels: Sequence[Sequence[int]], monotone: float
) -> Couplings:
    if structure == "monotone":
        return MonotoneCouplings(layers, kernels, monotone)
    bound = 1 - monotone if structure == "bounded" else None
    return RestrictedCouplings(layers, kernels, bound)


class LinearReader(nn.Module):
    """A linear map of what is seen to the same logits: what needs no inference at all.

    Args:
        side, levels, classes: as of :class:`BoltzmannMachine`.
    """

    def __init__(self, side: int, levels: int, classes: int) -> None:
        super().__init__()
        self.levels = levels
        self.map = nn.Linear(side * side * levels, classes + side * side * levels)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        values = F.one_hot(x, self.levels).movedim(-1, 1) * seen[:, None]
        out: Tensor = self.map(values.flatten(1).to(self.map.weight.dtype))
        return out
