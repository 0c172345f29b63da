"""How figures are shown: rounded to their error where it is known."""

from __future__ import annotations

import math

INTERVAL_DIGITS = 2  # of half the width: the ends of an interval are told from its edges


def figure(value: float | None, error: float | None = None, digits: int = 1) -> str:
    """A number with the digits a reader wants.

    With an error it has the decimals of that error's first ``digits`` figures (0.71 for 0.7149
    and 0.0174). Without one: 94.1, 0.0123, 6,560, 1.2e-07; counts in full.
    """
    if value is None:
        return "—"
    if error:
        return _to_error(value, error, digits)
    size = abs(value)
    if size >= 1000:
        in_full = size < 1e7 or (size < 1e12 and value.is_integer())
        return f"{value:,.0f}" if in_full else f"{value:.3g}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 1 or value == 0:
        return f"{value:.2f}"
    return f"{value:.3g}"


def _to_error(value: float, error: float, digits: int) -> str:
    # Rounding may carry the error into the next power of ten: 0.096 is 0.1.
    power = math.floor(math.log10(float(f"{abs(error):.{digits - 1}e}")))
    decimals = digits - 1 - power
    rounded = round(value, decimals) or 0.0  # and not −0
    if (decimals > 6 and abs(value) < 1e-3) or abs(value) >= 1e12:
        kept = math.floor(math.log10(abs(value))) - power + digits if value else 1
        return f"{value:.{max(kept, 1)}g}"
    return f"{rounded:,.{max(decimals, 0)}f}"


def certain(value: float) -> str:
    """A figure without error: a count in full, anything else like :func:`figure`."""
    return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e12 else figure(value)


def plus_minus(value: float, half: float | None) -> str:
    """``0.71 ± 0.02``: rounded to the error's first digit; the value alone without error."""
    if not half:
        return certain(value)
    return f"{figure(value, half)} ± {figure(half, half)}"


def half_width(value: float, low: float | None, high: float | None) -> float | None:
    """The longer way from a value to an end of its interval; ``None`` without an end."""
    return max((abs(end - value) for end in (low, high) if end is not None), default=None)


def interval(value: float, low: float | None, high: float | None) -> str:
    """``3.4 [2.1, 4.7]``; an open end is infinite, and without both there is only the value."""
    error = half_width(value, low, high)
    if error is None:
        return figure(value)
    if error == 0:
        return certain(value)
    bottom, top = (figure(end, error, INTERVAL_DIGITS) for end in (low, high))
    left = "(−∞" if low is None else f"[{bottom}"
    right = "∞)" if high is None else f"{top}]"
    return f"{figure(value, error, INTERVAL_DIGITS)} {left}, {right}"
