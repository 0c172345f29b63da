"""Recorded trials, run again, measure the same; and what does not is named."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from harness import paths, plan
from harness.cli import app
from harness.records import Measured, Record, RecordStore
from harness.reproduction import reproduce
from harness.specs import catalog
from harness.verify import compare, lines, summary, verify


@pytest.fixture
def recorded(unruly) -> RecordStore:
    """Two finished trials."""
    reproduce("unruly", "cpu", seeds=1)
    return RecordStore(paths.records())


def change(store: RecordStore, **changes: object) -> Record:
    record = next(r for r in store.records() if r.variant == "net")
    store.write(record.model_copy(update=changes))
    return record


def test_on_the_same_machine_to_the_last_bit(recorded) -> None:
    before = {p: p.read_bytes() for p in paths.results().rglob("*.json")}
    runs = sorted(paths.runs().rglob("*"))
    found = verify("unruly", "cpu")
    assert len(found) == 2 and all(v.same and not v.environment for v in found)
    assert {p: p.read_bytes() for p in paths.results().rglob("*.json")} == before
    assert sorted(paths.runs().rglob("*")) == runs, "nothing here is touched"
    net = next(r for r in recorded.records() if r.variant == "net")
    value = net.metrics["train_loss"].value
    change(recorded, metrics=net.metrics | {"train_loss": Measured(value=value * (1 + 1e-15))})
    outcome = CliRunner().invoke(app, ["verify", "unruly", "--tier", "cpu"])
    assert outcome.exit_code == 1
    assert "1 of 2 trials measure the same; compared: 2 bit for bit" in outcome.output
    (differs,) = [line for line in outcome.output.splitlines() if line.startswith("DIFFERS")]
    (same,) = [line for line in outcome.output.splitlines() if line.startswith("same")]
    assert ", not bit for bit: 1 figures" in differs and same.endswith(", bit for bit")
    assert "train_loss: " in outcome.output


def test_seeds_trained_together_are_verified_together(project, edit_spec) -> None:
    parts = project / "experiments" / "toy" / "parts.py"
    parts.write_text(parts.read_text().replace("nn.Dropout(0.1), ", ""))
    edit_spec(lambda spec: spec["tiers"]["cpu"].update(together=2))
    reproduce("toy", "cpu", variants=["net"], seeds=2)
    found = verify("toy", "cpu")
    assert len(found) == 2 and all(v.same and not v.environment for v in found)


def pair(recorded: RecordStore) -> tuple[plan.PlannedTrial, Record]:
    record = next(r for r in recorded.records() if r.variant == "net")
    trial = plan.planner(catalog.load("unruly"))(record)
    assert trial is not None
    return trial, record


def test_in_another_environment_within_the_tolerance(recorded) -> None:
    trial, record = pair(recorded)
    versions = record.provenance.versions | {"torch": "1.0"}
    hardware = record.provenance.hardware | {"cpu": "another"}
    provenance = record.provenance.model_copy(update={"versions": versions, "hardware": hardware})
    old = record.model_copy(update={"provenance": provenance})
    assert compare(trial, old, record).same
    torch = record.provenance.versions["torch"]
    changed = compare(trial, old, record).environment
    assert f"torch: 1.0 → {torch}" in changed and len(changed) == 2
    (said,) = lines(compare(trial, old, record))
    assert ", within 1 %; not as it was: " in said
    assert summary([compare(trial, old, record), compare(trial, record, record)]) == (
        "2 of 2 trials measure the same; compared: 1 within 1 %, 1 bit for bit"
    )
    for factor, same in ((1.005, True), (1.02, False)):
        loss = Measured(value=record.metrics["train_loss"].value * factor)
        new = record.model_copy(update={"metrics": record.metrics | {"train_loss": loss}})
        assert compare(trial, old, new).same == same
        assert not compare(trial, record, new).same, "here there is no tolerance"
        assert compare(trial, record, new, leave_out=["train_loss"]).same


@pytest.mark.parametrize("known", [None, "GenuineIntel 6 1"])
def test_a_name_alone_does_not_make_a_processor_the_same(recorded, known: str | None) -> None:
    """Virtual machines show processors of several families under one name."""
    trial, record = pair(recorded)
    hardware = {name: v for name, v in record.provenance.hardware.items() if name != "kind"}
    hardware |= {"kind": known} if known else {}
    provenance = record.provenance.model_copy(update={"hardware": hardware})
    found = compare(trial, record.model_copy(update={"provenance": provenance}), record)
    now = record.provenance.hardware["kind"]
    assert found.environment == [f"kind: {known or 'none'} → {now}"] and found.tolerance == 0.01


def test_every_kind_of_difference_is_one(recorded) -> None:
    trial, record = pair(recorded)
    fewer = record.model_copy(update={"metrics": {}})
    assert {d.name for d in compare(trial, record, fewer).differences} == set(record.metrics)
    curve = record.series["accuracy"]
    shorter = curve.model_copy(update={"x": curve.x[:-1], "y": curve.y[:-1]})
    new = record.model_copy(update={"series": record.series | {"accuracy": shorter}})
    assert not compare(trial, record, new).same
    assert compare(trial, record, None).failure == "it was not run"
    assert "FAILED" in lines(compare(trial, record, None))[0]


def test_changed_code_and_failures_are_named(unruly, edit_unruly) -> None:
    reproduce("unruly", "smoke", seeds=1, variants=["well"])
    parts = unruly / "experiments" / "unruly" / "parts.py"
    parts.write_text(parts.read_text().replace("1.0 + trial.seed", "1.5 + trial.seed"))
    (found,) = verify("unruly", "smoke")
    assert not found.same and found.environment[0].startswith("code: ")
    assert [(d.name, d.recorded, d.measured) for d in found.differences] == [("total", 1.0, 1.5)]
    parts.write_text(parts.read_text().replace("1.5 + trial.seed", "1 / 0"))
    (found,) = verify("unruly", "smoke")
    assert "ZeroDivisionError" in found.failure


def test_without_records_there_is_nothing_to_verify(unruly) -> None:
    with pytest.raises(plan.PlanError, match="no record"):
        verify("unruly", "smoke")
