"""What README and CONTRIBUTING show works: Python is run, commands and options exist."""

from __future__ import annotations

import inspect
import os
import pkgutil
import re
import shlex
import subprocess
import sys
import textwrap
from dataclasses import fields
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from harness import paths
from harness.cli import app
from harness.procedures.recipe import Recipe
from harness.procedures.training import Trained
from harness.specs import catalog

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


def makes() -> list[str]:
    lines = "\n".join(blocks("console")).splitlines()
    return [line[2:].partition("#")[0].strip() for line in lines if line.startswith("$ make")]


def named_commands() -> list[str]:
    """What stands as `harness …` in the text."""
    text = "\n".join((paths.root() / name).read_text(encoding="utf-8") for name in DOCUMENTS)
    return sorted(set(re.findall(r"`(?:\.venv/bin/)?harness ([^`…]+)`", text)))


@pytest.mark.parametrize("line", makes())
def test_make_knows_its_targets_and_variables(line: str) -> None:
    words = shlex.split(line)
    makefile = (paths.root() / "Makefile").read_text(encoding="utf-8")
    for variable in (word.partition("=")[0] for word in words if "=" in word):
        assert f"$({variable})" in makefile, variable
    tried = [*words, "--dry-run"]
    done = subprocess.run(tried, cwd=paths.root(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", named_commands())
def test_commands_and_their_options_exist(line: str) -> None:
    command = get_command(app)
    words = shlex.split(line.replace("<", "").replace(">", "").replace("\\|", "|"))
    while isinstance(command, TyperGroup) and words:
        assert words[0].split("|")[0] in command.commands, line
        command = command.commands[words.pop(0).split("|")[0]]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known


def test_every_setting_and_hook_of_a_training_and_what_comes_of_it_is_told() -> None:
    text = (paths.root() / "CONTRIBUTING.md").read_text(encoding="utf-8")
    told = set(re.findall(r"\w+", text.partition("## Training")[2].partition("\n## ")[0]))
    hooks = {name for name in vars(Recipe) if not name.startswith("_")}
    names = {
        *inspect.signature(Recipe).parameters,
        *hooks,
        *(each.name for each in fields(Trained)),
    }
    assert names - {"refused", "directions", "overrides"} <= told


def test_modules_that_are_named_exist() -> None:
    text = "\n".join((paths.root() / name).read_text(encoding="utf-8") for name in DOCUMENTS)
    for name in set(re.findall(r"`(harness(?:\.\w+)+)`", text)):
        pkgutil.resolve_name(name)


CELLS = ("ff-gcn-cora", "ff-gcn-pubmed", "glnn-gcn-cora")


def test_the_examples_of_a_spec_fit_the_schema(tmp_path: Path) -> None:
    whole, short = blocks("yaml")
    path = tmp_path / "toy" / "spec.yaml"
    path.parent.mkdir()
    path.write_text(whole, encoding="utf-8")
    assert catalog.read(path)[0].claims
    kept = re.sub(r"^variants:\n.*?^(?=tiers:)", "", whole, flags=re.MULTILINE | re.DOTALL)
    path.write_text(kept.partition("claims:")[0] + short, encoding="utf-8")
    paper = catalog.read(path)[0]
    assert len(paper.variants) == 4 and len(paper.overrides) == 2
    assert [claim.id for claim in paper.claims] == ["a", "b", *CELLS, "c"]


@pytest.mark.parametrize("command", ["list", "show tslstm", "results tslstm --json", "data list"])
def test_commands_that_only_look_end_well(command: str) -> None:
    assert CliRunner().invoke(app, command.split()).exit_code == 0
