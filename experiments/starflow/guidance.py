"""Guidance of Gaussian conditionals: with a class, and away from what comes without one."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Rule = Literal["product", "linear", "log-linear"]


def guided(
    conditional: tuple[Tensor, Tensor],
    unconditional: tuple[Tensor, Tensor],
    weight: float,
    rule: Rule = "product",
) -> tuple[Tensor, Tensor]:
    """Mean and deviation of a coordinate from those with and without the class.

    ``product`` (Proposition 2) is the Gaussian in proportion to p_c^(1 + w) / p_u^w. That exists
    where D = 1 + w - w σ_c²/σ_u² is positive; the ratio is bounded by 1, so that D >= 1 always.
    ``linear`` is TARFlow's: both extrapolated from the unconditional ones, σ as the paper and the
    released STARFlow have it, and by ``log-linear`` log σ, as the released TARFlow has it.

    Args:
        conditional, unconditional: mean and deviation, of one shape.
        weight: w; 0 gives the conditional back.
    """
    (mean, scale), (free_mean, free_scale) = conditional, unconditional
    if rule == "product":
        ratio = (scale / free_scale).clamp(max=1.0) ** 2
        precision = 1 + weight - weight * ratio
        mean = mean + weight * ratio / precision * (mean - free_mean)
        return mean, scale / precision.sqrt()
    mean = mean + weight * (mean - free_mean)
    if rule == "linear":
        return mean, scale + weight * (scale - free_scale)
    return mean, scale * (scale / free_scale) ** weight
