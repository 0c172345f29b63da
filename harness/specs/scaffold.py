"""A new paper starts from a skeleton, in which TODO marks what is to be told or written."""

from __future__ import annotations

import re
from pathlib import Path

from harness import paths
from harness.plan import PlanError

SKELETON = Path(__file__).parent / "skeleton"
FILES = ("spec.yaml", "model.py", "data.py", "README.md")
FIT = "harness.procedures.fit.Fit"


def new_paper(key: str, procedure: bool = False) -> list[Path]:
    """Write a paper's folder and its tests; it runs as it is, on data of its own.

    Args:
        procedure: also ``procedure.py``, of trials that train more than once, and its tests.

    Returns:
        The files.

    Raises:
        PlanError: the key is not a valid name, or is taken.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", key):
        raise PlanError(f"{key!r} is no key: lower-case letters, digits and _, a letter first")
    folder, tests = paths.experiments() / key, paths.tests(key)
    if folder.exists() or tests.exists():
        taken = folder if folder.exists() else tests
        raise PlanError(f"{taken.relative_to(paths.root())} exists already")
    targets = {name: folder / name for name in FILES} | {"test.py": tests / f"test_{key}.py"}
    if procedure:
        targets |= {
            "procedure.py": folder / "procedure.py",
            "test_procedure.py": tests / f"test_{key}_procedure.py",
        }
    for name, target in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        text = (SKELETON / f"{name}.in").read_text(encoding="utf-8")
        if procedure and name == "spec.yaml":
            text = text.replace(FIT, "experiments.__key__.procedure.Rounds")
        target.write_text(text.replace("__key__", key), encoding="utf-8")
    return list(targets.values())
