"""What killed runs leave behind goes with the next one, and nothing that lives is touched."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from harness import paths, plan
from harness.desk import workdir
from harness.engines import leftovers
from harness.engines.leftovers import OLD, scratch, sweep
from harness.engines.locks import Locks
from harness.engines.queue import lock_path
from harness.reproduction import reproduce
from harness.specs import catalog


def old(path: Path) -> Path:
    """A file that was written long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (path.stat().st_mtime - 2 * OLD,) * 2)
    return path


@pytest.fixture
def group(project):
    return [plan.plan(catalog.load("toy"), "smoke", ["theory"])[:3]]


def test_files_that_were_being_written_are_removed_when_they_are_old(group) -> None:
    folder = workdir(group[0][0])
    figure = paths.results() / "figures" / "toy" / ".curve.svg.abcd"
    names = (".curves.csv.x1", "checkpoints/000000007.part")
    left = [old(folder / name) for name in names] + [old(figure)]
    left.append(old(folder.parent / f".{folder.name}.lock.x1"))
    young = [folder / ".curves.csv.x2", folder / "checkpoints" / "000000008.part"]
    for path in young:
        path.touch()
    kept = [old(folder / "curves.csv"), old(folder / "checkpoints" / "000000006-ab.ckpt")]
    sweep(group, Locks())
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in young + kept)


def test_locks_of_the_dead_are_given_back_and_those_of_the_living_kept(group) -> None:
    finished = lock_path(group[0][0]).with_name("finished.lock")
    mark = paths.runs() / f"{leftovers.MARK}7"
    program = "import sys\nfrom pathlib import Path\nfrom harness.engines.locks import Locks\n"
    program += "locks = Locks()\nassert all(locks.acquire(Path(p)) for p in sys.argv[1:])\n"
    program += "import os; os._exit(0)"
    subprocess.run([sys.executable, "-c", program, str(finished), str(mark)], check=True)
    held = Locks()
    living = [lock_path(group[0][1]), paths.runs() / f"{leftovers.MARK}8"]
    assert all(held.acquire(path) for path in living)
    assert finished.exists() and mark.exists()
    sweep(group, Locks())
    assert not finished.exists() and not mark.exists()
    assert all(path.exists() for path in living)
    held.close()


def test_scratch_folders_go_with_their_process(group, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mine = scratch("trial")
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    dead = mine.with_name(mine.name.replace(str(os.getpid()), ended.stdout.decode().strip()))
    foreign = tmp_path / "harness-other-1-trial-x"
    for folder in (dead, foreign):
        (folder / "inside").mkdir(parents=True)
    sweep(group, Locks())
    assert mine.exists() and foreign.exists() and not dead.exists()


def test_every_run_sweeps(project) -> None:
    reproduce("toy", "smoke", jobs=1)
    (record, *_) = (paths.records() / "toy" / "smoke").glob("*.json")
    left = old(paths.workdir("toy", "smoke", record.stem) / ".curves.csv.x1")
    reproduce("toy", "smoke", jobs=1, force=True)
    assert not left.exists()
