"""Curves are a convenience: whatever happened to the file, the trial goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.desk import Curves
from harness.procedures.base import Progress

WHOLE = "step,loss\n1,0.5\n2,0.4\n"


def curves(tmp_path: Path, before: bytes) -> list[str]:
    path = tmp_path / "curves.csv"
    path.write_bytes(before)
    Curves(path).add(Progress(3, 5, {"loss": 0.3}))
    return path.read_text().split()


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\0\0\0\0",
        b"\n\n",
        b"3,0.3\n4,0.2\n",
        b"3,0.",
        b"step,lo",
        b'2,"half a fi',
        b"two,0.4\n",
        b"2,0.4,0.7\n",
        b"2,none\n",
        b"\xff\xfe\n",
    ],
)
def test_rows_that_parse_are_kept(tmp_path: Path, damage: bytes) -> None:
    lines = curves(tmp_path, WHOLE.encode() + damage)
    assert lines == [*WHOLE.split(), "step,loss", "3,0.3"]


def test_of_several_trainings_those_that_are_over_keep_their_rows(tmp_path: Path) -> None:
    """Each counts from 1: a second one that begins anew drops nothing of the first."""
    path = tmp_path / "curves.csv"
    first = ["step,first epoch,first loss", "1,1,0.5", "2,2,0.4"]
    second = ["step,second epoch,second loss", "1,1,0.3", "2,2,0.2"]
    third = ["step,third epoch,third loss", "1,1,0.1"]
    for name, step, kept in (
        ("second", 1, [*first, second[0]]),
        ("second", 2, [*first, *second[:2], second[0]]),
        ("first", 2, [*first[:2], first[0]]),
        ("third", 1, [*first, *second, third[0]]),
        ("fourth", 1, [*first, *second, *third, "step,fourth epoch,fourth loss"]),
    ):
        path.write_text("\n".join([*first, *second, *third]) + "\n")
        Curves(path).add(Progress(step, 5, {f"{name} epoch": step, f"{name} loss": 0.9}))
        assert path.read_text().split("\n") == [*kept, f"{step},{step},0.9", ""]


def test_a_newline_in_a_name_breaks_no_row(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    Curves(path).add(Progress(1, 5, {"a\nb": 0.3}))
    assert path.read_text().splitlines() == ["step,a b", "1,0.3"]


def test_a_file_that_cannot_be_written_stops_no_trial(tmp_path: Path) -> None:
    Curves(tmp_path / "gone" / "curves.csv").add(Progress(1, 5, {"loss": 0.3}))
