"""Settings resolve in a fixed order, and a trial's identity follows from them."""

from __future__ import annotations

import subprocess

import pytest

from harness import fingerprint, paths, plan
from harness.plan import merge
from harness.specs import catalog
from harness.specs.validate import validate


def test_merging_goes_key_by_key_and_a_new_class_starts_afresh() -> None:
    base = {"class_path": "a.B", "init_args": {"x": 1, "y": {"z": 2}}}
    assert merge(base, {"init_args": {"y": {"w": 3}}})["init_args"] == {
        "x": 1,
        "y": {"z": 2, "w": 3},
    }
    assert merge(base, {"class_path": "a.B", "init_args": {"x": 5}})["init_args"]["y"] == {"z": 2}
    assert merge(base, {"class_path": "a.C"}) == {"class_path": "a.C"}
    assert merge([1], [2]) == [2]
    assert base == {"class_path": "a.B", "init_args": {"x": 1, "y": {"z": 2}}}


def test_settings_are_merged_from_paper_to_override(project, edit_spec) -> None:
    def change(spec: dict) -> None:
        spec["tiers"]["cpu"]["procedure"] = {"init_args": {"level": 5.0}}
        spec["tiers"]["cpu"]["overrides"] = [
            {"when": {"variant": "g*"}, "procedure": {"init_args": {"level": 6.0}}},
            {"when": {"dataset": "digits"}, "procedure": {"init_args": {"level": 7.0}}},
            {"when": {"variant": "bad"}, "protocol": "paper", "seeds": 9},
        ]

    edit_spec(change)
    spec = catalog.load("toy")

    def level(tier: str, variant: str) -> float:
        found = plan.settings(spec, tier, variant, "theory")
        return found.config["procedure"]["init_args"].get("level")

    assert (level("smoke", "good"), level("smoke", "bad")) == (2.0, None)
    assert (level("cpu", "good"), level("cpu", "broken")) == (6.0, 5.0)
    bad = plan.settings(spec, "cpu", "bad", "theory")
    assert (bad.protocol, bad.seeds) == ("paper", 9)


def test_like_takes_over_everything_but_what_it_changes(project) -> None:
    spec = catalog.load("toy")
    wide = plan.settings(spec, "cpu", "wide", "digits").config
    net = plan.settings(spec, "cpu", "net", "digits").config
    assert wide["procedure"] == net["procedure"]
    assert wide["model"]["init_args"] == {**net["model"]["init_args"], "hidden": 32}


def test_a_long_chain_of_likes_is_refused(project, edit_spec) -> None:
    """Merging each with all before it would take a time that grows with the square of them."""

    def chain(spec: dict) -> None:
        for i in range(900):
            spec["variants"][f"v{i}"] = {"label": "x", "role": "paper", "like": f"v{i - 1}"}
        spec["variants"]["v0"]["like"] = "good"

    edit_spec(chain)
    found = [
        problem.message for problem in validate("toy") if "like one another" in problem.message
    ]
    assert any("variants.v899" in message for message in found)
    assert not any("variants.v10." in message for message in found)


def test_identity_follows_the_settings_and_nothing_else(project, edit_spec) -> None:
    def ids() -> dict[tuple[str, int], str]:
        spec = catalog.load("toy")
        return {(t.variant, t.seed): t.id for t in plan.plan(spec, "smoke", ["theory"])}

    before = ids()
    assert len(set(before.values())) == 9
    edit_spec(lambda spec: spec["tiers"]["smoke"].update(timeout="2m", description="other"))
    edit_spec(lambda spec: spec["variants"]["good"].update(label="other"))
    assert ids() == before
    edit_spec(lambda spec: spec["variants"]["good"]["procedure"]["init_args"].update(level=9.0))
    after = ids()
    changed = {
        variant for (variant, seed) in before if before[variant, seed] != after[variant, seed]
    }
    assert changed == {"good"}


def test_the_first_available_dataset_of_a_slot_is_chosen(project) -> None:
    tier = catalog.load("toy").tiers["cpu"]
    none = plan.choose(tier, lambda name: name == "theory")
    assert [(c.dataset, c.missing) for c in none] == [(None, ("real", "digits")), ("theory", ())]
    some = plan.choose(tier, lambda name: name != "real")
    assert [(c.dataset, c.missing) for c in some] == [("digits", ("real",)), ("theory", ())]


def test_folds_multiply_trials(project, edit_spec) -> None:
    edit_spec(lambda spec: spec["datasets"]["digits"].update(folds={"shuffle": [False, True]}))
    spec = catalog.load("toy")
    trials = plan.plan(spec, "cpu", ["digits"], seeds=2, variants=["net"])
    assert len({t.id for t in trials}) == 4
    assert {t.config["data"]["init_args"]["shuffle"] for t in trials} == {False, True}
    assert [t.seed for t in trials] == [0, 0, 1, 1], "whole seeds come first"


