"""Where things are. ``HARNESS_ROOT`` names another project folder (with its own experiments/)."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path

_CODE = Path(__file__).resolve().parents[1]
_instead: ContextVar[Path | None] = ContextVar("results", default=None)


def root() -> Path:
    """The project folder: it holds experiments/, results/ and runs/."""
    named = os.environ.get("HARNESS_ROOT")
    return _resolved(os.path.abspath(named)) if named else _CODE


def other_checkout() -> Path | None:
    """The checkout that this process was started in, if that is not the one it works on."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "harness" / "__init__.py").is_file() and (folder / "experiments").is_dir():
            return folder if folder.resolve() != root() else None
    return None


@functools.lru_cache(maxsize=64)
def _resolved(path: str) -> Path:
    """Without symbolic links; remembered, for planning asks where things are at every trial."""
    return Path(path).resolve()


def environment() -> dict[str, str]:
    """The variables that say where things are."""
    found = {name: value for name, value in os.environ.items() if name.startswith("HARNESS_")}
    return found | ({"HARNESS_RESULTS": str(results())} if _instead.get() else {})


def adopt(variables: Mapping[str, str]) -> None:
    """Make these the variables of this process, instead of those it was started with."""
    for name in environment().keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


def experiments() -> Path:
    return root() / "experiments"


def tests(key: str) -> Path:
    """The tests of a paper."""
    return root() / "tests" / "experiments" / key


def committed() -> Path:
    """Results that are committed; ``HARNESS_RESULTS`` names another folder instead."""
    named = os.environ.get("HARNESS_RESULTS")
    return _resolved(os.path.abspath(named)) if named else root() / "results"


def results() -> Path:
    """Where results are read and written now: the committed ones, or those of a quick run."""
    return _instead.get() or committed()


@contextlib.contextmanager
def results_in(folder: Path) -> Iterator[None]:
    """Read and write results in another folder for a while."""
    token = _instead.set(folder)
    try:
        yield
    finally:
        _instead.reset(token)


def quick(configuration: str) -> Path:
    """Results of runs that must not change the committed ones; git ignores them."""
    return runs() / "results" / configuration


def records() -> Path:
    return results() / "records"


def runs() -> Path:
    """Working files: checkpoints, curves, logs. Not committed."""
    named = os.environ.get("HARNESS_RUNS")
    return _resolved(os.path.abspath(named)) if named else root() / "runs"


def workdir(key: str, tier: str, trial: str) -> Path:
    """Where a trial's checkpoints, curves, log and kept weights are."""
    return runs() / key / tier / trial


def parts(key: str) -> Path:
    """What trials of a paper share: teachers, encoders, labels. Safe to lose."""
    return runs() / "parts" / key
