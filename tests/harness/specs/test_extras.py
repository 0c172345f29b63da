"""A paper whose extra is not installed: one sentence, and nothing that only follows from it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.specs import extras
from harness.specs.validate import validate

ROOT = extras.PROJECT.parent


@pytest.fixture
def needy(project: Path) -> Path:
    """The toy, whose procedure needs a package that nobody has; returns its spec."""
    folder = project / "experiments" / "toy"
    (folder / "needy.py").write_text(
        "import a_package_that_nobody_has\n\nfrom experiments.toy.parts import Behave\n"
    )
    path = folder / "spec.yaml"
    text = path.read_text().replace("toy.parts.Behave", "toy.needy.Behave")
    path.write_text(f"{text}extra: [graphs, video]\n")
    return path


def test_the_extra_and_the_command_are_said_once(needy: Path) -> None:
    (problem,) = validate("toy")
    assert problem.unchecked
    assert "a_package_that_nobody_has" in problem.message
    assert "pip install -c constraints.txt -e '.[graphs,video]'" in problem.message
    assert problem.line == len(needy.read_text().splitlines())


def test_other_mistakes_are_found_all_the_same(needy: Path) -> None:
    needy.write_text(needy.read_text().replace("{hidden: 32}", "{hiden: 32}"))
    assert [p.unchecked for p in validate("toy")] == [False, True]


def test_without_an_extra_the_spec_is_to_name_one(needy: Path) -> None:
    needy.write_text(re.sub("^extra:.*\n", "", needy.read_text(), flags=re.MULTILINE))
    (problem,) = validate("toy")
    assert not problem.unchecked and "name that as `extra:`" in problem.message


def test_an_extra_that_there_is_not_suggests_the_nearest(project: Path) -> None:
    path = project / "experiments" / "toy" / "spec.yaml"
    path.write_text(f"{path.read_text()}extra: grahps\n")
    (problem,) = validate("toy")
    assert "no extra 'grahps'; did you mean 'graphs'?" in problem.message


def test_validate_leaves_out_what_it_cannot_check(needy: Path) -> None:
    shutil.copytree(needy.parent, needy.parents[1] / "other")
    other = needy.parents[1] / "other" / "spec.yaml"
    other.write_text(
        needy.read_text().replace("key: toy", "key: other").replace("toy.needy", "toy.parts")
    )
    everything = CliRunner().invoke(app, ["validate"])
    assert everything.exit_code == 0
    assert everything.stdout == "1 specs are valid: other; 1 not checked\n"
    assert everything.stderr.startswith("not checked: experiments/toy/spec.yaml:")
    assert len(everything.stderr.splitlines()) == 1
    assert CliRunner().invoke(app, ["validate", "toy"]).exit_code == 2


@pytest.mark.parametrize(
    ("broken", "says"),
    [("1 / 0", "ZeroDivisionError"), ("def", "SyntaxError"), ("import torch.nope", "torch.nope")],
)
def test_a_module_that_cannot_be_imported_is_one_problem(needy: Path, broken, says) -> None:
    (needy.parent / "needy.py").write_text(broken)
    (problem,) = validate("toy")
    assert says in problem.message and not problem.unchecked


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("parts.Behav", "did you mean 'Behave'?"),
        ("parts.digits", "is no procedure"),
        ("prats.Behave", "experiments.toy.prats"),
        ("parts.", "toy.parts."),
    ],
)
def test_a_wrong_procedure_brings_no_wrong_metrics_with_it(project: Path, named, says) -> None:
    path = project / "experiments" / "toy" / "spec.yaml"
    path.write_text(path.read_text().replace("parts.Behave", named))
    (problem,) = validate("toy")
    assert says in problem.message


def test_a_package_that_hides_in_the_real_environment_is_named(tmp_path: Path) -> None:
    script = tmp_path / "hide.py"
    script.write_text(
        "import sys\nsys.modules['torch_geometric'] = None\nfrom harness.cli import main\n"
        "if __name__ == '__main__':\n    main()\n"
    )
    arguments = [sys.executable, str(script), "run", "ff_g2m", "--tier", "smoke"]
    environment = os.environ | {"HARNESS_RESULTS": str(tmp_path), "PYTHONPATH": str(ROOT)}
    run = subprocess.run(arguments, capture_output=True, text=True, env=environment, check=False)
    assert (run.returncode, len(run.stderr.splitlines())) == (2, 1), run.stderr
    assert "torch_geometric" in run.stderr and "'.[graphs]'" in run.stderr


@pytest.mark.parametrize(
    ("text", "installed"),
    [
        ("", []),
        ("extra: graphs  # of nodes\n", ["graphs"]),
        ("extra: [graphs, 'video']\n", ["graphs", "video"]),
        ("extra:\n  - graphs\n  - video\ntask: [a, b]\n", ["graphs", "video"]),
        ("extra:\n- graphs\n", ["graphs"]),
        ("extra: ~\n", []),
    ],
)
def test_make_installs_what_a_spec_names(tmp_path: Path, text, installed) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "experiments" / "toy").mkdir(parents=True)
    (tmp_path / "experiments" / "toy" / "spec.yaml").write_text(f"key: toy\n{text}summary: x\n")
    for target in ("reproduce", "verify", "nightly"):
        done = subprocess.run(
            ["make", "-n", target, "PAPER=toy"],  # noqa: S607
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert re.findall(r"Installing extra: (\S+)", done.stdout) == installed


def test_everything_that_is_installed_by_name_is_pinned() -> None:
    project = tomllib.loads(extras.PROJECT.read_text())["project"]
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = {
        re.split(r"[\[<>=;]", name)[0].lower().replace("_", "-") for g in groups for name in g
    }
    assert wanted - pinned - {"paper-harness", "pip-audit"} == set()
