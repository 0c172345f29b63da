"""Where things are. ``HARNESS_ROOT`` names another project folder (with its own experiments/)."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path

_CODE = Path(__file__).resolve().parents[1]


def root() -> Path:
    """The project folder: it holds experiments/, results/ and runs/."""
    named = os.environ.get("HARNESS_ROOT")
    return _resolved(os.path.abspath(named)) if named else _CODE


@functools.lru_cache(maxsize=64)
def _resolved(path: str) -> Path:
    """Without symbolic links; remembered, for planning asks where things are at every trial."""
    return Path(path).resolve()


def environment() -> dict[str, str]:
    """The variables that say where things are."""
    return {name: value for name, value in os.environ.items() if name.startswith("HARNESS_")}


def adopt(variables: Mapping[str, str]) -> None:
    """Make these the variables of this process, instead of those it was started with."""
    for name in environment().keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


def experiments() -> Path:
    return root() / "experiments"


def results() -> Path:
    """Committed results; ``HARNESS_RESULTS`` names another folder (for trying things out)."""
    named = os.environ.get("HARNESS_RESULTS")
    return _resolved(os.path.abspath(named)) if named else root() / "results"


def records() -> Path:
    return results() / "records"


def runs() -> Path:
    """Working files: checkpoints, curves, logs. Not committed."""
    named = os.environ.get("HARNESS_RUNS")
    return _resolved(os.path.abspath(named)) if named else root() / "runs"
