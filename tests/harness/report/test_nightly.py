"""A night's queue and budget, and that the leaderboard is whole afterwards."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from harness import nightly, paths
from harness.cli import app
from harness.nightly import BadBudget, Due, seconds
from harness.records import RecordStore
from harness.specs import catalog


def copy_toy(project, key: str) -> None:
    folder = project / "experiments" / key
    folder.mkdir()
    for path in (project / "experiments" / "toy").glob("*.*"):
        text = path.read_text().replace("experiments.toy.", f"experiments.{key}.")
        (folder / path.name).write_text(text.replace("key: toy", f"key: {key}"))


def all_fresh(add, key: str, day: int) -> None:
    """All trials of the smoke tier, ended on a day."""
    for variant in ("good", "bad", "broken"):
        for seed in range(3):
            record = add("smoke", variant, "theory", seed, key=key, score=1.0, count=7.0)
            ended = record.resources.model_copy(update={"ended": f"2026-01-{day:02d}T00:00:00"})
            RecordStore(paths.records()).write(record.model_copy(update={"resources": ended}))


def test_missing_and_stale_papers_come_before_the_oldest(project, add) -> None:
    for key in ("b", "c", "d"):
        copy_toy(project, key)
    all_fresh(add, "toy", 20)
    all_fresh(add, "b", 10)
    all_fresh(add, "c", 5)
    model = project / "experiments" / "c" / "parts.py"
    model.write_text(model.read_text() + "\nCHANGED = True\n")
    found = nightly.queue(catalog.paper_keys(), "smoke")
    assert [(d.key, d.stale) for d in found] == [
        ("d", True),  # never run
        ("c", True),  # its code changed
        ("b", False),  # fresh, the oldest first
        ("toy", False),
    ]
    assert Due("b", False, "").command == ["b", "--force"]
    assert Due("d", True, "").command == ["d"]


def test_papers_without_the_tier_are_not_queued(project) -> None:
    assert nightly.queue(["toy"], "long") == []


def test_the_budget_is_shared_and_then_spent(project, monkeypatch) -> None:
    for key in ("b", "c", "d"):
        copy_toy(project, key)
    clock = iter([0.0, 0.0, 40.0, 70.0, 97.0])
    monkeypatch.setattr(nightly.time, "monotonic", lambda: next(clock))
    launched = []

    def launch(arguments, limit):
        launched.append((arguments[0], limit))
        return {"b": 0, "c": 1, "d": None}[arguments[0]]

    night = nightly.run(100.0, "smoke", launch=launch)
    assert launched == [("b", 100.0), ("c", 60.0), ("d", 30.0)]
    assert (night.done, night.failed, night.stopped, night.left) == (["b"], ["c"], ["d"], ["toy"])


def test_a_paper_that_takes_too_long_is_interrupted(project, monkeypatch, tmp_path) -> None:
    program = tmp_path / "slow.py"
    ended = tmp_path / "ended"
    program.write_text(
        "import pathlib, time\n"
        "try:\n    time.sleep(60)\n"
        f"except KeyboardInterrupt:\n    pathlib.Path({str(ended)!r}).write_text('interrupted')\n"
    )
    monkeypatch.setattr(nightly, "COMMAND", [nightly.COMMAND[0], str(program)])
    assert nightly.interruptible(["toy"], 3.0) is None
    assert ended.read_text() == "interrupted"


def test_a_night_leaves_records_and_a_whole_leaderboard(project, edit_spec) -> None:
    edit_spec(lambda spec: spec["tiers"]["smoke"].update(seeds=1, variants=["good"]))
    shown = CliRunner().invoke(app, ["nightly", "--budget", "4m", "--tier", "smoke"])
    assert shown.exit_code == 0, shown.output
    assert "done: toy" in shown.output
    assert len(RecordStore(paths.records()).records("toy", "smoke")) == 1
    assert "[A Toy Paper](toy.md)" in (paths.results() / "README.md").read_text()


def test_a_night_without_time_still_writes_the_leaderboard(project) -> None:
    shown = CliRunner().invoke(app, ["nightly", "--budget", "1s"])
    assert shown.exit_code == 0
    assert "left: toy" in shown.output
    assert (paths.results() / "README.md").exists()


def test_budgets_have_units() -> None:
    assert seconds("60m") == 3600
    with pytest.raises(BadBudget, match="number with a unit"):
        seconds("an hour")
    assert CliRunner().invoke(app, ["nightly", "--budget", "x"]).exit_code == 2


def test_a_night_begins_where_it_decides_most_claims_per_second(project, add) -> None:
    """Two claims wait for ``b``, as many for ``c``, which is dear, one for ``d``; none for toy."""
    for key, cost in (("b", 10.0), ("c", 60.0), ("d", 10.0)):
        copy_toy(project, key)
        all_fresh(add, key, 5)
        store = RecordStore(paths.records())
        for record in store.records(key, "smoke"):
            spent = record.resources.model_copy(update={"seconds": cost})
            store.write(record.model_copy(update={"resources": spent}))
    for key, variant in (("b", "good"), ("c", "good"), ("d", "bad")):
        for record in store.records(key, "smoke"):
            if record.variant == variant:
                store.path(key, "smoke", record.trial).unlink()
    all_fresh(add, "toy", 1)
    found = nightly.queue(["c", "d", "toy", "b"], "smoke")
    assert [(d.key, d.stale) for d in found] == [
        *(("b", True), ("d", True), ("c", True), ("toy", False)),
    ]
    assert [d.rate for d in found[:3]] == pytest.approx([2 / 30, 1 / 30, 2 / 180])


def test_a_paper_whose_claims_more_seeds_may_decide_has_work(project, add, edit_spec) -> None:
    def change(spec: dict) -> None:
        spec["tiers"]["smoke"].update(seeds={"start": 3, "most": 6}, protocol="paper")
        spec["claims"][0]["quantity"] = {"value": "score", "of": "good", "on": "theory"}

    edit_spec(change)
    scores = {"good": (-1.0, 0.0, 1.1), "bad": (0.0, 0.1, 0.3), "broken": (-3.0, -3.1, -3.3)}
    for variant, values in scores.items():
        for seed, score in enumerate(values):
            add("smoke", variant, "theory", seed, score=score, count=7.0)
    (found,) = nightly.queue(["toy"], "smoke")
    assert (found.stale, found.command) == (True, ["toy"])
    edit_spec(lambda spec: spec["tiers"]["smoke"].update(seeds=3))
    (found,) = nightly.queue(["toy"], "smoke")
    assert (found.stale, found.command) == (False, ["toy", "--force"])
