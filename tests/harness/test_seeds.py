"""Which seeds are run: ranges, and no more than the data have splits."""

from __future__ import annotations

import pytest

from harness import paths, plan
from harness.plan import PlanError
from harness.reproduction import Request, reproduce
from harness.request import seeds_asked
from harness.specs import catalog
from harness.specs.validate import validate


def test_seeds_on_the_command_line() -> None:
    assert seeds_asked("100:110") == range(100, 110)
    assert (seeds_asked("7"), seeds_asked("auto")) == (7, "auto")
    for wrong in ("1:2:3", ":5", "5:", "-1:4", "a:b", "1:²", "1.5"):
        with pytest.raises(PlanError, match="a range 100:110"):
            seeds_asked(wrong)
    for wrong in (range(5, 5), range(-1, 3)):
        with pytest.raises(PlanError, match="a range of seeds"):
            Request("toy", seeds=wrong)


def test_a_range_is_a_quick_run_judged_by_itself(project, edit_spec, monkeypatch) -> None:
    edit_spec(lambda spec: spec["variants"]["bad"].update(deterministic=True))
    monkeypatch.delenv("HARNESS_RESULTS")
    whole = reproduce("toy", "cpu", variants=["good", "bad"], seeds=3)
    other = reproduce("toy", "cpu", variants=["good", "bad"], seeds=range(10, 12))
    assert {(r.variant, r.seed) for r in other.records} == {("good", 10), ("good", 11), ("bad", 0)}
    assert {r.seed for r in whole.records} == {0, 1, 2}
    assert other.results != paths.results() and "seeds 10 to 11 alone" in other.quick
    (count,) = (v for v in other.verdicts if v.claim == "count")
    assert count.at_reduced == "met"


def test_no_more_seeds_than_splits(project, edit_spec) -> None:
    edit_spec(lambda spec: spec["datasets"]["theory"].update(splits=4))
    spec = catalog.load("toy")
    assert validate("toy") == []
    assert len(plan.plan(spec, "smoke", ["theory"], seeds=4, variants=["good"])) == 4
    assert len(plan.plan(spec, "smoke", ["theory"], seeds=range(2, 4), variants=["good"])) == 2
    for seeds in (5, range(3, 5)):
        with pytest.raises(PlanError, match=r"4 splits.*seed 4 would be one of them again"):
            plan.plan(spec, "smoke", ["theory"], seeds=seeds)


@pytest.mark.parametrize("seeds", [5, {"start": 2, "most": 8}])
def test_a_tier_asks_for_no_more_seeds_than_splits(project, edit_spec, seeds) -> None:
    edit_spec(lambda spec: spec["datasets"]["theory"].update(splits=4))
    edit_spec(lambda spec: spec["tiers"]["smoke"].update(seeds=seeds))
    (problem,) = validate("toy")
    assert "and theory has 4 splits" in problem.message
