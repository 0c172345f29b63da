"""Random networks by the thousand: pre-activations, pairs of inputs, tangent kernels.

For one input and given ``z``, the pre-activations of the next layer are independent Gaussians of
variance ``C_b + C_W mean σ(z)²``, exactly and at any width, so that a layer costs n random numbers
a network instead of n². Where derivatives are needed the weights are drawn in full.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.dl_theory.kernel import Layer


def single_input(
    layer: Layer,
    first_kernel: float,
    networks: int,
    width: int,
    depth: int,
    generator: torch.Generator,
) -> Iterator[Tensor]:
    """Pre-activations of layers 1 to ``depth``, each of shape (networks, width)."""

    def noise() -> Tensor:
        return torch.randn(networks, width, generator=generator, device=generator.device)

    z = first_kernel**0.5 * noise()
    yield z
    for _ in range(depth - 1):
        mean = layer.activation.value(z).square().mean(1, keepdim=True)
        fresh = (layer.bias_variance + layer.weight_variance * mean).sqrt() * noise()
        z = fresh + layer.skip * z if layer.skip else fresh
        yield z


def two_inputs(
    layer: Layer,
    first_kernel: float,
    cosine: float,
    networks: int,
    width: int,
    depth: int,
    generator: torch.Generator,
) -> Iterator[Tensor]:
    """Pre-activations of two inputs at a given angle, each layer of shape (2, networks, width).

    Given the layer before, the two are jointly Gaussian with a 2 × 2 covariance per network,
    whose Cholesky factor is applied.
    """

    def correlated(aa: Tensor, ab: Tensor, bb: Tensor) -> Tensor:
        g = torch.randn(2, networks, width, generator=generator, device=generator.device)
        rest = (bb - ab.square() / aa).clamp_min(0).sqrt()
        return torch.stack([aa.sqrt() * g[0], ab / aa.sqrt() * g[0] + rest * g[1]])

    ones = torch.ones(networks, 1, device=generator.device)
    z = correlated(first_kernel * ones, cosine * first_kernel * ones, first_kernel * ones)
    yield z
    for _ in range(depth - 1):
        a, b = layer.activation.value(z)
        products = ((p * q).mean(1, keepdim=True) for p, q in ((a, a), (a, b), (b, b)))
        z = correlated(*(layer.bias_variance + layer.weight_variance * p for p in products))
        yield z


@dataclass(frozen=True)
class Derivatives:
    """Of one layer's pre-activations.

    Attributes:
        tangent: diagonal of the neural tangent kernel, shape (networks, width), with λ_b = 0 and
            a weight's learning rate λ_W / n, λ_W = 1.
        gradient: mean over neurons of ``|dz_i / dz^(1)|²``, shape (networks,): an unbiased
            estimate along one random direction of ``z^(1)``.
    """

    tangent: Tensor
    gradient: Tensor


def derivatives(
    layer: Layer,
    first_kernel: float,
    networks: int,
    width: int,
    depth: int,
    generator: torch.Generator,
) -> Iterator[Derivatives]:
    """Derivatives of layers 1 to ``depth``, with weights drawn in full; no skips.

    The tangent kernel obeys ``H' = (W D) H (W D)^T + (mean σ²) 1`` with ``D = diag σ'(z)``, from
    ``H = |x|²/n_0 1`` (§8, with λ_b = 0).
    """

    def noise(*shape: int) -> Tensor:
        return torch.randn(networks, *shape, generator=generator, device=generator.device)

    start = (first_kernel - layer.bias_variance) / layer.weight_variance
    z = first_kernel**0.5 * noise(width, 1)
    eye = torch.eye(width, device=generator.device)
    tangent = start * eye.expand(networks, width, width)
    direction = noise(width, 1)
    direction = direction / direction.norm(dim=1, keepdim=True) * width**0.5
    for number in range(depth):
        yield Derivatives(torch.diagonal(tangent, dim1=1, dim2=2), direction.square().mean((1, 2)))
        if number == depth - 1:
            return
        active, slope = layer.activation.value(z), layer.activation.first(z)
        weights = (layer.weight_variance / width) ** 0.5 * noise(width, width)
        jacobian = weights * slope.mT
        tangent = jacobian @ tangent @ jacobian.mT + active.square().mean(1, keepdim=True) * eye
        direction = jacobian @ direction
        z = weights @ active
        if layer.bias_variance:
            z = z + layer.bias_variance**0.5 * noise(width, 1)
