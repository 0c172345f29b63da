"""A new paper starts as a copy of another one."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from harness import paths
from harness.plan import PlanError
from harness.specs import catalog


def copy_paper(key: str, like: str) -> Path:
    """Copy a paper's folder under a new key, with its own names in place of the old ones.

    Raises:
        PlanError: the key is not a valid name, or is taken.
        UnknownPaper: there is no paper to copy.
    """
    source = catalog.spec_path(like).parent
    target = paths.experiments() / key
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", key):
        raise PlanError(f"{key!r} is no key: lower-case letters, digits and _, a letter first")
    if target.exists():
        raise PlanError(f"experiments/{key} exists already")
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "results*"))
    for path in [*target.rglob("*.py"), target / "spec.yaml"]:
        text = path.read_text().replace(f"experiments.{like}", f"experiments.{key}")
        path.write_text(re.sub(rf"^key: {like}$", f"key: {key}", text, flags=re.MULTILINE))
    return target
