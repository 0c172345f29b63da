"""Figures are rounded to their error, everywhere in the same way."""

from __future__ import annotations

import pytest

from harness.judging.rounding import certain, figure, interval, plus_minus
from harness.judging.statistics import Estimate
from harness.judging.verdicts import Verdict
from harness.report.boards import Board, Entry, _ranked
from harness.report.leaderboard import Cell
from harness.report.rows import marks, measured, reasons, seeds_of, seen


@pytest.mark.parametrize(
    ("value", "half", "shown"),
    [
        (0.7149, 0.0174, "0.71 ± 0.02"),
        (94.123, 0.52, "94.1 ± 0.5"),
        (94.123, 0.96, "94 ± 1"),
        (94.123, 0.094, "94.12 ± 0.09"),
        (12345.6, 230.0, "12,300 ± 200"),
        (1.234e-8, 2e-10, "1.23e-08 ± 2e-10"),
        (-0.004, 0.3, "0.0 ± 0.3"),
        (674.0, 0.0, "674"),
        (674.0, None, "674"),
    ],
)
def test_a_figure_has_the_digits_of_its_error(value, half, shown) -> None:
    assert plus_minus(value, half) == shown


@pytest.mark.parametrize(
    ("ends", "shown"),
    [
        ((33.6264, 31.6596, 35.5932), "33.6 [31.7, 35.6]"),
        ((0.00123, 0.00011, 0.00235), "0.0012 [0.0001, 0.0024]"),
        ((92.0, 91.0, None), "92.0 [91.0, ∞)"),
        ((5.0, None, 7.25), "5.0 (−∞, 7.2]"),
        ((5.123, None, None), "5.12"),
        ((674.0, 674.0, 674.0), "674"),
    ],
)
def test_an_interval_is_told_from_its_edges(ends, shown) -> None:
    assert interval(*ends) == shown


def test_counts_are_shown_in_full_and_other_figures_are_not() -> None:
    assert (certain(22478162.0), certain(0.17292239), figure(94.1234)) == (
        "22,478,162",
        "0.173",
        "94.1",
    )


def verdict(**more) -> Verdict:
    given = {
        "paper": "p",
        "claim": "c",
        "statement": "s",
        "dataset": "d",
        "tier": "cpu",
        "verdict": "reproduced",
        "reason": "inside",
        "unit": "%",
        "reported": 2.0,
        "reported_text": "",
        "source": "T1; arXiv",
        **more,
    }
    return Verdict(**given)


def test_what_stands_beside_a_verdict() -> None:
    plain = verdict(n=5)
    assert (marks(plain), seeds_of(plain), seen(plain)) == ([], "5", "T1; arXiv")
    assert reasons(plain) == ["inside"]
    all_of_it = verdict(
        n=5, failed=3, direction_only=True, at_reduced="met", stale=True, size=2.1, size_low=2.05,
        size_high=2.15, control="control: fine", by="others", seen="quoted", traceable=False,
    )  # fmt: skip
    assert marks(all_of_it) == ["direction only", "met", "stale"]
    assert seeds_of(all_of_it) == "5 of 8"
    assert reasons(all_of_it) == ["inside", "control: fine", "2.100 [2.050, 2.150] × reported"]
    assert seen(all_of_it) == "T1; arXiv (seen: quoted); cannot be traced; claimed by others"
    assert measured(verdict(measured=674.0, n="exact", unit="")) == "674 exact"


def places(better: str, *cells: tuple[float, float | None, float | None]) -> list[int]:
    board = Board("m", "m", "", better)
    for index, (value, low, high) in enumerate(cells):
        cell = Cell("v", "d", "m", Estimate(value, low, high, 5), "paper")
        board.entries.append(Entry("p", "P", f"model {index}", "paper", "cpu", cell))
    return [entry.place for entry in _ranked(board).entries]


def test_models_whose_intervals_overlap_share_a_place() -> None:
    cells = [(95.0, 94.0, 96.0), (94.5, 93.0, 95.5), (90.0, 89.0, 91.0), (80.0, 79.0, 81.0)]
    assert places("higher", *cells) == [1, 1, 3, 4]
    assert places("lower", *cells) == [1, 2, 3, 3]
    assert places("higher", (95.0, 94.0, 96.0), (20.0, None, None)) == [1, 1]
