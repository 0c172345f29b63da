"""Records follow the code that made them: whatever a paper's classes import is looked at."""

from __future__ import annotations

import importlib
import sys

import pytest

from harness import fingerprint
from harness.engines.forked import ask
from harness.specs import catalog
from harness.specs.build import class_paths

OURS = ("experiments", "baselines", "harness.loading", "harness.procedures")


def imported(modules: list[str]) -> list[str]:
    """In a process of its own: the files of ours that are there once these have been imported."""
    for name in modules:
        importlib.import_module(name)
    return sorted(
        name
        for name, module in sys.modules.items()
        if fingerprint._within(name, OURS) and getattr(module, "__file__", None)
    )


@pytest.mark.parametrize("key", catalog.paper_keys())
def test_all_that_a_paper_imports_is_followed(key: str) -> None:
    paper = catalog.load(key)
    named = {path.rpartition(".")[0] for path in class_paths(paper.model_dump())}
    named = {name for name in named if fingerprint._within(name, OURS)}
    prepared = {*ask(imported, [])}  # by the server, for all
    found = {*ask(imported, sorted(named))} - prepared
    followed = fingerprint.reachable({*named, *fingerprint.ALWAYS}, tuple(paper.packages))
    assert {name for name in found if name.startswith(f"experiments.{key}.")}
    assert found <= followed
