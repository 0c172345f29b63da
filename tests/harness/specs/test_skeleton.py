"""A new paper runs as it is, says what is left to do, and carries no other paper's text."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness import paths
from harness.plan import PlanError
from harness.reproduction import reproduce
from harness.specs import documents
from harness.specs.scaffold import new_paper
from harness.specs.validate import validate

TITLE = "Deep Networks Tell Parity"


@pytest.fixture
def written(project: Path, request: pytest.FixtureRequest) -> list[Path]:
    return new_paper("parity", procedure=getattr(request, "param", False))


either = pytest.mark.parametrize("written", [False, True], ids=["fit", "procedure"], indirect=True)


@pytest.fixture
def finished(written: list[Path]) -> Path:
    """As somebody would leave it who has done what TODO asks."""
    for path in written:
        text = path.read_text().replace("TODO the paper's title", TITLE)
        path.write_text(re.sub(r"\bTODO\b", "Here", text))
    return paths.experiments() / "parity"


def messages(key: str = "parity") -> list[str]:
    return [str(problem) for problem in documents.problems(key)]


@either
def test_all_that_is_left_to_do_is_named_with_its_line(written) -> None:
    found = messages()
    for path in written:
        name = str(path.relative_to(paths.root()))
        marked = [n for n, line in enumerate(path.read_text().splitlines(), 1) if "TODO" in line]
        assert marked and [f"{name}:{n}:" for n in marked] == [
            m.split(" ")[0] for m in found if m.startswith(f"{name}:") and "unfinished" in m
        ]
    assert validate("parity") == [], "it can be tried before it is finished"


@either
def test_finished_it_is_valid_and_runs_to_verdicts(finished) -> None:
    assert validate("parity") == [] and messages() == []
    outcome = reproduce("parity", "smoke")
    assert not outcome.failed and len(outcome.verdicts) == 2


@either
def test_its_own_tests_pass_and_its_code_is_clean(finished, project) -> None:
    here = os.environ | {"PYTHONPATH": os.pathsep.join([str(project), str(paths._CODE)])}
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(tests, cwd=project, env=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    shutil.copy(paths._CODE / "pyproject.toml", project)
    first = 'lint.isort.known-first-party=["harness", "experiments"]'
    for check in (["check", "--config", first], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *check, "--no-cache", "experiments/parity", "tests"]
        done = subprocess.run(ruff, cwd=project, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    settings = ["--config-file", "pyproject.toml", "--cache-dir", str(paths._CODE / ".mypy_cache")]
    mypy = [sys.executable, "-m", "mypy", *settings, "experiments/parity"]
    typed = os.environ | {"MYPYPATH": str(paths._CODE)}
    done = subprocess.run(mypy, cwd=project, env=typed, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("written", [True], indirect=True)
@pytest.mark.parametrize(
    ("before", "after", "test"),
    [
        ('        seed_all(trial.seed, "initial")\n', "", "test_seeds_that_are_trained_together"),
        ("self._trained(models,", "self._trained(list(map(self._begun, trials)),", "goes_on_from"),
    ],
)
def test_its_procedure_can_fail(finished, project, before, after, test) -> None:
    procedure = finished / "procedure.py"
    assert before in procedure.read_text()
    procedure.write_text(procedure.read_text().replace(before, after))
    here = os.environ | {"PYTHONPATH": os.pathsep.join([str(project), str(paths._CODE)])}
    only = "tests/experiments/parity/test_parity_procedure.py"
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", only]
    done = subprocess.run(tests, cwd=project, env=here, capture_output=True, text=True)
    assert "FAILED" in done.stdout and test in done.stdout


def test_its_claim_can_fail(finished, project) -> None:
    """Without the hidden layer the paper's model is the baseline: its own test says so."""
    model = finished / "model.py"
    model.write_text(model.read_text().replace(".relu()", ""))
    here = os.environ | {"PYTHONPATH": os.pathsep.join([str(project), str(paths._CODE)])}
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(tests, cwd=project, env=here, capture_output=True, text=True)
    assert "FAILED" in done.stdout and "test_the_idea_is_what_helps" in done.stdout


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (f"# {TITLE}", "# A Toy Paper", "README.md:1: the heading names toy and not this paper"),
        (f"# {TITLE}", "# Something", "the heading does not name the paper: # " + TITLE),
        ("## The idea", "`make reproduce PAPER=toy`\n", "README.md:5: names another paper: toy"),
        ("## The idea", "see `experiments.toy.model`\n", "README.md:5: names another paper: toy"),
        ("## Deviations", "## Ways", "has no section '## Deviations'"),
        ("## Verdicts", "## Ways", "has no section '## Verdicts'"),
    ],
)
def test_a_readme_of_another_paper_is_refused(finished, before, after, message) -> None:
    readme = finished / "README.md"
    text = readme.read_text()
    assert before in text
    readme.write_text(text.replace(before, after))
    assert any(message in found for found in messages()), messages()


def test_what_is_there_already_is_left_alone(written, project) -> None:
    before = {path: path.read_text() for path in written}
    with pytest.raises(PlanError, match="exists already"):
        new_paper("parity")
    with pytest.raises(PlanError, match="is no key"):
        new_paper("../parity")
    shutil.rmtree(paths.experiments() / "parity")
    with pytest.raises(PlanError, match="tests/experiments/parity exists already"):
        new_paper("parity")
    assert paths.tests("parity").is_dir() and before
