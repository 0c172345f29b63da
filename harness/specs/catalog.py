"""Finds and loads ``experiments/*/spec.yaml``, without importing torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness import paths
from harness.specs import yamlfile

if TYPE_CHECKING:
    from harness.specs.schema import Paper


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a spec, where, and what would be right.

    ``unchecked``: nothing is known to be wrong, but what the check needs is not installed.
    """

    path: Path
    line: int
    message: str
    unchecked: bool = False

    def __str__(self) -> str:
        try:
            shown = self.path.relative_to(paths.root())
        except ValueError:
            shown = self.path
        return f"{shown}:{self.line}: {self.message}" if self.line else f"{shown}: {self.message}"


class SpecError(ValueError):
    """A spec that cannot be used, with all its problems."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class UnknownPaper(LookupError):
    """No folder of this key; suggests the nearest one."""


def paper_keys() -> list[str]:
    """Keys of all papers, sorted."""
    return sorted(path.parent.name for path in paths.experiments().glob("*/spec.yaml"))


def spec_path(key: str) -> Path:
    """The spec of a paper.

    Raises:
        UnknownPaper: naming the nearest keys.
    """
    from harness.specs.types import KEY

    path = paths.experiments() / key / "spec.yaml"
    if not re.match(KEY, key) or not path.is_file():
        from difflib import get_close_matches

        close = get_close_matches(key, paper_keys(), n=3, cutoff=0.4)
        hint = (
            f"did you mean {' or '.join(close)}?"
            if close
            else f"there are {', '.join(paper_keys())}"
        )
        raise UnknownPaper(f"no paper has the key {key!r}; {hint}")
    return path


def load(key: str) -> Paper:
    """Load one paper's spec.

    Raises:
        UnknownPaper: there is no such folder.
        SpecError: the file breaks the schema.
    """
    return read(spec_path(key))[0]


def read(path: Path) -> tuple[Paper, yamlfile.YamlFile]:
    """Load a spec file together with the lines of its values.

    Raises:
        SpecError: with every problem found.
    """
    from pydantic import ValidationError  # not needed to list papers, and slow to import

    from harness.specs.expand import expand
    from harness.specs.nodes import ShortFormError
    from harness.specs.schema import Paper

    try:
        source = expand(yamlfile.load(path))
    except (yamlfile.YamlError, ShortFormError) as error:
        raise SpecError([Problem(path, error.line, str(error))]) from error
    try:
        paper = Paper.model_validate(source.data)
    except ValidationError as error:
        from harness.specs.misfits import explain

        problems = [explain(source.data, dict(e)) for e in error.errors()]
        raise SpecError([Problem(path, source.line(w), m) for w, m in problems]) from error
    if paper.key != path.parent.name:
        message = f"key {paper.key!r} must be the folder's name {path.parent.name!r}"
        raise SpecError([Problem(path, source.line(["key"]), message)])
    return paper, source
