"""A claim's headline, and what is counted apart."""

from __future__ import annotations

from harness.judging.deciding import count, direction_only, headline
from harness.records import RecordStore
from harness.report.leaderboard import collect
from harness.report.markdown import Row, verdicts_csv
from harness.report.terminal import summary

GAP = {
    "quantity": {"difference": "acc", "of": "a", "from": "b", "on": "paper-set"},
    "criterion": {"greater_than": 0},
    "reported": {"value": 2.0, "unit": "points"},
}
A, B = [0.90, 0.91, 0.92, 0.90, 0.91], [0.50, 0.51, 0.53, 0.49, 0.50]


def test_directions_are_counted_apart_wherever_claims_are_counted(made, tmp_path) -> None:
    spec = made.paper(GAP)
    records = made.table(spec, "full", "paper-set", a=A, b=B)
    rows = made.judge(spec, "full", records)
    assert (count(rows)["reproduced"], direction_only(rows)) == (1, 1)
    assert "1 reproduced (1 direction only)" in summary(rows).plain
    line = headline(rows)
    assert verdicts_csv([(spec, line)]).endswith("reproduced,paper,full,direction only\n")
    store = RecordStore(tmp_path)
    for record in records:
        store.write(record)
    assert Row.of(collect(spec, store)).cells[0] == "1 (1 direction only)"


def test_what_is_not_reproduced_has_no_direction(made) -> None:
    rows = made.judge(
        made.paper(GAP), "full", made.table(made.paper(GAP), "full", "paper-set", a=B, b=A)
    )
    assert (rows[0].verdict, direction_only(rows)) == ("not reproduced", 0)
    assert "direction" not in summary(rows).plain