def test_a_deterministic_variant_has_one_seed(project, edit_spec) -> None:
    edit_spec(lambda spec: spec["variants"]["bad"].update(deterministic=True))
    trials = plan.plan(catalog.load("toy"), "smoke", ["theory"], seeds=4)
    counts = {v: sum(t.variant == v for t in trials) for v in ("good", "bad")}
    assert counts == {"good": 4, "bad": 1}


def test_code_is_fingerprinted_alike_whatever_is_remembered(project) -> None:
    spec, memory = catalog.load("toy"), paths.runs() / fingerprint.MEMORY

    def code() -> str:
        fingerprint._parsed.cache_clear()
        fingerprint._remembered.cache_clear()
        return plan.plan(spec, "smoke", ["theory"])[0].code

    first = code()
    assert memory.exists() and code() == first
    for damage in ("", "[]", '{"x": 1}', '{"x": [1, 2, 3]}', "\x00"):
        memory.write_text(damage)
        assert code() == first
    memory.unlink()
    memory.mkdir()  # it cannot be written
    assert code() == first


def test_groups_hold_trials_that_differ_by_seed_only(project) -> None:
    trials = plan.plan(catalog.load("toy"), "smoke", ["theory"])
    together = plan.groups(trials, 2)
    assert sorted(map(len, together)) == [1, 1, 1, 2, 2, 2]
    assert all(len({t.variant for t in group}) == 1 for group in together)
    assert [len(g) for g in plan.groups(trials, 1)] == [1] * 9


def test_unknown_names_are_named_with_those_that_exist(project) -> None:
    spec = catalog.load("toy")
    with pytest.raises(plan.PlanError, match="it has smoke, cpu, full"):
        plan.plan(spec, "gpu", ["theory"])
    with pytest.raises(plan.PlanError, match="no variant 'goood'"):
        plan.plan(spec, "smoke", ["theory"], variants=["goood"])


def _code() -> str:
    return plan.plan(catalog.load("toy"), "smoke", ["theory"])[0].code


def test_files_beside_the_code_count_and_what_says_things_does_not(project) -> None:
    folder = project / "experiments" / "toy"
    first = _code()
    (folder / "README.md").write_text("explained")
    (folder / ".hidden").write_text("x")
    (folder / "spec.yaml").write_text((folder / "spec.yaml").read_text() + "# a remark\n")
    assert _code() == first
    (folder / "tables").mkdir()
    (folder / "tables" / "settings.json").write_text("{}")
    second = _code()
    assert second != first
    (folder / "tables" / "settings.json").write_text('{"a": 1}')
    assert _code() not in (first, second)


def test_where_there_is_git_only_files_that_it_tracks_count(project) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-C", str(project), *words], check=True, capture_output=True)  # noqa: S607

    first = _code()
    git("init", "-q")
    git("add", "experiments")
    settings = project / "experiments" / "toy" / "settings.json"
    settings.write_text("{}")
    assert _code() == first
    git("add", "experiments")
    assert _code() != first


def test_names_of_packages_are_exact() -> None:
    within = fingerprint._within
    assert within("harness.loading", fingerprint.FOLLOWED)
    assert within("harness.loading.splits", fingerprint.FOLLOWED)
    assert not within("harness.loadings", fingerprint.FOLLOWED)
    assert not within("harness.procedures.baselines", fingerprint.NOT_FOLLOWED)
    found = fingerprint.reachable({"harness.procedures.fit"})
    assert "harness.loading" in found, "importing a module runs its package"
    assert "harness.procedures.base" not in found


def test_what_decides_seeding_is_followed(project) -> None:
    found = fingerprint.reachable(fingerprint.ALWAYS)
    assert found >= {"harness.opening", "harness.specs.build", "harness.seeding"}


def test_several_sources_name_a_trial_and_one_root_as_before(project, edit_spec) -> None:
    def ids() -> dict[str, str]:
        trials = plan.plan(catalog.load("toy"), "cpu", ["real"], seeds=1, variants=["net"])
        return {t.data: t.id for t in trials}

    before = ids()
    edit_spec(lambda spec: spec["datasets"]["real"].update(source=None, sources={"root": "mnist"}))
    assert ids() == before
    with_more = {"root": "mnist", "weights": "digits-weights"}
    assert plan._joined(with_more) != plan._joined(with_more | {"weights": "others"}) != ""
    assert plan._joined({"a": "", "b": ""}) == "" and plan._joined({"root": "x"}) == "x"
