"""The extras that a paper may name: groups of optional dependencies in pyproject.toml."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


@functools.cache
def declared() -> list[str]:
    """Names of the extras; none where the harness is not used from a checkout."""
    try:
        project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    except OSError:
        return []
    return sorted(project["optional-dependencies"])
