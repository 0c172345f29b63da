"""Nothing that is written for others says where on which machine, and who, it was."""

from __future__ import annotations

import getpass
import platform
import sys
from pathlib import Path

import pytest

from harness import paths
from harness.privacy import scrub


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
