"""Which exceptions are the user's business, and the exit code of each."""

from __future__ import annotations

BAD_USAGE, NO_DATA, INTERRUPTED = 2, 3, 130


def explain(error: Exception) -> tuple[str, int] | None:
    """Message and exit code of an expected failure; ``None`` for a defect of ours."""
    from harness.data import BadMirror, CorruptData, DataUnavailable
    from harness.engines.base import Interrupted
    from harness.plan import PlanError
    from harness.specs.catalog import SpecError, UnknownPaper

    if isinstance(error, (DataUnavailable, CorruptData, BadMirror)):
        return str(error), NO_DATA
    if isinstance(error, (UnknownPaper, SpecError, PlanError)):
        return str(error.args[0]), BAD_USAGE
    if isinstance(error, Interrupted):
        return str(error), INTERRUPTED
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename or ''}".rstrip(": "), 1
    return None
