"""Packages of a user's own, which a paper's spec may name (``packages: [lab]``)."""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from pathlib import Path

from harness import paths

TAKEN = frozenset({"harness", "experiments", "baselines", "tests", "scripts"})


def home(name: str) -> Path | None:
    """The folder that a package is in: the project's, or another one that Python looks in."""
    if (paths.root() / name).is_dir():
        return paths.root()
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    places = list(found.submodule_search_locations or []) if found else []
    return Path(places[0]).resolve().parent if places else None


def problem(name: str) -> str:
    """Why a package may not be named; empty if it may.

    It has to be a folder of code that somebody works on, for its files are fingerprinted; and of
    installed libraries not everything may be named.
    """
    if name in TAKEN or name in sys.stdlib_module_names:
        return f"{name!r} is no package of your own"
    folder = home(name)
    if folder is None:
        return f"no package {name!r} beside experiments/ or on PYTHONPATH"
    installed = {Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib")}
    if folder in installed:
        return f"{name!r} is an installed library; install your own with `pip install -e`"
    return ""
