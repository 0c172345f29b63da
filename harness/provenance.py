"""Versions, hardware and the state of the checkout. No host, user or path ends up in a record."""

from __future__ import annotations

import functools
import math
import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from harness import paths

_OWN = ("harness/*.py", "experiments/*/spec.yaml")  # what makes a folder this project
_KIND = ("vendor_id", "cpu family", "model", "CPU implementer", "CPU part")
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
    """Processor, cores, memory and accelerator of this machine.

    ``kind`` tells processors of one name apart, as virtual machines show them: vendor, family and
    model, by which libraries choose their kernels.
    """
    found: dict[str, Any] = {
        "cpu": _cpu("model name") or platform.processor() or platform.machine(),
        "kind": " ".join(filter(None, map(_cpu, _KIND))) or platform.machine(),
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
    """Processors this process may use: its affinity, and the quota of the container around it."""
    usable = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    quota = cpu_quota()
    return usable if quota is None else max(1, min(usable, math.ceil(quota)))


def cpu_quota(system: Path = Path("/sys/fs/cgroup"), groups: Path | None = None) -> float | None:
    """Processors that control groups (version 2 or 1) grant; ``None`` where they set no limit."""
    try:
        lines = (groups or Path("/proc/self/cgroup")).read_text().splitlines()
    except OSError:
        return None
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found += [_quota_v2(folder) for folder in _upwards(system, path)]
        elif "cpu" in controllers.split(","):
            base = system / controllers if (system / controllers).is_dir() else system / "cpu"
            found += [_quota_v1(folder) for folder in _upwards(base, path)]
    return min((quota for quota in found if quota is not None), default=None)


def _upwards(base: Path, path: str) -> list[Path]:
    """The group's folder and those around it: each may set a limit."""
    group = base / path.lstrip("/")
    return [group, *(parent for parent in group.parents if parent.is_relative_to(base))]


def _quota_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        return quota / int((folder / "cpu.cfs_period_us").read_text()) if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def threads(jobs: int) -> int:
    """Threads of each of ``jobs`` workers: what ``OMP_NUM_THREADS`` says, or a share of the
    processors."""
    return threads_wanted() or max(1, cores() // jobs)


def threads_wanted() -> int | None:
    """``OMP_NUM_THREADS``, if that is a number."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) or None if wanted.isdecimal() else None


def _cpu(name: str) -> str:
    """What the system says of the first processor; empty where it does not."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    match = re.search(rf"^{name}[ \t]*:[ \t]*(.+)", text, re.MULTILINE)
    return match[1].strip() if match else ""


def checkout() -> tuple[str, bool | None]:
    """The commit of the project, and whether files other than results were changed since.

    What cannot be known is not guessed: ``""`` and ``None`` where the project is not what some
    commit tracks (an archive, also one that was unpacked inside another repository, whose folders
    may have the same names) or git does not answer.
    """
    commit = _git("rev-parse", "--verify", "HEAD")
    tracked = (_git("ls-tree", "-r", "--name-only", "HEAD", "experiments", "harness") or "").split()
    root = paths.root()
    own = {path.relative_to(root).as_posix() for found in _OWN for path in root.glob(found)}
    if not commit or not own or 2 * len(own.intersection(tracked)) < len(own):  # some are new
        return "", None
    changed = _git(
        "status", "--porcelain", "--untracked-files=normal", "--", ".", ":(exclude)results"
    )
    return commit, None if changed is None else bool(changed)


def tracked(folder: str) -> list[str]:
    """Files in a folder of the project that git tracks, relative to it and sorted.

    Where git tracks nothing of the project, all but hidden and compiled ones.
    """
    root = paths.root()
    index = root / ".git" / "index"
    stamp = index.stat().st_mtime_ns if index.is_file() else 0
    files = _tracked(str(root), stamp)
    if files:
        return sorted(
            name.removeprefix(f"{folder}/") for name in files if name.startswith(f"{folder}/")
        )
    found = (path.relative_to(root / folder) for path in (root / folder).rglob("*"))
    plain = [p for p in found if not any(q.startswith((".", "__pycache__")) for q in p.parts)]
    return sorted(str(path) for path in plain if (root / folder / path).is_file())


@functools.lru_cache(maxsize=8)
def _tracked(root: str, stamp: int) -> tuple[str, ...]:
    """All files of the project that git tracks; ``stamp`` changes when these do."""
    listed = _git("ls-files", "-z", "--", "experiments", "harness")
    return tuple(filter(None, (listed or "").split("\0")))


def _git(*arguments: str) -> str | None:
    """What git prints, whatever repository the environment names; ``None`` if it fails."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(paths.root()), *arguments],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
            env=plain | {"GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
