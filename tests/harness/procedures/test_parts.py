"""What trials share changes nothing that they measure, and may be lost at any time."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
import torch
from filelock import FileLock
from torch import nn

from harness import paths
from harness.engines.base import Interrupted, Reported
from harness.procedures.base import Trial, part_together
from harness.procedures.checkpoints import Checkpoints, Stopped
from harness.procedures.parts import Parts
from harness.reproduction import Request, reproduce, run
from harness.seeding import seed_all
from harness.verify import verify

CPU = torch.device("cpu")


def trial(folder: Path, seed: int = 0, shared: bool = True, **changes: object) -> Trial:
    parts = Parts(folder / "parts", {"code": "c"}) if shared else None
    checkpoints = Checkpoints(folder / f"trial-{seed}" / "checkpoints", every=0)
    made = Trial(seed, None, lambda: nn.Linear(3, 2), CPU, folder, parts=parts)
    return replace(made, checkpoints=checkpoints, **changes)


class Maker:
    """Makes noise, and counts how often."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, trial: Trial) -> dict[str, object]:
        self.made += 1
        noise = torch.randn(4, 3, requires_grad=True)
        torch.rand(self.made)  # another state of the generator each time
        return {"noise": noise * 2, "names": ["a"], "score": 0.5, "none": None, "pair": (1, True)}


def measured(trial: Trial, make: Maker, config: dict[str, object] | None = None) -> str:
    """What a trial comes to that draws random numbers before and after the part.

    How many before differs from trial to trial, as it may between variants that share the part.
    """
    seed_all(trial.seed, "trial")
    before = torch.rand(2 + make.made)[:2]
    found = trial.part("teacher", {"width": 3} if config is None else config, make)
    return repr((before.tolist(), found, torch.rand(2).tolist()))


def test_made_found_lost_damaged_or_not_kept_a_trial_measures_the_same(tmp_path: Path) -> None:
    make = Maker()
    first = measured(trial(tmp_path), make)
    assert measured(trial(tmp_path), make) == first and make.made == 1
    (kept,) = (tmp_path / "parts").glob("*.part")
    whole = kept.read_bytes()
    for damaged in (whole[:-1], b"", bytes([whole[0] ^ 1]) + whole[1:]):
        kept.write_bytes(damaged)
        assert measured(trial(tmp_path), make) == first
    kept.unlink()
    assert measured(trial(tmp_path), make) == first
    assert measured(trial(tmp_path, shared=False), make) == first
    assert make.made == 6
    assert measured(trial(tmp_path, seed=1), make) != first


def test_it_depends_on_settings_seed_and_whatever_the_trial_says(tmp_path: Path) -> None:
    make = Maker()
    measured(trial(tmp_path), make)
    measured(trial(tmp_path), make, {"width": 4})
    measured(trial(tmp_path, seed=1), make)
    other_code = trial(tmp_path, parts=Parts(tmp_path / "parts", {"code": "d"}))
    measured(other_code, make)
    assert make.made == 4
    with pytest.raises(TypeError, match="plain data, as in a spec"):
        measured(trial(tmp_path), make, {"loss": nn.MSELoss()})
    with pytest.raises(ValueError, match="names no part"):
        trial(tmp_path).part("../teacher", {}, make)


def test_what_is_found_is_plain_data_on_its_own(tmp_path: Path) -> None:
    big = torch.zeros(1000, 1000)
    found = trial(tmp_path).part("view", {}, lambda _: {"x": big[0, :3], "pair": (1, 2)})
    assert found["x"].shape == (3,) and found["pair"] == (1, 2)
    (kept,) = (tmp_path / "parts").glob("view*.part")
    assert kept.stat().st_size < 10_000, "not the storage that it was a view of"
    assert not trial(tmp_path).part("noise", {}, Maker())["noise"].requires_grad
    with pytest.raises(TypeError, match=r"holds a Linear.*state_dict"):
        trial(tmp_path).part("module", {}, lambda _: nn.Linear(2, 2))


