"""The activations of the paper and its code by name, as dual activations.

An activation with A(0) = 0 and 0 < A'(0) < 1 < A'(1) has at infinite depth a kernel that is
singular like ``|x - x'|^-alpha`` with alpha = -2 log A'(0) / log A'(1). On a sphere of d dimensions
(d + 1 coordinates) alpha = d makes it the Hilbert estimate of Devroye et al., which is consistent.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from baselines.nngp import Dual, Erf, Hermite, Relu, Sine

# s of sin(√s u), by the dimension of the sphere for which the released code calls it consistent.
SINES = {2: 2.676, 4: 6.13539, 8: 13.8258}
# The same for combinations of Hermite polynomials, called 2d_opt, 3d_opt, 5d_opt and 9d_opt there.
DIMENSIONS = (1, 2, 4, 8)


def optimal(dimension: int) -> Dual:
    """The combination of Hermite polynomials with alpha = d.

    (h1 + h7)/√2 on the circle; else c² h1, h2 and c² h3 with c² = 2^(-d/2), for which A'(1) = 2.
    The formula gives the released code's three and continues them to every d.
    """
    if dimension < 1:
        raise ValueError(f"a sphere has at least one dimension, got {dimension}")
    if dimension == 1:
        return Hermite({1: 0.5, 7: 0.5})
    outer = 2 ** (-dimension / 2)
    return Hermite({1: outer, 2: 1 - 2 * outer, 3: outer})


def named(name: str, dimension: int) -> Dual:
    """An activation by name, for data on a sphere of ``dimension`` dimensions.

    ``optimal`` and ``sine-optimal`` have alpha = d; ``too-singular`` has 4 d; ``sine`` is s = 1;
    ``hermite-<k>`` is one polynomial, ``flat`` is (h2 + h3)/√2, both with A'(0) = 0; ``mean`` has
    A(0) = 1/4 and A'(1) = 7/4.

    Raises:
        ValueError: for any other name, or a dimension for which there is no such sine.
    """
    if name == "sine-optimal":
        if dimension not in SINES:
            raise ValueError(f"no sine for dimension {dimension}; there are {sorted(SINES)}")
        return Sine(SINES[dimension])
    if name.startswith("hermite-") and name[8:].isdecimal():
        return Hermite({int(name[8:]): 1.0})
    made: dict[str, Callable[[], Dual]] = {
        "optimal": lambda: optimal(dimension),
        "too-singular": lambda: optimal(4 * dimension),
        "sine": lambda: Sine(1.0),
        "erf": Erf,
        "relu": Relu,
        "flat": lambda: Hermite({2: 0.5, 3: 0.5}),
        "mean": lambda: Hermite({0: 0.25, 1: 0.25, 3: 0.5}),
    }
    if name not in made:
        raise ValueError(f"no activation {name!r}; there are {', '.join(made)}, hermite-<k>")
    return made[name]()


def is_singular(dual: Dual) -> bool:
    """Whether its infinitely deep kernel is singular, neither 1-NN nor the majority vote."""
    return dual.at_zero == 0 and 0 < dual.slope_at_zero < 1


def exponent(dual: Dual) -> float:
    """alpha, from A'(0) and A'(1).

    Raises:
        ValueError: for an activation whose kernel has no singularity.
    """
    if not is_singular(dual):
        raise ValueError("A(0) = 0 and 0 < A'(0) < 1 are needed for a singular kernel")
    return -2 * math.log(dual.slope_at_zero) / math.log(dual.slope_at_one)
