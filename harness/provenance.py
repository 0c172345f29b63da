"""Versions, hardware and the state of the checkout. No host, user or path ends up in a record."""

from __future__ import annotations

import functools
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from harness import paths

_RECORDED = (
    "torch",
    "lightning",
    "torchmetrics",
    "numpy",
    "scipy",
    "scikit-learn",
    "datasets",
    "torch_geometric",
    "transformers",
)


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the installed libraries that affect results."""
    found = {"python": platform.python_version()}
    for name in _RECORDED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def hardware() -> dict[str, Any]:
    """Processor, cores, memory and accelerator of this machine."""
    found: dict[str, Any] = {
        "cpu": _cpu_model(),
        "cores": cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "os": platform.system(),
    }
    return found


def accelerator_name() -> str:
    """The GPU's product name, or an empty string without one."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    match = re.search(r"model name\s*:\s*(.+)", text)
    return match[1].strip() if match else platform.machine()


def checkout() -> tuple[str, bool]:
    """The commit of the project, and whether files other than results were changed since."""
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return "", False
    changed = _git("status", "--porcelain", "--", ".", ":(exclude)results")
    return commit, bool(changed)


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(paths.root()), *arguments],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def scrub(text: str) -> str:
    """Take the project's and the user's folders out of a text that goes into a record."""
    for folder, name in ((paths.root(), "."), (Path(sys.prefix), "<env>"), (Path.home(), "~")):
        text = text.replace(f"{folder}/", f"{name}/")
    return re.sub(r"(?<![\w.~>])/(?:[\w.@+-]+/)+", "<…>/", text)
