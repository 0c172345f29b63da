"""Limits that differ between a tier's trials, and trials that run alone."""

from __future__ import annotations

import pytest

from harness import plan
from harness.desk import Setting
from harness.engines.base import Finished, Started, alone_last
from harness.engines.local import LocalEngine
from harness.reproduction import Request, reproduce, run
from harness.specs import catalog
from harness.specs.validate import validate


class Overlap:
    """Which variants ran beside each other, and in which order trials began."""

    def __init__(self) -> None:
        self.running: set[str] = set()
        self.beside: dict[str, set[str]] = {}
        self.order: list[str] = []

    def announce(self, text): ...
    def begin(self, paper, trials, skipped): ...
    def end(self): ...

    def event(self, event) -> None:
        name = f"{event.trial.variant}-{event.trial.seed}"
        if isinstance(event, Started):
            self.order.append(name)
            self.running.add(name)
            for other in self.running:
                self.beside.setdefault(other, set()).update(self.running - {other})
        if isinstance(event, Finished):
            self.running.discard(name)


@pytest.fixture
def limited(unruly, edit_unruly):
    """The unruly paper's smoke tier with overrides; both variants behave."""

    def change(*overrides: dict, **tier: object):
        def edit(spec: dict) -> None:
            spec["variants"]["deaf"]["procedure"]["init_args"]["how"] = "well"
            spec["tiers"]["smoke"].update(tier, overrides=list(overrides))

        edit_unruly(edit)
        assert validate("unruly") == []
        return catalog.load("unruly")

    return change


def test_overrides_change_limits_and_no_identity(limited) -> None:
    before = {t.label: t for t in plan.plan(limited(), "smoke", ["none"])}
    more = {"timeout": "5m", "memory": "2GB", "cpus": 2, "gpus": 0.5, "alone": True}
    spec = limited({"when": {"variant": "deaf"}, **more}, {"when": {"variant": "d*"}, "cpus": 3})
    after = {t.label: t for t in plan.plan(spec, "smoke", ["none"])}
    assert {label: t.id for label, t in after.items()} == {k: t.id for k, t in before.items()}
    found = {t.variant: t.limits for t in after.values()}
    assert found["deaf"] == plan.Limits(300, 2e9, 3, 0.5, True)
    assert found["well"] == plan.Limits(60, None, 1, 0.0, False)


def test_what_is_alone_runs_last_and_with_nothing_beside_it(limited) -> None:
    limited({"when": {"variant": "well"}, "alone": True}, seeds=3)
    seen = Overlap()
    outcome = run(Request("unruly", "smoke", jobs=3), [seen])
    assert len(outcome.records) == 6 and not outcome.failed
    assert [name[:4] for name in seen.order] == ["deaf"] * 3 + ["well"] * 3
    assert all(not seen.beside[f"well-{seed}"] for seed in range(3))
    assert seen.beside["deaf-0"], "others do run beside each other"


def test_a_trial_that_takes_more_processors_leaves_less_room(limited) -> None:
    limited({"when": {"variant": "deaf"}, "cpus": 2}, seeds=3)
    seen = Overlap()
    outcome = run(Request("unruly", "smoke", jobs=2), [seen])
    assert len(outcome.records) == 6 and not outcome.failed
    assert all(not seen.beside[f"deaf-{seed}"] for seed in range(3))


def test_no_group_is_larger_than_the_machine(limited, tmp_path) -> None:
    spec = limited({"when": {"variant": "deaf"}, "cpus": 64}, cpus=2)
    groups = plan.groups(plan.plan(spec, "smoke", ["none"]), 1)
    engine = LocalEngine(Setting({}), None, jobs=4, cpus=2)  # type: ignore[arg-type]
    assert {g[0].variant: engine._size(g) for g in groups} == {"deaf": 4, "well": 1}
    assert alone_last(groups) == groups


def test_the_factor_of_patience_holds_for_every_limit(limited) -> None:
    limited({"when": {"variant": "deaf"}, "timeout": "2s"})
    outcome = reproduce("unruly", "smoke", timeout=30)
    assert len(outcome.records) == 4 and not outcome.failed
