"""The command line as a user meets it: exit codes, one clear message, JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

REQUIRED = {
    "paper", "claim", "reported", "measured", "ci_low", "ci_high", "n", "evidence", "tier",
    "verdict", "reason", "unit",
}  # fmt: skip


def harness(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "COLUMNS": "80", **environment},
        check=False,
    )


def test_run_prints_the_table_and_then_has_nothing_to_do(project) -> None:
    first = harness("run", "toy", "--tier", "smoke", "--jobs", "2")
    assert first.returncode == 0, first.stderr
    assert "good-beats-bad" in first.stdout and "reproduced" in first.stdout
    assert "9/9 trials" in first.stderr and "\x1b" not in first.stdout + first.stderr
    assert (project / "results" / "toy.md").is_file()
    assert max(map(len, first.stdout.splitlines())) <= 80
    second = harness("run", "toy", "--tier", "smoke")
    assert second.returncode == 0 and "Nothing to run" in second.stdout
    rows = json.loads(harness("results", "toy", "--json").stdout)
    assert all(set(row) >= REQUIRED for row in rows)
    assert {row["tier"] for row in rows} == {"smoke"}
    status = json.loads(harness("status", "toy", "--tier", "smoke", "--json").stdout)
    assert (status[0]["trials"], status[0]["fresh"]) == (9, 9)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("run", "tooy"), 2, "did you mean toy?"),
        (("show", "../toy"), 2, "no paper has the key"),
        (("run", "toy", "--tier", "cpuu"), 2, "it has smoke, cpu, full"),
        (("run", "toy", "--variant", "god"), 2, "no variant 'god'"),
        (("run", "toy", "--jobs", "0"), 2, "--jobs"),
        (("run",), 2, "Missing argument"),
        (("frobnicate",), 2, "No such command"),
        (("run", "toy", "--tier", "full"), 3, "HARNESS_DATA"),
        (("data", "fetch", "nonesuch"), 3, "nonesuch"),
    ],
)
def test_a_wrong_call_is_one_message_and_its_exit_code(project, arguments, code, says) -> None:
    done = harness(*arguments)
    assert done.returncode == code, done.stderr
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_bad_spec_names_file_and_line(project) -> None:
    path = project / "experiments" / "toy" / "spec.yaml"
    path.write_text(path.read_text().replace("role: baseline", "rolle: baseline"))
    for arguments in (("validate",), ("run", "toy")):
        done = harness(*arguments)
        assert done.returncode == 2
        assert "experiments/toy/spec.yaml:19: variants.bad.rolle: unknown key" in done.stderr


def test_a_corrupt_data_file_is_named_with_its_checksum(project) -> None:
    folder = project / "mirror" / "mnist"
    folder.mkdir(parents=True)
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (folder / f"{part}-ubyte.gz").write_bytes(b"not an image")
    done = harness("run", "toy", "--tier", "full", HARNESS_DATA=str(project / "mirror"))
    assert done.returncode == 3
    assert "checksum" in done.stderr and "-ubyte.gz" in done.stderr


def test_a_failed_trial_gives_exit_code_1_and_is_named(project) -> None:
    path = project / "experiments" / "toy" / "spec.yaml"
    text = path.read_text().replace("{level: -3.0}", "{how: raise, seed: 1}")
    path.write_text(text)
    done = harness("run", "toy", "--tier", "smoke")
    assert done.returncode == 1
    assert "failed: broken on theory, seed 1: ArithmeticError: it does not add up" in done.stderr
    assert "8/9" in done.stderr or "1 failed" in done.stderr


def test_list_needs_no_torch(project) -> None:
    code = "import sys; from harness.cli import app; app(['list'], standalone_mode=False); "
    code += "print([m for m in ('torch', 'pandas', 'lightning', 'wandb') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "toy" in done.stdout and done.stdout.strip().endswith("[]")


def test_the_schema_is_json(project) -> None:
    assert "properties" in json.loads(harness("schema").stdout)


def test_a_new_paper_is_valid_once_nothing_is_left_to_do(project) -> None:
    done = harness("new", "other")
    assert done.returncode == 0, done.stderr
    assert "wrote experiments/other/spec.yaml" in done.stdout
    assert "`harness run other --tier smoke`" in done.stdout
    left = harness("validate", "other")
    assert left.returncode == 2 and "spec.yaml:3: unfinished: title" in left.stderr
    assert harness("new", "other").returncode == 2
    assert "procedure.py" in harness("new", "another", "--procedure").stdout
    assert harness("new", "Other!").returncode == 2


def test_everything_has_help(project) -> None:
    listing = harness("--help").stdout
    for command in ("list", "show", "validate", "run", "status", "results", "leaderboard", "data"):
        assert command in listing
        assert "Usage" in harness(command, "--help").stdout
