"""Nothing that is shown acts on the terminal or the page that shows it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness import paths
from harness.cli import app
from harness.records import Record, Unreadable, read_record
from harness.report.markdown import unreadable
from harness.reproduction import reproduce
from harness.runner import failure_of
from harness.specs import catalog, yamlfile
from harness.visible import acting, may_act, visible

ACTING = ["\x1b[2J", "\x07", "\x9b31m", "\u202e", "\u2066", "\x00", "\x7f", "\r", "\u2028"]


@pytest.mark.parametrize("bad", ACTING)
def test_it_is_shown_instead(bad: str) -> None:
    text = visible(f"a{bad}b")
    assert not acting(text) and text.startswith("a") and text.endswith("b")
    assert not acting(failure_of(OSError(2, "no such file", f"x{bad}y")).message)
    (line,) = unreadable([Unreadable(Path(f"x{bad}.json"), "is none")])
    assert not acting(line)
    assert visible("café ± 5 % → 数字\n\tx") == "café ± 5 % → 数字\n\tx"


@pytest.mark.parametrize("bad", ACTING)
@pytest.mark.parametrize("place", ["title", "statement", "key", "name"])
def test_a_spec_that_holds_one_is_refused_with_its_line(project, edit_spec, bad, place) -> None:
    def change(spec: dict) -> None:
        if place == "title":
            spec["title"] = f"a{bad}b"
        elif place == "statement":
            spec["claims"][0]["statement"] = f"a{bad}b"
        else:
            spec["metrics"][f"a{bad}b"] = {"label": "x"}

    edit_spec(change)
    with pytest.raises(catalog.SpecError, match=r"control character U\+[0-9A-F]{4}|not allowed"):
        catalog.load("toy")
    shown = CliRunner().invoke(app, ["validate", "toy"])
    assert shown.exit_code == 2 and not acting(shown.output.replace("\r\n", "\n"))
    for command in (["list"], ["status"], ["leaderboard"]):
        assert not acting(CliRunner().invoke(app, command).output)


@pytest.mark.parametrize("bad", ACTING)
def test_a_record_that_holds_one_is_read_without(project, bad: str) -> None:
    reproduce("toy", "smoke", seeds=1, variants=["good"])
    path = next(paths.records().rglob("*.json"))
    data = json.loads(path.read_text())
    data["provenance"]["versions"]["torch"] = f"2{bad}"
    data["config"]["model"] = {"class_path": f"x{bad}"}
    for ascii_only in (True, False):
        raw = json.dumps(data, ensure_ascii=ascii_only).encode()
        path.write_bytes(raw)
        found = read_record(path)
        assert isinstance(found, Record) and may_act(raw)
        assert not acting(json.dumps(found.model_dump(), ensure_ascii=False))


def test_ordinary_records_need_no_second_look(project) -> None:
    reproduce("toy", "smoke", seeds=1)
    assert not any(may_act(path.read_bytes()) for path in paths.records().rglob("*.json"))


@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "huge"])
def test_only_regular_files_of_some_size_are_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "spec.yaml"
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.touch()
        os.truncate(path, 10**12)
    for reader in (yamlfile.load, yamlfile.outline):
        with pytest.raises(yamlfile.YamlError, match=r"regular file|at most"):
            reader(path)
