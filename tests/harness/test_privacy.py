"""Nothing that is written for others says where on which machine, and who, it was."""

from __future__ import annotations

import getpass
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from harness import paths
from harness.engines.logs import BoundedLog
from harness.privacy import scrub, scrubbed


@pytest.mark.parametrize(
    ("text", "gone", "kept"),
    [
        ("File /opt/lib/python3.11/y.py, line 3", "/opt/lib", "y.py, line 3"),
        ("'/mnt/Max Müller/daten/x.npz' is gone", "Müller", "x.npz' is gone"),
        ("no such file: /mnt/Max Müller/daten/x.npz", "Müller", "x.npz"),
        ("'/home/Max Müller/x.npz' is gone", "Müller", "x.npz' is gone"),
        ("cannot enter /home/max", "max", "cannot enter"),
        ("cannot enter '/mnt/Max Müller'", "Müller", "cannot enter"),
        ("cannot enter /Users/max/data", "max", "cannot enter"),
        ("cannot enter /data1/anna: denied", "anna", "denied"),
        ("/data1/anna/a folder of many words/x.npz", "anna", "x.npz"),
        (r"cannot enter C:\Users\max", "max", "cannot enter"),
        (r"C:\Users\Max Müller\x.npz is gone", "Müller", "x.npz is gone"),
        (r"\\server\share\x.npz is gone", "server", "x.npz is gone"),
        ("see file:///srv/max/x.npz", "srv", "x.npz"),
    ],
)
def test_folders_are_left_out(text: str, gone: str, kept: str) -> None:
    assert gone not in scrub(text) and kept in scrub(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/home/max/data.npz could not be had (http://a.b:80/c?d=/e/f)",
        "a ratio of 3/4, and/or 1/2; shape (3, 4) / 7",
        "expected loss > 0, got nan at step 3",
    ],
)
def test_what_is_no_path_stays(text: str) -> None:
    assert scrub(text) == text


def test_the_projects_own_folders_have_short_names() -> None:
    text = f"{paths.root()}/harness/x.py {sys.prefix}/lib/y.py {paths.root()}"
    assert scrub(text) == "./harness/x.py <env>/lib/y.py ."
    assert str(Path.home()) not in scrub(f"{Path.home()}/secret")


def test_host_and_user_are_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "gpu-07.lab.example.org")
    monkeypatch.setattr(getpass, "getuser", lambda: "mmueller")
    said = scrub("rank 0 on gpu-07.lab.example.org (gpu-07) for mmueller, in mmueller.py")
    assert said == "rank 0 on <host> (<host>) for <user>, in mmueller.py"


def test_structured_data_keeps_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "max")
    config = {"pooling": "max", "lr": 0.1, "paths": ["/home/max/x.npz", "by max"], "n": None}
    expected = {"pooling": "max", "lr": 0.1, "paths": ["<…>/x.npz", "by <user>"], "n": None}
    assert scrubbed(config) == expected
    assert scrubbed({"loss of /home/max/x.npz": 1}) == {"loss of <…>/x.npz": 1}


def test_a_path_is_seen_however_the_log_gets_it(tmp_path: Path) -> None:
    log = BoundedLog(tmp_path / "log.txt")
    for part in (
        b"step 1\rreading /mnt/Max M\xc3",
        b"\xbcller/daten/x",
        b".npz\nbytes \xff; /home/m",
    ):
        log.write(part)
    log.write(b"ax")
    log.close()
    said = (tmp_path / "log.txt").read_bytes()
    assert said == "step 1\rreading <…>/x.npz\nbytes ".encode() + b"\xff; " + "<…>".encode()


