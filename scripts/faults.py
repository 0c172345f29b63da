"""Plant faults in a copy of the code, one at a time, and ask that the tests named notice each.

    python -m scripts.faults tslstm engine --jobs 2

``tests/faults/<area>.yaml`` lists the faults of a paper, or of a part of the engine: a file, a text
that stands in it once, what takes its place, the tests that must fail, and the idea that is lost.
The tests named are run without a fault first, for a test that always fails notices nothing. What
was found goes into results/robustness/planted/<area>.json and into docs/robustness.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from queue import SimpleQueue

import yaml

from scripts import robustness

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = ("runs", "results", "*.egg-info")  # and what is hidden, as .git and .venv are
PASSED, FAILED = 0, 1
MINUTES = 10


@dataclass(frozen=True)
class Fault:
    """One change that loses one idea, and the tests that must notice; paths from the root."""

    file: str
    replace: str
    by: str
    noticed_by: str
    why: str

    def planted(self, root: Path) -> str:
        """The file's text with the fault in it.

        Raises:
            ValueError: where the old text does not stand there once, or the new is no Python.
        """
        text = (root / self.file).read_text()
        if (count := text.count(self.replace)) != 1:
            raise ValueError(f"{self.file} holds {count} times: {self.replace!r}")
        changed = text.replace(self.replace, self.by)
        if self.file.endswith(".py"):
            compile(changed, self.file, "exec")
        return changed


@dataclass(frozen=True)
class Finding:
    """What became of a fault: ``noticed`` is the first test that failed, empty if none did."""

    area: str
    file: str
    why: str
    noticed: str


def read(folder: Path) -> dict[str, list[Fault]]:
    """The faults of each area, by the names of the files."""
    return {
        path.stem: [Fault(**entry) for entry in yaml.safe_load(path.read_text())]
        for path in sorted(folder.glob("*.yaml"))
    }


class Copy:
    """A copy of the project that faults are planted in."""

    def __init__(self, source: Path, root: Path) -> None:
        self.root = root
        ignored = shutil.ignore_patterns("__pycache__", ".*", *LEFT_OUT)
        shutil.copytree(source, root, ignore=ignored)

    def try_out(self, area: str, fault: Fault) -> Finding:
        """Plant, run the tests, restore."""
        path = self.root / fault.file
        before, changed = path.read_text(), fault.planted(self.root)
        path.write_text(changed)
        try:
            code, output = self.tests(fault.noticed_by)
        finally:
            path.write_text(before)
        noticed = "" if code == PASSED else _first(output)
        return Finding(area, fault.file, fault.why, noticed)

    def tests(self, names: str) -> tuple[int, str]:
        """Exit code and output of pytest on some files (spaces between them)."""
        options = ("-q", "-x", "-p", "no:cacheprovider", "--no-header", "--tb=no")
        environment = os.environ | {
            "PYTHONPATH": str(self.root),
            "HARNESS_ROOT": str(self.root),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        try:
            done = subprocess.run(
                [sys.executable, "-m", "pytest", *options, *names.split()],
                cwd=self.root,
                env=environment,
                capture_output=True,
                text=True,
                timeout=60 * MINUTES,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return FAILED, f"FAILED {names} (no end within {MINUTES} min)"
        return done.returncode, done.stdout


def _first(output: str) -> str:
    """The first test that failed, or could not be collected."""
    for line in output.splitlines():
        if line.startswith(("FAILED ", "ERROR ")):
            return line.split(" ", 1)[1].partition(" - ")[0]
    return "pytest could not run"


def search(
    source: Path, areas: dict[str, list[Fault]], jobs: int, scratch: Path
) -> Iterator[Finding]:
    """Try every fault, in several copies side by side.

    Raises:
        SystemExit: where tests fail without a fault.
    """
    copies: SimpleQueue[Copy] = SimpleQueue()
    for number in range(jobs):
        copies.put(Copy(source, scratch / str(number)))

    def unharmed(names: str) -> tuple[int, str]:
        copy = copies.get()
        try:
            return copy.tests(names)
        finally:
            copies.put(copy)

    def one(pair: tuple[str, Fault]) -> Finding:
        copy = copies.get()
        try:
            return copy.try_out(*pair)
        finally:
            copies.put(copy)

    named = sorted({fault.noticed_by for faults in areas.values() for fault in faults})
    with ThreadPoolExecutor(jobs) as pool:
        for names, (code, output) in zip(named, pool.map(unharmed, named), strict=True):
            if code != PASSED:
                raise SystemExit(f"{names} fails without a fault: {_first(output)}")
        yield from pool.map(one, [(a, fault) for a, faults in areas.items() for fault in faults])


def save(findings: Iterable[Finding], folder: Path) -> None:
    """One JSON file for each area."""
    folder.mkdir(parents=True, exist_ok=True)
    areas: dict[str, list[Finding]] = {}
    for finding in findings:
        # Of a parametrised test the name is enough: its arguments may hold what JSON escapes.
        short = replace(finding, noticed=finding.noticed.partition("[")[0])
        areas.setdefault(finding.area, []).append(short)
    for area, found in areas.items():
        text = json.dumps([asdict(f) for f in found], indent=1, ensure_ascii=False)
        (folder / f"{area}.json").write_text(text + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("areas", nargs="*", help="names below tests/faults/; all if none is given")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    known = read(ROOT / "tests" / "faults")
    if unknown := set(options.areas) - set(known):
        parser.error(f"no {', '.join(sorted(unknown))} in tests/faults/; known: {', '.join(known)}")
    areas = {area: known[area] for area in options.areas or known}
    findings = []
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch:
        for finding in search(ROOT, areas, options.jobs, Path(scratch)):
            findings.append(finding)
            print(f"{finding.noticed or 'NOT NOTICED'}: {finding.file}: {finding.why}", flush=True)
    save(findings, robustness.PLANTED)
    robustness.write()
    missed = sum(not finding.noticed for finding in findings)
    print(f"{len(findings) - missed} of {len(findings)} faults were noticed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
