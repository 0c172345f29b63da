r"""Text and tables for LaTeX: every character prints as it is, in pdfLaTeX too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_PLAIN = {
    **{character: rf"\{character}" for character in "&%$#_{}"},
    **dict.fromkeys("\n\r\t\u00a0\u202f", " "),
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "—": "---",
    "–": "--",
    "…": r"\dots{}",
}
_SYMBOLS = {
    "<": "<",  # outside math mode other fonts have other signs in their places
    ">": ">",
    "|": "|",
    "−": "-",
    "×": r"\times",
    "±": r"\pm",
    "·": r"\cdot",
    "√": r"\surd",
    "∞": r"\infty",
    "≈": r"\approx",
    "≠": r"\neq",
    "≤": r"\leq",
    "≥": r"\geq",
    "→": r"\to",
    "∈": r"\in",
    "∝": r"\propto",
    "°": r"^\circ",
}
_GREEK = {
    "αβγδεζηθικλμνξπρστυφχψω": (
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau "
        "upsilon phi chi psi omega"
    ),
    "ΓΔΘΛΞΠΣΦΨΩ": "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega",
}
_MATHS = {
    **_SYMBOLS,
    **{
        letter: rf"\{name}"
        for letters, names in _GREEK.items()
        for letter, name in zip(letters, names.split(), strict=True)
    },
    **{raised: f"^{plain}" for raised, plain in zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True)},
    **{lowered: f"_{plain}" for lowered, plain in zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True)},
}
_TABLE = str.maketrans(_PLAIN | {sign: f"${command}$" for sign, command in _MATHS.items()})


def escape(value: str) -> str:
    """Text that LaTeX prints as it is. Accented letters stay, for LaTeX reads UTF-8."""
    return value.translate(_TABLE)


def tabular(columns: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A booktabs table.

    Args:
        columns: how each is aligned, such as ``llr``.
        head: LaTeX; the rows are plain text.
    """
    lines = [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(head) + r" \\",
        r"\midrule",
    ]
    lines += [" & ".join(map(escape, row)) + r" \\" for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
