"""What README and CONTRIBUTING show works: Python is run, and named commands exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness import paths
from harness.cli import app

DOCUMENTS = ("README.md", "CONTRIBUTING.md")


def blocks(language: str) -> list[str]:
    found = []
    for name in DOCUMENTS:
        text = (paths.root() / name).read_text(encoding="utf-8")
        found += re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return found


@pytest.mark.parametrize("block", blocks("python"))
def test_python_runs(block: str, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    body = textwrap.indent(block, "    ")
    script.write_text(f"if __name__ == '__main__':\n{body}")
    here = os.environ | {
        "HARNESS_RESULTS": str(tmp_path / "results"),
        "HARNESS_RUNS": str(tmp_path / "runs"),
        "PYTHONPATH": str(paths.root()),
        "WANDB_MODE": "disabled",
    }
    done = subprocess.run([sys.executable, script], env=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_named_targets_and_commands_exist() -> None:
    text = "\n".join((paths.root() / name).read_text(encoding="utf-8") for name in DOCUMENTS)
    targets = set(re.findall(r"^([a-z]+):", (paths.root() / "Makefile").read_text(), re.MULTILINE))
    shown = re.findall(r"^\$ make ([a-z ]+)", text, re.MULTILINE)
    assert shown and {word for line in shown for word in line.split()} <= targets
    helped = CliRunner().invoke(app, ["--help"]).output
    for command in set(re.findall(r"`harness ([a-z]+)", text)):
        assert re.search(rf"^  {command}\b", helped, re.MULTILINE), command
