"""What a trial returns is what its procedure declares; what it costs can be claimed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness import runner
from harness.desk import Setting
from harness.plan import plan
from harness.procedures.base import Outcome
from harness.reproduction import reproduce
from harness.specs import catalog
from harness.specs.validate import validate

ODD = """
from experiments.toy.parts import Behave


class Odd(Behave):
    @classmethod
    def produces(cls, init_args):
        return {PRODUCES}


class Strict(Odd):
    @classmethod
    def sometimes(cls, init_args):
        return {SOMETIMES}
"""


@pytest.fixture
def odd(project: Path):
    """Run the toy with a procedure that declares other metrics than it returns."""

    def play(name: str, produces: str, sometimes: str = "set()"):
        text = ODD.replace("{PRODUCES}", produces).replace("{SOMETIMES}", sometimes)
        (project / "experiments" / "toy" / "odd.py").write_text(text)
        path = project / "experiments" / "toy" / "spec.yaml"
        path.write_text(path.read_text().replace("toy.parts.Behave", f"toy.odd.{name}"))
        return reproduce("toy", "smoke", seeds=1, variants=["good"])

    return play


def test_a_metric_that_is_not_declared_fails_the_trial(odd) -> None:
    (failed,) = odd("Odd", '{"score", "count"}').failed
    assert (failed.error.type, failed.metrics) == ("OtherMetrics", {})
    assert "curve: measured, and not among what produces() names" in failed.error.message


@pytest.mark.parametrize(
    ("returned", "kind", "says"),
    [
        ('Outcome({"score": 10**400})', "NonFinite", "score is too large for a number"),
        ('Outcome({"score": "much"})', "NonFinite", "score is no number, but str"),
        ('Outcome({"score": torch.ones(2)})', "NonFinite", "score is no number, but Tensor"),
        ('Outcome({"score": None})', "NonFinite", "score is no number, but NoneType"),
        ("None", "OtherMetrics", "returned NoneType, and no Outcome"),
        ("1 / Mute()", "Mute", "its text cannot be made: KeyError"),
    ],
)
def test_whatever_is_returned_or_raised_is_told(project, edit_spec, returned, kind, says) -> None:
    """In a record, and not by a worker that dies."""
    lines = [
        "import torch",
        "from experiments.toy.parts import Behave",
        "from harness.procedures.base import Outcome",
        "class Mute(Exception):",
        "    def __str__(self): raise KeyError('nothing')",
        "    def __rtruediv__(self, other): raise self",
        "class Odd(Behave):",
        f"    def run(self, trial): return {returned}",
    ]
    (project / "experiments" / "toy" / "odd.py").write_text("\n".join(lines))
    path = project / "experiments" / "toy" / "spec.yaml"
    path.write_text(path.read_text().replace("toy.parts.Behave", "toy.odd.Odd"))
    (failed,) = reproduce("toy", "smoke", seeds=1, variants=["good"]).failed
    assert failed.error.type == kind and says in failed.error.message


@pytest.mark.parametrize(
    ("name", "sometimes", "fails"),
    [("Odd", "set()", False), ("Strict", "set()", True), ("Strict", '{"extra"}', False)],
)
def test_a_declared_metric_may_be_missing_where_that_is_said(odd, name, sometimes, fails) -> None:
    outcome = odd(name, '{"score", "count", "curve", "extra"}', sometimes)
    assert bool(outcome.failed) == fails
    if fails:
        assert "extra: named by produces(), and not measured" in outcome.failed[0].error.message


def test_what_a_trial_costs_is_a_metric_that_claims_may_be_about(project, edit_spec) -> None:
    def change(spec: dict) -> None:
        spec["metrics"]["seconds"] = {"label": "time", "unit": "s", "better": "lower"}
        spec["metrics"]["peak_memory_mb"] = {"label": "memory", "unit": "GB", "scale": 0.001}
        quantity = {"ratio": "seconds", "of": "good", "to": "bad", "on": "theory"}
        memory = {"value": "peak_memory_mb", "of": "good", "on": "theory"}
        base = spec["claims"][0] | {"control": None}
        spec["claims"] += [
            base | {"id": "faster", "quantity": quantity, "criterion": {"at_most": 1e6}},
            base | {"id": "small", "quantity": memory, "criterion": {"at_most": 1000}},
        ]

    edit_spec(change)
    assert validate("toy") == []
    outcome = reproduce("toy", "smoke")
    found = {v.claim: v for v in outcome.verdicts}
    assert found["faster"].measured > 0 and found["faster"].unit == "×"
    used = [r.resources.peak_memory_mb for r in outcome.records if r.variant == "good"]
    assert found["small"].measured == pytest.approx(sum(used) / len(used) / 1000)
    assert all(r.resources.device_memory_mb is None for r in outcome.records)


def test_a_metric_of_the_procedure_comes_before_a_cost_of_that_name(project) -> None:
    spec = catalog.load("toy")
    (trial,) = plan(spec, "smoke", ["theory"], seeds=1, variants=["good"])
    outcome = Outcome({"seconds": 7.0})
    record = runner.done(trial, Setting({}), outcome, datetime.now(UTC), 3.0)
    assert record.measured("seconds").value == 7.0
    assert record.measured("peak_memory_mb").value > 0
    assert record.measured("score") is None and record.measured("started") is None
