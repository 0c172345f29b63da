"""Quick runs leave the committed results alone, and flags are tried before anything is run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness import paths, quick, reproduce
from harness.cli import app
from harness.records import RecordStore
from harness.reproduction import run as run_request
from harness.request import Request

COMMAND = [sys.executable, "-m", "harness", "run"]


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments],  # noqa: S607
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clean checkout in which the tier ``cpu`` was measured and committed."""
    monkeypatch.delenv("HARNESS_RESULTS")
    assert run("toy").exit_code == 0
    (project / ".gitignore").write_text("cache/\nruns/\n__pycache__/\n")
    git(project, "init", "-q")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "measured")
    return project


def run(*arguments: str):  # type: ignore[no-untyped-def]
    return CliRunner().invoke(app, ["run", *arguments])


# What is asked for, what the configuration is called, and why it is a quick one.
QUICK = (
    (["--tier", "smoke"], "smoke", "only shows that everything runs"),
    (["--tier", "smoke", "--seeds", "1"], "smoke-1-seed", "1 of 3 seeds"),
    (["--seeds", "1", "--force"], "1-seed", "1 of 2 seeds"),
    (["--variant", "[gb]*", "--force"], "only-good-bad-broken", "only good, bad, broken"),
    (["--variant", "good", "--seeds", "3"], "only-good", "only good"),
    (
        ["--precision", "bf16-mixed", "--variant", "net", "--variant", "wide"],
        "bf16-mixed-only-net-wide",
        "with precision bf16-mixed",
    ),
)


def test_after_a_quick_run_the_checkout_is_clean(checkout: Path) -> None:
    for arguments, configuration, why in QUICK:
        found = run("toy", *arguments)
        assert found.exit_code == 0, found.output
        assert git(checkout, "status", "--porcelain") == "", arguments
        assert_told(found.output, checkout, configuration, why)


def assert_told(output: str, checkout: Path, configuration: str, why: str) -> None:
    """A folder and a page of its own, and both the terminal and the page say why."""
    folder = checkout / "runs" / "results" / configuration
    assert list(folder.glob("records/toy/*/*.json")) and (folder / "figures").is_dir()
    assert why in " ".join(output.split())
    page = output.strip().splitlines()[-1].removeprefix("Results: ")
    assert checkout / page == folder / "toy.md"
    assert why in (folder / "toy.md").read_text().partition("quick run")[2]
    asked = ["results", "toy", "--configuration", configuration]
    assert f"`harness {' '.join(asked)}`" in output
    rows = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    tier = "smoke" if "smoke" in configuration else "cpu"
    assert {row["tier"] for row in rows} == {tier}, "none of better, committed results"
    table = (folder / "toy.md").read_text().partition("## Verdicts")[2].partition("\n#")[0]
    assert [f"**{row['verdict']}**" in table for row in rows] == [True] * len(rows)
    assert f"| {tier} |" in table and ("| cpu |" in table) == (tier == "cpu")


def test_all_variants_are_no_subset_and_long_names_stay_apart(checkout: Path) -> None:
    assert not reproduce("toy", variants="*").quick
    long = [f"only-{'-'.join(['a-variant'] * 9)}-{last}" for last in "ab"]
    first, second = (quick.name([one]) for one in long)
    assert first != second and max(len(first), len(second)) < 80


def test_a_quick_run_finds_its_own_and_the_committed_records(checkout: Path) -> None:
    assert reproduce("toy", seeds=1).ran == 0, "the committed ones are fresh"
    first = reproduce("toy", tier="smoke")
    assert first.ran > 0 and first.quick
    assert reproduce("toy", tier="smoke").ran == 0
    assert not RecordStore(paths.records()).records("toy", "smoke")


def test_more_seeds_are_no_quick_run(checkout: Path) -> None:
    more = reproduce("toy", seeds=3)
    assert not more.quick and more.ran == 5
    assert git(checkout, "status", "--porcelain") != ""


def test_missing_data_does_not_replace_what_was_measured_on_it(
    checkout: Path, edit_spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prefer_another(spec: dict) -> None:  # type: ignore[type-arg]
        spec["tiers"]["cpu"]["datasets"] = [["real", "theory"]]

    edit_spec(prefer_another)
    store = RecordStore(paths.records())
    record = next(r for r in store.records("toy", "cpu") if r.variant == "good")
    assert not reproduce("toy").quick, "nothing committed was on it"
    store.write(record.model_copy(update={"dataset": "real", "trial": "0" * 16}))
    outcome = reproduce("toy")
    assert "without real" in outcome.quick[0] and outcome.results == paths.quick("without-real")


def test_records_of_other_flags_do_not_mix(checkout: Path) -> None:
    before = {v.claim: v.measured for v in reproduce("toy").verdicts}
    other = run_request(Request("toy", variants=["net"], fabric={"precision": "bf16-mixed"}))
    assert other.results == paths.quick("bf16-mixed-only-net")
    own = RecordStore(other.results / "records").records()
    assert own and all(
        r.config["procedure"]["init_args"]["fabric"] == {"precision": "bf16-mixed"} for r in own
    )
    assert {v.claim: v.measured for v in reproduce("toy").verdicts} == before


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--accelerator", "cuda"], "cuda"),
        (["--accelerator", "gpu"], "cuda"),
        (["--accelerator", "abacus"], "abacus"),
        (["--precision", "fp8", "--variant", "net"], "fp8"),
        (["--strategy", "foo", "--variant", "net"], "foo"),
        (["--precision", "bf16-mixed", "--variant", "good"], "no settings for --precision"),
        (["--seeds", "0"], "seeds"),
        (["--tier", "nope"], "no tier 'nope'"),
    ],
)
def test_bad_flags_are_refused_before_anything_is_written(
    checkout: Path, flags: list[str], said: str
) -> None:
    import torch

    if torch.cuda.is_available() and "cuda" in said:
        pytest.skip("there is a GPU")
    before = sorted(paths.runs().rglob("*"))
    done = subprocess.run(
        [*COMMAND, "toy", *flags], capture_output=True, text=True, check=False, cwd=checkout
    )
    assert done.returncode == 2 and said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert git(checkout, "status", "--porcelain") == ""
    new = set(paths.runs().rglob("*")) - set(before)
    assert not [path for path in new if path.suffix == ".json" and "results" in path.parts]


@pytest.mark.parametrize(
    "asked",
    [
        {"seeds": 0},
        {"seeds": -1},
        {"seeds": True},
        {"jobs": 0},
        {"threads": 0},
        {"engine": "slurm"},
        {"variants": []},
        {"variants": "nope"},
        {"tier": "nope"},
        {"timeout": 0},
    ],
)
def test_python_refuses_what_the_command_line_refuses(project: Path, asked: dict) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match=r"\w"):
        reproduce("toy", **asked)
    assert not paths.runs().exists() or not list(paths.runs().rglob("*.json"))


def test_a_name_is_understood_as_a_pattern(project: Path) -> None:
    outcome = reproduce("toy", tier="smoke", seeds=1, variants="good")
    assert {r.variant for r in outcome.records} == {"good"}


@pytest.mark.parametrize("what", ["missing", "empty", "file"])
def test_a_wrong_mirror_is_an_error_and_no_stand_in(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    mirror = tmp_path / "mirror"
    if what == "empty":
        mirror.mkdir()
    elif what == "file":
        mirror.write_text("")
    monkeypatch.setenv("HARNESS_DATA", str(mirror))
    done = subprocess.run([*COMMAND, "toy"], capture_output=True, text=True, check=False)
    assert done.returncode == 3 and "HARNESS_DATA" in done.stderr
    assert not paths.records().exists()
