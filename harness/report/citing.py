"""How to cite a paper and this project, as BibTeX."""

from __future__ import annotations

from pathlib import Path

import yaml

from harness.report.latex import escape
from harness.specs.schema import Paper

PROJECT = Path(__file__).parents[2] / "CITATION.cff"


def bibtex(paper: Paper) -> str:
    """Entries of the paper and, where the harness is used from a checkout, of the project."""
    return "\n".join(filter(None, [_of_paper(paper), _of_project()]))


def _of_paper(paper: Paper) -> str:
    fields = {
        "title": f"{{{escape(paper.title)}}}",
        "author": " and ".join(map(escape, paper.authors)),
        "year": str(paper.year),
    }
    if paper.venue:
        fields["howpublished"] = escape(paper.venue)
    if paper.arxiv:
        fields |= {"eprint": paper.arxiv, "archiveprefix": "arXiv"}
    return _entry("misc", paper.key, fields)


def _of_project() -> str:
    if not PROJECT.is_file():
        return ""
    known = yaml.safe_load(PROJECT.read_text(encoding="utf-8"))
    names = [f"{{{escape(author['name'])}}}" for author in known["authors"]]
    title = {"title": f"{{{escape(known['title'])}}}", "author": " and ".join(names)}
    return _entry("software", "paper-harness", title | {"version": str(known["version"])})


def _entry(kind: str, key: str, fields: dict[str, str]) -> str:
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@{kind}{{{key},", *lines, "}", ""])
