"""Many claims at once: p-values of verdicts, and which stand when all are tested together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

SMALLEST = 1e-9


def p_value(inside: Callable[[float], bool], largest: float) -> float:
    """The smallest one-sided level at which an interval still lies inside a criterion.

    For a t-interval and one edge this is the one-sided p-value of the t-test at that edge; for
    a criterion with two edges that of two one-sided tests (Schuirmann 1987).

    Args:
        inside: whether the interval that misses with this probability on each side lies inside.
        largest: a level at which it does.

    Returns:
        The level to a relative precision of about 1e-4; ``SMALLEST`` stands for less than that.
    """
    if inside(SMALLEST):
        return SMALLEST
    low, high = math.log(SMALLEST), math.log(largest)
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if inside(math.exp(middle)) else (middle, high)
    return math.exp(high)


def holm(p: Sequence[float], level: float, tests: int) -> list[bool]:
    """Which hypotheses Holm (1979) rejects: any error at all has at most the probability ``level``.

    Args:
        p: p-values; those of other tests of the family, ``tests`` in all, lie above ``level``.
    """
    order = sorted(range(len(p)), key=p.__getitem__)
    stands = [False] * len(p)
    for rank, i in enumerate(order):
        if p[i] > level / (tests - rank):
            break
        stands[i] = True
    return stands


def benjamini_hochberg(p: Sequence[float], level: float, tests: int) -> list[bool]:
    """Which hypotheses Benjamini & Hochberg (1995) reject: of those, a share of at most ``level``
    is expected to be wrong, for independent or positively dependent tests.

    Args:
        p: p-values; those of other tests of the family, ``tests`` in all, lie above ``level``.
    """
    from scipy import stats

    adjusted = stats.false_discovery_control([*p, *[1.0] * (tests - len(p))])
    return [bool(x <= level) for x in adjusted[: len(p)]]
