"""Trend and changes from committed verdicts; boards across papers."""

from __future__ import annotations

import shutil
import subprocess

import yaml

from harness import paths
from harness.records import RecordStore
from harness.report.boards import Boards
from harness.report.history import changes, revisions, trend
from harness.report.leaderboard import collect
from harness.specs import catalog

HEAD = "paper,claim,verdict,evidence,tier\n"


def commit(folder, content: str, day: str) -> None:
    (folder / "verdicts.csv").write_text(HEAD + content)
    git = ["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    stamp = f"{day}T12:00:00+00:00"
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run(
        [*git, "commit", "-q", "-m", "x", f"--date={stamp}"],
        check=True,
        env={"GIT_COMMITTER_DATE": stamp, "PATH": "/usr/bin:/bin", "HOME": str(folder)},
    )


def test_verdicts_are_followed_through_git(tmp_path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    assert revisions(folder) == []
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)  # noqa: S607
    commit(folder, "p,a,inconclusive,,cpu\np,b,not run,,cpu\n", "2026-01-01")
    commit(folder, "p,a,reproduced,,cpu\np,b,not run,,cpu\n", "2026-01-02")
    commit(folder, "p,a,reproduced,,cpu\nq,c,reproduced,,cpu\n", "2026-01-03")
    history = revisions(folder)
    assert [r.day for r in history] == ["2026-01-01", "2026-01-02", "2026-01-03"]
    assert trend(history, "p") == [0, 1]
    assert trend(history, "q") == [1]
    said = [(c.day, c.claim, c.before, c.after) for c in changes(history, "p")]
    assert said == [
        ("2026-01-03", "b", "not run", ""),
        ("2026-01-02", "a", "inconclusive", "reproduced"),
    ]


def copy_paper(project, key: str) -> None:
    folder = project / "experiments" / key
    shutil.copytree(project / "experiments" / "toy", folder)
    text = (folder / "spec.yaml").read_text().replace("experiments.toy.", f"experiments.{key}.")
    spec = yaml.safe_load(text.replace(" on:", " 'on':"))
    spec["key"] = key
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))


def test_boards_rank_variants_of_all_papers(project, add) -> None:
    copy_paper(project, "toy2")
    add("full", "net", "real", 0, accuracy=0.7)
    add("full", "net", "real", 0, key="toy2", accuracy=0.9)
    add("full", "wide", "real", 0, key="toy2", accuracy=0.8)
    add("cpu", "net", "digits", 0, accuracy=0.5)
    add("cpu", "net", "digits", 0, key="toy2", accuracy=0.6)
    add("smoke", "good", "theory", 0, score=1.0, count=7.0)
    add("smoke", "broken", "theory", 0, score=9.0)
    boards = Boards()
    for key in ("toy", "toy2"):
        boards.add(collect(catalog.load(key), RecordStore(paths.records())))
    pages = {page.label: page for page in boards.datasets()}
    # One source is one data set; what a paper generates is its own.
    assert set(pages) == {"a public set", "digits (toy)", "digits (toy2)", "no data (toy)"}
    (board,) = pages["a public set"].boards
    ranked = [(e.paper, e.label, e.cell.estimate.value) for e in board.entries]
    assert ranked == [("toy2", "a net", 90.0), ("toy2", "a wide net", 80.0), ("toy", "a net", 70.0)]
    # `count` has no better direction, and `broken` is a control.
    (theory,) = pages["no data (toy)"].boards
    assert [(theory.metric, e.label) for e in theory.entries] == [("score", "good")]
