"""The proximal operator that takes the place of softmax in the damped iteration.

``f(p) = Σ p log p - |p|²/2`` on the simplex, and ``prox(z) = argmin |p - z|²/2 + α f(p)``. Its
optimality condition is ``α log p_s + (1 - α) p_s = z_s + ν``, with ν such that p sums to one;
α = 1 is softmax.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def _solved(z: Tensor, alpha: float, dim: int, most: int = 100) -> tuple[Tensor, Tensor]:
    """p, and ``w = dp/d(z + ν)``.

    Newton's steps in ``log p`` and ν together, begun where the largest entry is one, so that the
    sum is too large and ν too high.
    """
    tolerance = 1e-5 if z.dtype == torch.float32 else 1e-12
    nu = (1 - alpha) - z.amax(dim, keepdim=True)
    level = z + nu
    log_p = torch.minimum(level / alpha, level - (1 - alpha))  # exp(x) is above 0 and above 1 + x
    for _ in range(most):
        p = log_p.exp()
        slope = alpha + (1 - alpha) * p
        w = p / slope
        off = alpha * log_p + (1 - alpha) * p - level
        excess = p.sum(dim, keepdim=True) - 1
        if max(float((off * w).abs().max()), float(excess.abs().max())) < tolerance:
            break
        rise = ((w * off).sum(dim, keepdim=True) - excess) / w.sum(dim, keepdim=True)
        log_p = log_p + (rise - off) / slope
        level = level + rise
    return p, w


def along(w: Tensor, v: Tensor, dim: int) -> Tensor:
    """The operator's symmetric Jacobian ``diag(w) - w wᵀ/Σw`` times v."""
    weighted = w * v
    return weighted - w * (weighted.sum(dim, keepdim=True) / w.sum(dim, keepdim=True))


class _Prox(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, alpha: float, dim: int) -> tuple[Tensor, Tensor]:
        p, w = _solved(z, alpha, dim)
        ctx.save_for_backward(w)
        ctx.mark_non_differentiable(w)
        ctx.dim = dim
        return p, w

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (w,) = ctx.saved_tensors
        return along(w, gradients[0], ctx.dim), None, None


def prox_softmax(z: Tensor, alpha: float, dim: int = -1) -> Tensor:
    """``prox(z)`` over ``dim``: probabilities of the same shape as z, differentiable once.

    Raises:
        ValueError: for an α outside (0, 1].
    """
    return prox_and_slope(z, alpha, dim)[0]


def prox_and_slope(z: Tensor, alpha: float, dim: int = -1) -> tuple[Tensor, Tensor]:
    """``prox(z)``, and the w of its Jacobian (see :func:`along`)."""
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha is {alpha}, not in (0, 1]")
    p, w = _Prox.apply(z, alpha, dim)  # type: ignore[no-untyped-call]
    return p, w
