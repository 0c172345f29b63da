"""What a paper's folder says beside its spec: a README about this paper, and nothing left to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from harness import paths
from harness.specs import catalog
from harness.specs.catalog import Problem

HEADINGS = ("## Deviations", "## Verdicts")
READ = {".yaml", ".py", ".md"}
TODO = re.compile(r"\bTODO\b")
_TITLE = re.compile(r"^title: *[\"']?(.*?)[\"']? *$", re.MULTILINE)
_KEY = re.compile(r"(?:PAPER=|experiments[./])([a-z][a-z0-9_]*)")


def problems(key: str) -> list[Problem]:
    """What is unfinished, or was taken over from another paper.

    Raises:
        UnknownPaper: there is no such paper.
    """
    folder = catalog.spec_path(key).parent
    readme = folder / "README.md"
    found = list(_left_to_do(folder)) + list(_left_to_do(paths.tests(key)))
    if readme.is_file():
        found += _foreign(key, readme)
    return found


def _left_to_do(folder: Path) -> Iterator[Problem]:
    for path in sorted(path for path in folder.rglob("*") if path.suffix in READ):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if TODO.search(line):
                yield Problem(path, number, f"unfinished: {line.strip()[:80]}")


def _foreign(key: str, readme: Path) -> Iterator[Problem]:
    """Where a README speaks of another paper as its own, or lacks what every one has."""
    text = readme.read_text(encoding="utf-8")
    heading = text.partition("\n")[0]
    titles = {other: _title(other) for other in catalog.paper_keys()}
    likeness = {other: len(_words(heading) & _words(title)) for other, title in titles.items()}
    nearest = max(likeness, key=lambda other: (likeness[other], other == key))
    if not likeness[nearest]:
        yield Problem(readme, 1, f"the heading does not name the paper: # {titles[key]}")
    elif nearest != key:
        yield Problem(readme, 1, f"the heading names {nearest} and not this paper: {titles[key]}")
    for number, line in enumerate(text.splitlines(), 1):
        for other in _KEY.findall(line):
            if other != key and other in titles:
                yield Problem(readme, number, f"names another paper: {other}")
    for missing in (h for h in HEADINGS if h not in text):
        yield Problem(readme, 0, f"has no section {missing!r}")


def _title(key: str) -> str:
    """From the text of the spec: to read all specs as YAML would take seconds."""
    found = _TITLE.search(catalog.spec_path(key).read_text(encoding="utf-8"))
    return found[1] if found else ""


def _words(text: str) -> set[str]:
    return {word for word in re.findall(r"[^\W_]+", text.lower()) if len(word) > 3}
