"""A toy project in a temporary folder, so that tests never touch the real results."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, settings

TOY = Path(__file__).parent / "harness" / "toy"

# Machines differ, and may be busy: no test fails for how long something takes.
settings.register_profile("any", deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("any")

# Tests press Ctrl-C, which a shell lets its background jobs ignore, and the harness with them.
for number, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGTERM, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one paper, ``toy``; no mirror, an empty cache, W&B off."""
    shutil.copytree(TOY, tmp_path / "experiments" / "toy")
    monkeypatch.setenv("HARNESS_ROOT", str(tmp_path))
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    for name in ("HARNESS_DATA", "HARNESS_RUNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HARNESS_RESULTS", str(tmp_path / "results"))  # of quick runs, too
    return tmp_path


@pytest.fixture
def unruly(project: Path) -> Path:
    """A project with one more paper, whose trials misbehave or can be interrupted."""
    shutil.copytree(TOY.parent / "unruly", project / "experiments" / "unruly")
    return project


def _editor(path: Path) -> Callable[[Callable[[dict], object]], None]:  # type: ignore[type-arg]
    def edit(change: Callable[[dict], object]) -> None:  # type: ignore[type-arg]
        spec = yaml.safe_load(path.read_text().replace(" on:", " 'on':"))
        change(spec)
        path.write_text(yaml.safe_dump(spec, sort_keys=False))

    return edit


@pytest.fixture
def edit_spec(project: Path) -> Callable[[Callable[[dict], object]], None]:  # type: ignore[type-arg]
    """Change the toy's spec in place."""
    return _editor(project / "experiments" / "toy" / "spec.yaml")


@pytest.fixture
def edit_unruly(unruly: Path) -> Callable[[Callable[[dict], object]], None]:  # type: ignore[type-arg]
    """Change the unruly paper's spec in place."""
    return _editor(unruly / "experiments" / "unruly" / "spec.yaml")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no mirror."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    return tmp_path / "cache"