def test_a_part_that_builds_the_model_has_to_say_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="depends on the trial's model"):
        trial(tmp_path).part("encoder", {}, lambda inner: inner.model().state_dict())
    config = {"model": {"class_path": "Linear"}}
    assert "weight" in trial(tmp_path).part("encoder", config, lambda t: t.model().state_dict())


def test_settings_are_the_arguments_of_the_procedure(tmp_path: Path) -> None:
    config = {"procedure": {"init_args": {"epochs": 3, "rate": None}}}
    assert trial(tmp_path, config=config).settings("epochs") == {"epochs": 3}
    with pytest.raises(KeyError, match="epoch"):
        trial(tmp_path, config=config).settings("epoch")


def test_where_nothing_can_be_written_it_is_made_each_time(tmp_path: Path, caplog) -> None:
    make = Maker()
    first = measured(trial(tmp_path), make)
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    nowhere = trial(tmp_path, parts=Parts(in_the_way / "parts", {"code": "c"}))
    assert measured(nowhere, make) == first and make.made == 2
    assert "is not kept: Not a directory" in caplog.text


def steps(inner: Trial, stop_after: int = 10**9) -> list[float]:
    """Training inside a part: ten steps, of which each is kept."""
    state = inner.load() or {"step": 0, "found": []}
    for step in range(state["step"], 10):
        seed_all(inner.seed, step)
        state = {"step": step + 1, "found": [*state["found"], torch.rand(()).item()]}
        if step + 1 == stop_after:
            inner.checkpoints.stopping = lambda: True
        inner.save(step + 1, state)
    return [*state["found"], float(len(state["found"]))]


def test_whoever_needs_it_goes_on_with_a_part_that_was_interrupted(tmp_path: Path) -> None:
    whole = trial(tmp_path / "whole").part("teacher", {}, steps)
    begun: list[int] = []
    with pytest.raises(Stopped):
        trial(tmp_path).part("teacher", {}, lambda inner: steps(inner, stop_after=4))

    def go_on(inner: Trial) -> list[float]:
        begun.append(inner.load()["step"])
        return steps(inner)

    another = replace(trial(tmp_path), workdir=tmp_path / "another", checkpoints=None)
    another = replace(another, checkpoints=Checkpoints(tmp_path / "another", every=0))
    assert another.part("teacher", {}, go_on) == whole and begun == [4]
    assert not list((tmp_path / "parts").rglob("*.ckpt")), "made: nothing to go on from"


def test_a_trial_counts_the_time_of_its_parts_whoever_made_them(tmp_path: Path) -> None:
    now = 0.0

    def waits(_: Trial) -> int:
        nonlocal now
        now += 30.0
        return 1

    def seconds(folder: str) -> float:
        nonlocal now
        ticking = Checkpoints(tmp_path / folder, every=0, clock=lambda: now)
        this = replace(trial(tmp_path), checkpoints=ticking)
        now += 5.0
        this.part("teacher", {}, waits)
        this.part("teacher", {}, waits)  # again: it counts once
        now += 2.0
        ticking.save(1, {})
        return ticking.seconds

    assert seconds("one") == 37.0 and seconds("two") == 37.0
    assert now == 30 + 2 * 7
    resumed = Checkpoints(tmp_path / "two", every=0, clock=lambda: now)
    resumed.load()
    this = replace(trial(tmp_path), checkpoints=resumed)
    this.part("teacher", {}, waits)
    assert resumed.seconds == 37.0, "not twice after an interruption"


def test_one_waits_while_another_makes_it_and_may_be_stopped(tmp_path: Path) -> None:
    make = Maker()
    whole = measured(trial(tmp_path), make)
    (kept,) = (tmp_path / "parts").glob("*.part")
    content = kept.read_bytes()
    kept.unlink()
    with FileLock(kept.with_suffix(".lock")):
        stopped = trial(tmp_path)
        stopped.checkpoints.stopping = lambda: True
        with pytest.raises(Stopped, match="while another trial made teacher"):
            measured(stopped, make)
        waiting = Thread(target=lambda: found.append(trial(tmp_path).part("teacher", c, make)))
        found: list[object] = []
        c = {"width": 3}
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive() and not found
        kept.write_bytes(content)
    waiting.join(30)
    assert make.made == 1 and repr(found[0]) in whole


