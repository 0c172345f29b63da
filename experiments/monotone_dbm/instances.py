"""Small random machines, several at once: Φ (R, N, N), b (R, N) of n variables with k states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from experiments.monotone_dbm.couplings import MonotoneCouplings, Phi, Scaling
from experiments.monotone_dbm.layers import Layer, matrix_of, owners
from experiments.monotone_dbm.model import Field

Kind = Literal["generic", "generic-unscaled", "aligned", "unscaled", "attractive", "convolutional"]


@dataclass(frozen=True)
class Instance:
    """One machine, in double precision."""

    phi: Tensor
    bias: Tensor
    layers: list[Layer]

    def field(self, count: int, seen: Tensor | None = None, held: Tensor | None = None) -> Field:
        """Its field for ``count`` states at once, nothing being held fixed by default."""
        size = len(self.bias)
        zeros = self.bias.new_zeros(count, size)
        ones = torch.ones_like(self.bias)
        phi = Phi(lambda q: q @ self.phi.mT, ones, ones)
        seen, held = (zeros if part is None else part for part in (seen, held))
        return Field(phi, self.bias, self.layers, seen, held)

    @property
    def curvatures(self) -> Tensor:
        """Eigenvalues of I - Φ (its symmetric part), ascending: from m to L."""
        return curvatures(self.phi)


def curvatures(phi: Tensor) -> Tensor:
    symmetric = (phi + phi.mT) / 2
    found: Tensor = torch.linalg.eigvalsh(torch.eye(len(phi)).to(phi) - symmetric)
    return found


def drawn(
    kind: Kind, generator: torch.Generator, monotone: float = 0.1, scaling: Scaling = "symmetric"
) -> Instance:
    """An instance.

    ``generic``: A with independent normal entries, scaled to the monotone class (n = 30, k = 4).
    ``aligned``: the columns of all variables are alike but for noise of 0.2 (n = 12, k = 3), so
    that all push each other away. ``unscaled`` (``generic-unscaled``): the same (as ``generic``),
    three times as large and outside the class. ``attractive``: the Potts ferromagnet
    ``Φ_ij = 2 k/(n - 1) I``, b = 0 (n = 10, k = 3), outside the class. ``convolutional``: two
    layers and a label of :class:`MonotoneCouplings`,
    with weights that are beyond the bound before they are scaled.
    """
    if kind == "convolutional":
        return _convolutional(generator, monotone, scaling)
    if kind == "attractive":
        n, k = 10, 3
        phi = 2 * k / (n - 1) * torch.kron(torch.ones(n, n) - torch.eye(n), torch.eye(k))
        return Instance(phi.double(), torch.zeros(n * k).double(), [Layer(k, n)])
    generic = kind.startswith("generic")
    n, k = (30, 4) if generic else (12, 3)
    if generic:
        a = _normal((n * k, n, k), generator)
    else:
        common = _normal((n * k, 1, k), generator)
        a = common + 0.2 * _normal((n * k, n, k), generator)
    a = a * _shrinking(a, monotone)
    if kind.endswith("unscaled"):
        a = 3 * a
    return Instance(_hollow(a), _normal((n * k,), generator), [Layer(k, n)])


def _normal(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64)


def _shrinking(a: Tensor, monotone: float) -> Tensor:
    """min(√(1-m)/|A_i|, 1) of A (rows, n, k), as (n, 1)."""
    norms = torch.linalg.matrix_norm(a.movedim(1, 0), 2)
    found: Tensor = ((1 - monotone) ** 0.5 / norms).clamp_max(1.0)[:, None]
    return found


def _hollow(a: Tensor) -> Tensor:
    flat = a.flatten(1)
    owner = owners([Layer(a.shape[2], a.shape[1])])
    # Layers hold a variable's states one after the other, as the columns of A do (one site).
    return -(flat.T @ flat).masked_fill(owner[:, None] == owner, 0)


def _convolutional(generator: torch.Generator, monotone: float, scaling: Scaling) -> Instance:
    layers = [Layer(3, 1, 4, 4), Layer(4, 2, 2, 2), Layer(5)]
    made = MonotoneCouplings(layers, [[3, 0, 0], [3, 3, 0], [0, 1, 1]], monotone, scaling).double()
    with torch.no_grad():
        for weight in made.links.parameters():
            weight.copy_(_normal(weight.shape, generator))
        phi = matrix_of(made.phi(), layers, torch.float64)
    return Instance(phi, _normal((len(phi),), generator), layers)
