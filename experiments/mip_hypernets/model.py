"""Hypernetworks h(γ; ω) that predict the parameters θ of a primary network f(x; θ).

The default one is a fully connected network of γ. Magnitude invariant parametrizations (MIP)
change two things: θ = θ_0 + h(E(γ); ω), with an encoding E of constant norm and parameters θ_0
that are learned beside ω and start as those of an ordinary network do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

Encoding = Literal["none", "cos-sin", "z-1-z", "centred"]
Activation = Literal["leaky-relu", "relu", "tanh", "gelu"]
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "leaky-relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
}
GAIN = math.sqrt(2)  # of (leaky) ReLU; the released code has it for GELU as well
HEAD = "head."  # parameters of the primary network that are not predicted


def encoded(gamma: Tensor, encoding: Encoding) -> Tensor:
    """What the first layer is given, from γ (…, d) in [0, 1].

    ``cos-sin`` is the paper's E_L2, [cos(πγ/2), sin(πγ/2)] (…, 2d), of norm √d for every γ;
    ``z-1-z`` the released code's other one, [γ, 1 - γ]; ``centred`` is γ - 1/2.
    """
    if encoding == "cos-sin":
        angle = gamma * (math.pi / 2)
        return torch.cat([angle.cos(), angle.sin()], -1)
    if encoding == "z-1-z":
        return torch.cat([gamma, 1 - gamma], -1)
    return gamma - 0.5 if encoding == "centred" else gamma


class HyperNet(nn.Module):
    """Fully connected h: γ (…, d) to θ, x_{k+1} = φ(W_k x_k + b_k), θ = W_out x_L + b_out.

    Weights are Kaiming normal by fan-out, W_out separately for the rows of each predicted tensor.
    The released code keeps θ_0 as b_out: with ``residual`` that starts as an ordinary
    network's parameters do (Kaiming normal by fan-in, biases zero), without it is zero. Both have
    the same parameters and can represent the same functions.

    Args:
        shapes: of the predicted tensors, by name; tensors of one dimension are biases.
        inputs: d.
        hidden: widths.
        encoding: of γ, see :func:`encoded`.
        residual: θ_0 starts as an ordinary network, instead of at zero.
        scaled: W_out starts such that θ at ‖E(γ)‖ = 1 has the variance that θ_0 would have,
            and the rows of biases are zero.
        activation: φ.
        layer_norm: normalise every W_k x_k + b_k.
        uniform_biases: b_k and b_out start as in ``nn.Linear``, instead of at zero.
    """

    def __init__(
        self,
        shapes: Mapping[str, Sequence[int]],
        inputs: int = 1,
        hidden: Sequence[int] = (16, 64, 128),
        encoding: Encoding = "none",
        residual: bool = False,
        scaled: bool = False,
        activation: Activation = "leaky-relu",
        layer_norm: bool = False,
        uniform_biases: bool = False,
    ) -> None:
        super().__init__()
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.encoding = encoding
        width = inputs * (2 if encoding in ("cos-sin", "z-1-z") else 1)
        self.layers = nn.ModuleList()
        for units in hidden:
            linear = nn.Linear(width, units)
            fan_out_(linear.weight, "tanh" if activation == "tanh" else "relu")
            norm = nn.LayerNorm(units) if layer_norm else nn.Identity()
            self.layers.append(nn.Sequential(linear, norm, ACTIVATIONS[activation]()))
            width = units
        self.output = nn.Linear(width, sum(map(math.prod, self.shapes.values())))
        if not uniform_biases:
            for part in self.modules():
                if isinstance(part, nn.Linear):
                    nn.init.zeros_(part.bias)
        self._start_output(residual, scaled)

    @torch.no_grad()
    def _start_output(self, residual: bool, scaled: bool) -> None:
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        weights = torch.split(self.output.weight, sizes)
        biases = torch.split(self.output.bias, sizes)
        for shape, rows, theta in zip(self.shapes.values(), weights, biases, strict=True):
            rows.normal_(0, ordinary_std(shape)) if scaled else fan_out_(rows)
            if residual:
                theta.normal_(0, ordinary_std(shape))

    def states(self, gamma: Tensor) -> list[Tensor]:
        """x_1 … x_L, and θ as one vector (…, P)."""
        found = [encoded(gamma, self.encoding)]
        for layer in (*self.layers, self.output):
            found.append(layer(found[-1]))
        return found[1:]

    def flat(self, gamma: Tensor) -> Tensor:
        """θ as one vector (…, P)."""
        return self.states(gamma)[-1]

    def forward(self, gamma: Tensor) -> dict[str, Tensor]:
        """The predicted tensors, by name, for one γ (d,)."""
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        parts = torch.split(self.flat(gamma), sizes)
        named = zip(self.shapes.items(), parts, strict=True)
        return {name: part.view(shape) for (name, shape), part in named}


def fan_out_(weight: Tensor, nonlinearity: Literal["relu", "tanh"] = "relu") -> None:
    """Kaiming normal by the rows of a matrix, which is how W keeps the norm of a vector."""
    nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity=nonlinearity)


def ordinary_std(shape: Sequence[int]) -> float:
    """Of a network's parameters at the start: Kaiming's by fan-in, 0 for biases."""
    return GAIN / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.0


class ConvNet(nn.Module):
    """Four convolutions with leaky ReLU, the mean over positions, a linear head.

    The network in the released code's introduction (5x5, then 3x3), with fewer channels, and with
    strides in the place of its two poolings. Images (batch, 1, height, width) to logits.
    """

    def __init__(self, channels: Sequence[int] = (8, 8, 8, 8), classes: int = 10) -> None:
        super().__init__()
        first, second, third, fourth = channels
        self.conv1 = nn.Conv2d(1, first, 5, stride=2, padding=2)
        self.conv2 = nn.Conv2d(first, second, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(second, third, 3, padding=1)
        self.conv4 = nn.Conv2d(third, fourth, 3, padding=1)
        self.head = nn.Linear(fourth, classes)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = nn.functional.leaky_relu(conv(x))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class HyperConvNet(nn.Module):
    """A :class:`ConvNet` whose convolutions are predicted from γ; its head is learned itself.

    Args:
        channels, classes: of the primary network.
        hypernet: without, θ is learned itself and γ is not used (an ordinary network).
        inputs, hidden, encoding, residual, scaled, activation, layer_norm, uniform_biases: see
            :class:`HyperNet`.
    """

    def __init__(
        self,
        channels: Sequence[int] = (8, 8, 8, 8),
        classes: int = 10,
        hypernet: bool = True,
        inputs: int = 1,
        hidden: Sequence[int] = (16, 64, 128),
        encoding: Encoding = "none",
        residual: bool = False,
        scaled: bool = False,
        activation: Activation = "leaky-relu",
        layer_norm: bool = False,
        uniform_biases: bool = False,
    ) -> None:
        super().__init__()
        self.primary = ConvNet(channels, classes)
        named = dict(self.primary.named_parameters())
        shapes = {name: p.shape for name, p in named.items() if not name.startswith(HEAD)}
        self.hypernet: HyperNet | None = None
        if hypernet:
            kind = (encoding, residual, scaled, activation, layer_norm, uniform_biases)
            self.hypernet = HyperNet(shapes, inputs, hidden, *kind)
            for name in shapes:  # no parameters of their own: they are predicted
                owner, _, leaf = name.rpartition(".")
                setattr(self.primary.get_submodule(owner), leaf, None)
        else:
            with torch.no_grad():
                for name, shape in shapes.items():
                    named[name].normal_(0, ordinary_std(shape))

    def forward(self, x: Tensor, gamma: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, 1, h, w) that have one γ in common.

        γ is (batch, d), and its first row counts: batches are made so.
        """
        if self.hypernet is None:
            return self.primary(x)  # type: ignore[no-any-return]
        return self.answer(self.hypernet(gamma[0]), x)

    def theta(self, gamma: Tensor) -> Tensor:
        """θ as vectors (G, P), of several γ (G, d)."""
        if self.hypernet is not None:
            return self.hypernet.flat(gamma)
        named = self.primary.named_parameters()
        own = torch.cat([p.flatten() for name, p in named if not name.startswith(HEAD)])
        return own.expand(len(gamma), -1)

    def answer(self, theta: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Logits f(x; θ)."""
        logits: Tensor = functional_call(self.primary, dict(theta), (x,))
        return logits
