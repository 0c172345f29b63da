"""The time left is told where it can be known."""

from __future__ import annotations

import re
import time
from io import StringIO

import pytest
from rich.console import Console

from harness import plan
from harness.engines.base import Reported
from harness.procedures.base import Progress
from harness.report.progress import ProgressDisplay
from harness.specs import catalog


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        ({"epoch": 9.0, "train_loss": 0.1}, ["about 10 s left"]),
        ({"loss": 0.1}, ["about 10 s left"]),
        ({"round-1 epoch": 9.0, "round-1 train_loss": 0.1}, []),
    ],
)
def test_one_training_of_several_does_not_foretell_the_end(project, figures, told) -> None:
    paper = catalog.load("toy")
    trial = plan.plan(paper, "smoke", ["theory"])[0]
    written = StringIO()
    display = ProgressDisplay(Console(file=written, width=200))
    display.begin(paper, [trial], 0)
    display.began = time.monotonic() - 90
    display.event(Reported(trial, Progress(9, 10, figures)))
    display.end()
    assert re.findall("about .* left", written.getvalue()) == told


@pytest.mark.parametrize(("since", "told"), [(30, ["about 30 s left"]), (70, [])])
def test_what_runs_without_saying_how_far_it_is_does_not_add_to_the_time_left(
    project, since, told
) -> None:
    paper = catalog.load("toy")
    one, other = plan.plan(paper, "smoke", ["theory"])[:2]
    written = StringIO()
    display = ProgressDisplay(Console(file=written, width=200))
    display.begin(paper, [one, other], 0)
    display.done, display.ended = 1, time.monotonic() - since
    display.began = display.ended - 60
    display.event(Reported(other, Progress(9, 10, {"round-1 epoch": 9.0})))
    display.end()
    assert re.findall("about .* left", written.getvalue()) == told