CODE = Path(paths.__file__).parents[1]
SECRETS = ("Müller", "/home/max", "daten", "gpu-07", "mmueller")
ADDRESS = "https://example.org/home/max/data.npz"
TELLING = """
import sys
import torch
from harness.loading.splits import Splits
from harness.procedures.base import Outcome, Progress
from harness.records import Series

SAYS = "/mnt/Max Müller/daten/x.npz and /home/max on gpu-07.lab.example.org (gpu-07) by mmueller"

def data(path: str) -> Splits:
    print("reading", path)
    return Splits(train=None, test=None, dims={})

class Tell:
    def __init__(self, note: str, fail: bool = False) -> None:
        self.fail = fail

    @classmethod
    def produces(cls, init_args):
        return {"score", f"error of {SAYS}", f"loss of {SAYS}"}

    def run(self, trial):
        print(SAYS, "https://example.org/home/max/data.npz")
        print(SAYS, file=sys.stderr, end="; ")
        trial.report(Progress(1, 2, {f"loss of {SAYS}": 0.5}))
        trial.report(Progress(2, 2, {f"loss of {SAYS}": 0.4}))
        if self.fail:
            raise OSError(2, "No such file", SAYS)
        curve = Series(over=SAYS, x=[1, 2, 3], y=[1, 2, 3])
        return Outcome({"score": 1.0, f"error of {SAYS}": 0.1}, {f"loss of {SAYS}": curve})
"""
SPEC = """
key: telling
title: A Paper That Tells
authors: [A. Author]
year: 2020
task: testing
summary: It says where it is.
metrics: {score: {label: score, better: higher}}
datasets:
  own:
    label: own
    class_path: experiments.telling.parts.data
    init_args: {path: /mnt/Max Müller/daten/x.npz}
procedure:
  class_path: experiments.telling.parts.Tell
  init_args: {note: "https://example.org/home/max/data.npz, /home/max by mmueller on gpu-07"}
variants:
  good: {label: good, role: paper}
  bad: {label: bad, role: baseline, procedure: {init_args: {fail: true}}}
tiers:
  smoke: &seconds {description: seconds, datasets: [own], seeds: 1, timeout: 1m}
  cpu: *seconds
  full: {description: the protocol, protocol: paper, datasets: [own], seeds: 1, timeout: 1m}
claims:
  - id: one
    statement: It is one.
    quantity: {value: score, of: good, on: own}
    criterion: {at_least: 1}
    reported: {value: 1}
    source: {where: Table 1, seen_in: nowhere}
"""


def test_nothing_that_a_trial_writes_says_where_and_who_it_was(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Record, log, curves, pages, figures and offline W&B of a trial that tells all it knows."""
    folder = project / "experiments" / "telling"
    folder.mkdir()
    (folder / "spec.yaml").write_text(SPEC)
    (folder / "parts.py").write_text(TELLING)
    broken = project / "experiments" / "broken"
    broken.mkdir()
    (broken / "spec.yaml").write_text("/mnt/Max Müller/daten/x.npz: 1\n")
    machine = tmp_path_factory.mktemp("machine")  # whose every Python has this host's name
    named = 'platform.node = socket.gethostname = lambda: "gpu-07.lab.example.org"'
    (machine / "sitecustomize.py").write_text(f"import platform, socket\n{named}\n")
    here = dict.fromkeys(("USER", "LOGNAME", "LNAME", "USERNAME"), "mmueller") | {
        "PYTHONPATH": os.pathsep.join((str(machine), str(CODE))),
        "WANDB_MODE": "offline",
    }
    for command, code in ((["run", "telling", "-t", "smoke"], 1), (["leaderboard"], 0)):
        run = [sys.executable, "-m", "harness", *command]
        done = subprocess.run(run, env=os.environ | here, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
    written = [path for name in ("results", "runs") for path in (project / name).rglob("*")]
    said = {path: path.read_bytes().decode(errors="replace") for path in written if path.is_file()}
    assert {".json", ".md", ".csv", ".txt", ".svg", ".wandb"} <= {path.suffix for path in said}
    for path, text in said.items():
        if path.suffix != ".log":  # W&B's own, of what it did; it stays here
            assert [secret for secret in SECRETS if secret in text.replace(ADDRESS, "")] == [], path
    record = next(text for path, text in said.items() if path.suffix == ".json" and "done" in text)
    assert ADDRESS in record and "x.npz" in record
    assert ADDRESS in next(text for path, text in said.items() if path.name == "log.txt")
