"""Temporary projects to measure on: no run of the benchmark touches the real results."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmark import timing

ROOT = Path(__file__).resolve().parents[2]
TOYS = Path(__file__).parent / "toys"


@dataclass(frozen=True)
class Project:
    """A project folder of its own, with its own results, working files and cache."""

    root: Path

    def environment(self) -> dict[str, str]:
        return {
            "HARNESS_ROOT": str(self.root),
            "HARNESS_RESULTS": str(self.root / "results"),
            "HARNESS_RUNS": str(self.root / "runs"),
            "HARNESS_CACHE": str(self.root / "cache"),
            "WANDB_MODE": "disabled",
        }

    @property
    def experiments(self) -> Path:
        return self.root / "experiments"

    def add(self, source: Path, key: str) -> None:
        """Copy a paper's folder, under another key."""
        folder = self.experiments / key
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("__pycache__"))
        for path in [*folder.glob("*.py"), folder / "spec.yaml"]:
            text = path.read_text().replace(f"experiments.{source.name}", f"experiments.{key}")
            path.write_text(text.replace(f"key: {source.name}\n", f"key: {key}\n"))

    def harness(self, *words: str, **environment: str) -> float:
        """Seconds that a command takes, in a new process."""
        return self.measured(*words, **environment)[0]

    def measured(self, *words: str, **environment: str) -> tuple[float, float]:
        """Seconds and peak memory in MB."""
        call = [sys.executable, "-m", "harness", *words]
        return timing.command(call, {**self.environment(), **environment})

    @contextlib.contextmanager
    def here(self) -> Iterator[None]:
        """Make it this process's project."""
        with changed(self.environment()):
            yield

    def forget(self) -> None:
        """Remove records and working files."""
        for name in ("results", "runs"):
            shutil.rmtree(self.root / name, ignore_errors=True)


@contextlib.contextmanager
def project(*toys: str) -> Iterator[Project]:
    """A new project with some of the toy papers."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        made = Project(Path(folder))
        made.experiments.mkdir()
        for toy in toys:
            made.add(TOYS / toy, toy)
        yield made


@contextlib.contextmanager
def changed(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
