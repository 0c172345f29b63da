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


def test_a_parser_reads_the_tables_of_all_papers() -> None:
    """Without recovering from errors, and nothing but the tables' own commands is in them."""
    latexwalker = pytest.importorskip("pylatexenc.latexwalker", reason="the extra `dev` brings it")
    found = (collect(catalog.load(key), RecordStore.here()) for key in catalog.paper_keys())
    text = export(found, Format.latex).decode()
    hostile = tabular("lr", ["a", "$n$"], [[HOSTILE, "1"], ["}", "{"], ["$", "%"]])
    for table, rows in ((text, text.count("\\\\\n") - 1), (hostile, 3)):
        walker = latexwalker.LatexWalker(table, tolerant_parsing=False)
        nodes, _, length = walker.get_latex_nodes()
        assert length == len(table)
        (tabular_,) = [n for n in nodes if n.isNodeType(latexwalker.LatexEnvironmentNode)]
        assert tabular_.environmentname == "tabular"
        macros = [n for n in tabular_.nodelist if n.isNodeType(latexwalker.LatexMacroNode)]
        names = [n.macroname for n in macros]
        assert names.count("\\") == rows + 1, "the head and every row end once"
        assert not {"input", "write", "def"} & set(names)
        assert not any(n.isNodeType(latexwalker.LatexCommentNode) for n in tabular_.nodelist)


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
