"""What is given to make reaches the command line, and nothing that was not given."""

from __future__ import annotations

import os
import shlex
import subprocess

import pytest

from harness import paths


def command(*words: str, **environment: str) -> list[str]:
    """The words after ``harness`` that ``make reproduce`` would run."""
    clean = {name: v for name, v in os.environ.items() if name not in ("BUDGET", "MAKEFLAGS")}
    done = subprocess.run(
        ["make", "reproduce", "PAPER=tslstm", "--dry-run", *words],  # noqa: S607
        cwd=paths.root(),
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.replace("\\\n", " ").splitlines()
    (line,) = [line for line in lines if "/harness run" in line]
    return shlex.split(line)[1:]


PLAIN = ["run", "tslstm", "--tier", "cpu", "--engine", "local"]


def test_without_more_it_is_the_default() -> None:
    assert command() == PLAIN


@pytest.mark.parametrize(
    ("given", "reaches"),
    [
        ("THREADS=2", ["--threads", "2"]),
        ("TIMEOUT=3", ["--timeout", "3"]),
        ("JOBS=1", ["--jobs", "1"]),
        ("SEEDS=auto", ["--seeds", "auto"]),
        ("BUDGET=30m", ["--budget", "30m"]),
        ("FORCE=1", ["--force"]),
    ],
)
def test_what_is_given_is_passed_on(given: str, reaches: list[str]) -> None:
    assert command(given) == [*PLAIN, *reaches]
    name, value = given.split("=")
    assert command(**{name: value}) == [*PLAIN, *reaches], "also from the environment"
