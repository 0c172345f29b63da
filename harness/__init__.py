"""Reproduce machine-learning papers, claim by claim.

>>> from harness import reproduce
>>> reproduce("tslstm", tier="smoke").table  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.report.table import results
    from harness.reproduction import Reproduction, reproduce
    from harness.weights import load_model

__all__ = ["Reproduction", "load_model", "reproduce", "results"]


def __getattr__(name: str) -> Any:
    """Import on first use: ``harness list`` must not wait for pandas or torch."""
    import importlib

    if name in ("reproduce", "Reproduction"):
        return getattr(importlib.import_module("harness.reproduction"), name)
    if name == "load_model":
        return importlib.import_module("harness.weights").load_model
    if name == "results":
        return importlib.import_module("harness.report.table").results
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