def test_trials_that_are_run_together_share_a_part(tmp_path: Path) -> None:
    made: list[list[int]] = []

    def make(trials: list[Trial]) -> torch.Tensor:
        made.append([each.seed for each in trials])
        return torch.randn(len(trials))

    company = [trial(tmp_path, seed) for seed in (0, 1, 2)]
    first = part_together(company, "teachers", {}, make)
    assert torch.equal(part_together(company, "teachers", {}, make), first)
    part_together(company[:2], "teachers", {}, make)
    assert made == [[0, 1, 2], [0, 1]]


# Whole runs.

VARIANTS = {"first": {}, "second": {}, "third": {"level": 1.0}}


@pytest.fixture
def taught(edit_unruly, tmp_path: Path, monkeypatch) -> Path:
    """Three variants at the tier cpu, of which two have the same teacher; who made one is noted."""

    def change(spec: dict) -> None:  # type: ignore[type-arg]
        for name, changes in VARIANTS.items():
            arguments = {"steps": 6, **changes}
            procedure = {"class_path": "experiments.unruly.parts.Taught", "init_args": arguments}
            spec["variants"][name] = {"label": name, "role": "paper", "datasets": ["none"]}
            spec["variants"][name]["procedure"] = procedure
        spec["tiers"]["cpu"].update(variants=list(VARIANTS), datasets=["none"])

    edit_unruly(change)
    monkeypatch.setenv("HARNESS_UNRULY_MADE", str(tmp_path / "made"))
    monkeypatch.setenv("HARNESS_CHECKPOINT_EVERY", "0")
    return tmp_path / "made"


def figures(records) -> dict:
    assert records and all(record.status == "done" for record in records)
    return {r.trial: (r.metrics, r.series) for r in records}


def test_trials_at_a_time_make_it_once_and_force_makes_it_anew(taught, monkeypatch) -> None:
    monkeypatch.setenv("HARNESS_UNRULY_PAUSE", "0.05")
    shared = reproduce("unruly", "cpu", jobs=2)
    assert sorted(taught.read_text().split()) == ["0", "0", "1", "1"], "4 parts for 6 trials"
    monkeypatch.setenv("HARNESS_UNRULY_PAUSE", "0")
    again = reproduce("unruly", "cpu", jobs=1, force=True)
    assert len(taught.read_text().split()) == 8
    assert figures(again.records) == figures(shared.records)


def test_verifying_makes_each_part_again_and_finds_settings_that_were_forgotten(
    taught, edit_unruly
) -> None:
    reproduce("unruly", "cpu", seeds=1)
    assert all(each.same for each in verify("unruly", "cpu"))
    assert len(taught.read_text().split()) == 2 + 3

    def forget(spec: dict) -> None:  # type: ignore[type-arg]
        for name in VARIANTS:
            spec["variants"][name]["procedure"]["init_args"]["forgets"] = True

    edit_unruly(forget)
    reproduce("unruly", "cpu", seeds=1, jobs=1)
    (wrong,) = [each for each in verify("unruly", "cpu") if not each.same]
    assert wrong.trial.variant == "third"


def test_interrupted_in_the_middle_of_a_part_it_goes_on(taught, monkeypatch) -> None:
    monkeypatch.setenv("HARNESS_UNRULY_PAUSE", "0.02")

    class Interrupter:
        left = 3

        def announce(self, text): ...
        def begin(self, paper, trials, skipped): ...
        def end(self): ...

        def event(self, event) -> None:
            if isinstance(event, Reported):
                self.left -= 1
                if self.left == 0:
                    os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        run(Request("unruly", "cpu", jobs=1, seeds=1), [Interrupter()])
    (begun,) = paths.parts("unruly").glob("teacher-*/checkpoints")
    assert list(begun.glob("*.ckpt"))
    resumed = reproduce("unruly", "cpu", seeds=1)
    assert figures(resumed.records) == figures(
        reproduce("unruly", "cpu", seeds=1, force=True).records
    )
