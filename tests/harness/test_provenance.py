"""What a record says of the checkout is right or unknown; cores are those that may be used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import provenance


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments],  # noqa: S607
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture
def repository(project: Path) -> Path:
    """The toy project as a commit of its own."""
    (project / ".gitignore").write_text("cache/\nruns/\n")
    git(project, "init", "-q")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "all")
    return project


def test_a_clean_checkout_has_its_commit(repository: Path) -> None:
    assert provenance.checkout() == (git(repository, "rev-parse", "HEAD"), False)


@pytest.mark.parametrize("hide", [False, True])
def test_an_untracked_file_is_a_change(repository: Path, hide: bool) -> None:
    if hide:
        git(repository, "config", "status.showUntrackedFiles", "no")
    (repository / "experiments" / "toy" / "more.py").write_text("x = 1\n")
    assert provenance.checkout()[1] is True


def test_results_are_no_change(repository: Path) -> None:
    (repository / "results").mkdir()
    (repository / "results" / "toy.md").write_text("new\n")
    assert provenance.checkout()[1] is False


def test_an_archive_inside_another_repository_has_no_commit(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = repository / "runs" / "unpacked"
    (inner / "experiments").mkdir(parents=True)
    monkeypatch.setenv("HARNESS_ROOT", str(inner))
    assert provenance.checkout() == ("", None)


def test_another_repository_may_have_folders_of_the_same_names(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = repository / "vendored"
    for name in ("experiments/other", "harness"):
        (inner / name).mkdir(parents=True)
        (inner / name / "notes.py").write_text("x = 1\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "another project")
    (inner / "experiments" / "toy").mkdir()
    (inner / "experiments" / "toy" / "spec.yaml").write_text("key: toy\n")
    (inner / "harness" / "paths.py").write_text("x = 1\n")
    monkeypatch.setenv("HARNESS_ROOT", str(inner))
    assert provenance.checkout() == ("", None)


def test_a_new_paper_leaves_the_commit_known(repository: Path) -> None:
    (repository / "experiments" / "new").mkdir()
    (repository / "experiments" / "new" / "spec.yaml").write_text("key: new\n")
    assert provenance.checkout() == (git(repository, "rev-parse", "HEAD"), True)


def test_another_checkout_than_the_one_that_works_is_said(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Where somebody works in one clone and the command on the path belongs to another."""
    here = tmp_path_factory.mktemp("clone")
    for name in ("harness", "experiments", "docs"):
        (here / name).mkdir()
    (here / "harness" / "__init__.py").write_text("")
    code = Path(provenance.__file__).parents[1]
    command = [sys.executable, "-P", "-m", "harness", "list", "--json"]

    def said(**more: str) -> tuple[str, list[str]]:
        done = subprocess.run(
            command,
            cwd=here / "docs",
            env=os.environ | {"PYTHONPATH": str(code)} | more,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stderr, [paper["key"] for paper in json.loads(done.stdout)]

    note, papers = said()
    assert note.startswith(f"note: this harness works on {project}, not on {here}")
    assert f"HARNESS_ROOT={here}" in note and papers == ["toy"]
    assert said(HARNESS_ROOT=str(here)) == ("", [])


def test_variables_of_git_name_no_other_repository(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "-q")
    (other / "experiments").mkdir()
    (other / "experiments" / "x").write_text("x")
    git(other, "add", "-A")
    git(other, "commit", "-qm", "other")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    commit, dirty = provenance.checkout()
    monkeypatch.delenv("GIT_DIR")
    monkeypatch.delenv("GIT_WORK_TREE")
    assert (commit, dirty) == (git(repository, "rev-parse", "HEAD"), False)


def test_a_status_that_fails_is_unknown(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository / ".git" / "index").write_bytes(b"no index")
    commit, dirty = provenance.checkout()
    assert commit and dirty is None


def test_without_git_all_is_unknown(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert provenance.checkout() == ("", None)


@pytest.mark.parametrize(
    ("files", "group", "expected"),
    [
        ({"cpu.max": "150000 100000"}, "0::/", 1.5),
        ({"cpu.max": "max 100000"}, "0::/", None),
        ({"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000"}, "0::/a/b", 0.5),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu:/", 2),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu:/", None),
        ({}, "0::/", None),
    ],
)
def test_a_containers_quota_counts(
    tmp_path: Path, files: dict[str, str], group: str, expected: float | None
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{content}\n")
    groups = tmp_path / "cgroup"
    groups.write_text(f"{group}\n")
    assert provenance.cpu_quota(tmp_path, groups) == expected


def test_threads_are_a_share_unless_the_user_says_how_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(provenance, "cores", lambda: 8)
    for said, expected in (("", 4), ("3", 3), ("0", 4), ("many", 4)):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        assert provenance.threads(2) == expected
