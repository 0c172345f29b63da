"""LaTeX prints what we give it: read back by a parser, and compiled where there is a TeX."""

from __future__ import annotations

import shutil
import string
import subprocess
from pathlib import Path

import pytest

from harness.judging.results import verdicts
from harness.records import RecordStore
from harness.report.exports import Format, export
from harness.report.latex import escape, tabular
from harness.report.leaderboard import collect
from harness.report.rows import measured, reported
from harness.specs import catalog

SIGNS = "−×±·√∞≈≠≤≥→∈∝°" + "αλμω" + "ΓΩ" + "²³⁻¹₂" + "—–…" + "äéßÅ"
HOSTILE = string.punctuation + "a b\nc" + SIGNS + r"\input{/etc/passwd} %x ^^41 \\[2pt]"
SAME = {"^": "ˆ", "−": "-", "°": "^∘", "·": "⋅", "…": "..."}  # as the parser writes them
SAME |= {"²": "^2", "³": "^3", "⁻": "^-", "¹": "^1", "₂": "_2"}
COMPILERS = ("tectonic", "pdflatex", "lualatex", "xelatex")


def test_specials_are_escaped() -> None:
    assert escape(r"50 % of a_b & $x$ #{}~^\ <|>") == (
        r"50 \% of a\_b \& \$x\$ \#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{} "
        r"$<$$|$$>$"
    )


def test_a_parser_reads_back_every_character() -> None:
    latex2text = pytest.importorskip("pylatexenc.latex2text", reason="the extra `dev` brings it")
    converter = latex2text.LatexNodes2Text(math_mode="text", strict_latex_spaces=True)
    wrong = {}
    for character in string.printable[:95] + SIGNS:
        read = converter.latex_to_text(f"x{escape(character)}y")[1:-1]
        if read not in (character, SAME.get(character)):
            wrong[character] = read
    assert wrong == {}


def test_the_table_of_every_paper_is_made_of_known_characters() -> None:
    for key in catalog.paper_keys():
        for v in verdicts(key):
            for cell in (v.claim, v.dataset, reported(v), measured(v)):
                left = {c for c in escape(cell) if not c.isascii() and not c.isalpha()}
                assert not left, f"{v.claim}: no LaTeX for {left}"


def test_rows_have_as_many_cells_as_columns(measured) -> None:
    text = export([collect(catalog.load("toy"), RecordStore.here())], Format.latex).decode()
    columns = text.splitlines()[0].split("}{")[1].rstrip("}")
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(body) > 4
    assert {line.count(" & ") + 1 for line in body} == {len(columns)}


@pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="no TeX is installed")
def test_it_compiles(tmp_path: Path) -> None:
    table = tabular("lr", ["a", "$n$"], [[HOSTILE, character] for character in SIGNS])
    head = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n"
    (tmp_path / "table.tex").write_text(f"{head}{table}\\end{{document}}\n", encoding="utf-8")
    compiler = next(filter(None, map(shutil.which, COMPILERS)))
    options = (
        [] if compiler.endswith("tectonic") else ["-interaction=nonstopmode", "-halt-on-error"]
    )
    done = subprocess.run(
        [compiler, *options, "table.tex"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]
