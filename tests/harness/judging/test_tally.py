"""Many claims: who made them, what chance would give, and what rests on one measurement."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.judging.deciding import count
from harness.judging.tally import LEVEL, chance, counted, measurements, once, split
from harness.judging.verdicts import judge
from harness.records import Measured
from harness.report.many import headline, section

HIGH = [0.90, 0.91, 0.92, 0.90, 0.91]
LOW = [0.60, 0.62, 0.58, 0.61, 0.65]
NOISY = [0.1, 0.9, 0.3, 0.7, 0.5]


def claim(name: str, criterion: dict, of: str = "a", base: str | None = None, **more) -> dict:
    kind = {"difference": "acc", "from": base} if base else {"value": "acc"}
    quantity = {**kind, "of": of, "on": "paper-set", **more.pop("quantity", {})}
    return {"id": name, "criterion": criterion, "quantity": quantity, **more}


@pytest.fixture
def tallied(made):
    """Entries of claims judged on three variants: a is high, b is low, ctl all over the place."""

    def tally(*claims: dict, tier: str = "full", **values: list[float]):
        parts = [made.paper(one).claims[0] for one in claims]
        spec = made.paper(claims[0]).model_copy(update={"claims": parts})
        values = values or {"a": HIGH, "b": LOW, "ctl": NOISY}
        rows = judge(spec, tier, made.table(spec, tier, "paper-set", **values))
        return counted(spec, rows), rows

    return tally


def test_only_the_papers_own_claims_make_the_headline(tallied) -> None:
    entries, rows = tallied(
        claim("own", {"at_least": 80}),
        claim("quoted", {"at_least": 80}, by="others"),
        claim("ours", {"at_least": 95}, by="us"),
    )
    assert count(rows)["reproduced"] == 1 and sum(count(rows).values()) == 1
    assert headline(entries) == "Claims of the papers: 1 (1 reproduced). Claims of others: 2."
    by = split(entries, "by", ("paper", "authors", "others", "us"))
    assert by["others"] == {"reproduced": 1} and by["us"] == {"not reproduced": 1}
    assert not by["authors"]
    assert split(entries, "evidence", ("paper",)) == {
        "paper": {"reproduced": 2, "not reproduced": 1}
    }


def test_chance_counts_what_could_have_been_reproduced_by_it(tallied) -> None:
    entries, rows = tallied(
        claim("sure", {"at_least": 80}),
        claim("wrong", {"at_least": 95}),
        claim("open", {"at_least": 40}, of="ctl"),
        {"id": "idle", "not_run": "too large"},
        claim("short", {"at_least": 10}, of="b", quantity={"over_seeds": "median"}),
    )
    found = {entry.claim: entry for entry in entries}
    tested = {name: entry.tested for name, entry in found.items()}
    assert tested == {"sure": True, "wrong": True, "open": True, "idle": False, "short": False}
    (sure,) = [row.p for row in rows if row.claim == "sure"]
    assert (found["sure"].p, found["wrong"].p) == (sure, None)
    result = chance(entries)
    assert (result.tested, result.expected, result.reproduced) == (3, 3 * LEVEL, 1)
    assert (result.holm, result.benjamini_hochberg) == (1, 1)


def test_an_exact_figure_is_not_tested(tallied) -> None:
    (entry,), _ = tallied(claim("sum", {"at_least": 40}), a=[Measured(value=0.5, exact=True)])
    assert (entry.verdict, entry.tested, entry.p) == ("reproduced", False, None)


def test_of_several_data_sets_the_largest_error_counts(tallied, made) -> None:
    _, (row,) = tallied(claim("own", {"at_least": 80}))
    spec = made.paper(claim("own", {"at_least": 80}))
    rows = [row, replace(row, dataset="other-set", p=0.02)]
    assert [entry.p for entry in counted(spec, rows)] == [0.02]


def test_a_borderline_claim_among_many_does_not_stand(tallied) -> None:
    edge = claim("edge", {"at_least": 89.7})
    alone, (row,) = tallied(edge)
    assert row.verdict == "reproduced" and 0.005 < row.p < 0.025
    assert chance(alone).holm == chance(alone).benjamini_hochberg == 1
    others = [claim(f"wrong-{i}", {"at_least": 95}) for i in range(9)]
    among = chance(tallied(edge, *others)[0])
    assert (among.reproduced, among.holm, among.benjamini_hochberg) == (1, 0, 0)


def test_what_a_reduced_protocol_cannot_show_is_not_tested(tallied) -> None:
    entries, _ = tallied(
        claim("figure", {"at_least": 80}), claim("order", {"at_least": 5}, base="b"), tier="cpu"
    )
    assert [entry.tested for entry in entries] == [False, True]


def test_claims_on_the_same_operands_rest_on_one_measurement(tallied) -> None:
    entries, _ = tallied(
        claim("above", {"greater_than": 0}, base="b"),
        claim("far-above", {"at_least": 20}, base="b"),
        claim("other-way", {"less_than": 0}, of="b", base="a"),
        claim("alone", {"at_least": 80}),
        claim("too-much", {"at_least": 95}),
        {"id": "idle", "not_run": "too large"},
    )
    groups = measurements(entries)
    assert [[entry.claim for entry in group] for group in groups.values()] == [
        *(["above", "far-above", "other-way"], ["alone", "too-much"]),
    ]
    counts = once(groups.values())
    assert (counts["reproduced"], counts["inconclusive"], sum(counts.values())) == (1, 1, 2)


def test_the_section_says_it_all(tallied) -> None:
    entries, _ = tallied(
        claim("above", {"greater_than": 0}, base="b"),
        claim("far-above", {"at_least": 20}, base="b"),
        claim("quoted", {"at_least": 80}, by="others"),
    )
    page = "\n".join(section(entries))
    assert "| others | 1 |" in page and "authors" not in page
    assert "2 of the papers' own claims were tested" in page
    assert "at most 0.1 would" in page and "2 are. Tested together, 2 of them stand" in page
    assert "rest on 1 measurements" in page and "| 2 | above, far-above |" in page
