"""Comparison of two states of the results: folders, revisions, regressions."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from typer.testing import CliRunner

from harness import paths
from harness.cli import app
from harness.report.compare import Interval, UnknownTree, compare
from harness.specs.catalog import SpecError


def copy(name: str):
    return shutil.copytree(paths.results(), paths.root() / name)


def change_scores(folder, variant: str, value: float) -> None:
    for path in folder.rglob("*.json"):
        record = json.loads(path.read_text())
        if record["variant"] == variant and record["tier"] == "smoke":
            record["metrics"]["score"]["value"] = value + 0.001 * record["seed"]
            path.write_text(json.dumps(record))


def test_equal_results_do_not_differ(measured) -> None:
    old = copy("old")
    found = compare(str(old), str(paths.results()))
    assert (found.changed, found.moved) == ([], [])
    assert CliRunner().invoke(app, ["compare", str(old)]).exit_code == 0


def test_a_claim_that_no_longer_holds_is_a_regression(measured) -> None:
    old = copy("old")
    change_scores(paths.records(), "good", 0.5)
    found = compare(str(old), str(paths.results()))
    (change,) = found.regressions
    assert (change.claim, change.before.verdict, change.after.verdict) == (
        "good-beats-bad",
        "reproduced",
        "not reproduced",
    )
    moved = {m.name for m in found.moved}
    assert moved == {"score of good on theory", "claim good-beats-bad on theory"}
    shown = CliRunner().invoke(app, ["compare", str(old)])
    assert shown.exit_code == 1
    assert "good-beats-bad" in shown.output
    # The other way round it is an improvement.
    assert compare(str(paths.results()), str(old)).regressions == []
    assert CliRunner().invoke(app, ["compare", str(paths.results()), str(old)]).exit_code == 0


def test_a_spec_of_another_time_is_left_out_of_both_sides(measured, edit_spec) -> None:
    old = paths.root() / "old"
    shutil.copytree(paths.experiments(), old / "experiments")
    shutil.copytree(paths.results(), old / "results")
    spec = old / "experiments" / "toy" / "spec.yaml"
    spec.write_text(spec.read_text().replace("role: baseline", "role: other"))
    change_scores(old, "good", 0.5)
    found = compare(str(old), str(paths.results()))
    assert (found.changed, found.moved) == ([], [])
    assert "toy: its spec in" in found.markdown() and "variants.bad.role" in found.markdown()
    with pytest.raises(SpecError):
        compare(str(paths.results()), str(old))


def test_lost_records_are_a_regression(measured) -> None:
    old = copy("old")
    shutil.rmtree(paths.records() / "toy" / "smoke")
    found = compare(str(old), str(paths.results()))
    assert {c.claim for c in found.regressions} == {"good-beats-bad"}
    assert {c.after.verdict for c in found.regressions} == {"not run"}


def test_a_small_drift_inside_the_intervals_is_no_change(measured) -> None:
    old = copy("old")
    change_scores(paths.records(), "good", 3.05)
    found = compare(str(old), str(paths.results()))
    assert (found.changed, found.moved) == ([], [])


def test_new_and_missing_claims_between_projects(measured, edit_spec, tmp_path_factory) -> None:
    other = tmp_path_factory.mktemp("other") / "project"
    shutil.copytree(paths.root(), other)
    edit_spec(lambda spec: spec["claims"].pop(0))
    found = compare(str(other), str(paths.root()))
    (gone,) = found.changed
    assert (gone.claim, gone.after, gone.regressed) == ("good-beats-bad", None, True)
    (new,) = compare(str(paths.root()), str(other)).changed
    assert (new.claim, new.before, new.regressed) == ("good-beats-bad", None, False)


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    command = ["git", "-C", str(paths.root()), *identity, *arguments]
    subprocess.run(command, check=True, capture_output=True)


def test_revisions_are_judged_with_their_own_specs(measured, edit_spec) -> None:
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    edit_spec(lambda spec: spec["claims"][0].update(criterion={"greater_than": 5}))
    git("commit", "-q", "-a", "-m", "two")
    assert [c.claim for c in compare("HEAD~1", "HEAD").regressions] == ["good-beats-bad"]
    assert compare("HEAD", str(paths.root())).changed == []


@pytest.mark.parametrize("name", ["no-such-thing", "--output=x", "HEAD"])
def test_what_is_no_state_of_results_is_refused(measured, name: str) -> None:
    with pytest.raises(UnknownTree):
        compare(name, str(paths.results()))
    assert CliRunner().invoke(app, ["compare", "--", name]).exit_code == 2


def test_unreadable_records_are_named(spoil) -> None:
    found = compare(str(paths.results()), str(paths.results()))
    assert any("package.json" in problem for problem in found.problems)
    assert "package.json" in found.markdown()


def test_intervals_are_apart_only_without_a_common_point() -> None:
    a = Interval(1.0, 0.0, 2.0)
    assert not a.apart(Interval(3.0, 2.0, 4.0))
    assert a.apart(Interval(3.0, 2.1, 4.0))
    assert Interval(3.0, 2.1, 4.0).apart(a)
    assert Interval(7.0, 7.0, 7.0).apart(Interval(8.0, 8.0, 8.0))
    assert not a.apart(Interval(100.0, None, None))
