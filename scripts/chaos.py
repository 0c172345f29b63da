"""Interrupt runs of papers at random moments, go on, and compare with a run that was left alone.

    python scripts/chaos.py tslstm pointer_networks --tier smoke --kills 17

Each paper is run once undisturbed (twice, to know which metrics are the same at all from run to
run: times are not). Then it is run again and again, each time with a fault at a random moment,
until the faults asked for have struck; whenever a run comes through, its records are compared
with the undisturbed ones, and it starts anew. What was seen goes into one JSON file for each paper
below results/robustness/, and all of these into docs/robustness.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from harness.records import Record, RecordStore, Unreadable  # noqa: E402
from scripts import robustness  # noqa: E402

MAX_TRIES = 12


@dataclass(frozen=True)
class Place:
    """Scratch folders of one run."""

    root: Path

    @property
    def store(self) -> RecordStore:
        return RecordStore(self.root / "results" / "records")

    def checkpoints(self) -> list[Path]:
        return list(self.root.glob("runs/*/*/*/checkpoints/*.ckpt"))

    def working_since(self, moment: float) -> bool:
        """Whether a trial was begun after a moment: its lock is made anew."""
        for path in self.root.glob("runs/*/*/*.lock"):
            with contextlib.suppress(FileNotFoundError):  # given back meanwhile
                if path.stat().st_mtime >= moment:
                    return True
        return False

    def records(self) -> dict[str, Record]:
        return {r.trial: r for r in self.store.records()}

    def unreadable(self) -> int:
        return sum(isinstance(found, Unreadable) for found in self.store.scan())

    def command(self, paper: str, tier: str, jobs: int) -> subprocess.Popen[bytes]:
        """Run the copy of the code that lies beside the places."""
        environment = {
            "HARNESS_RESULTS": str(self.root / "results"),
            "HARNESS_RUNS": str(self.root / "runs"),
            "HARNESS_CHECKPOINT_EVERY": "0",
            "WANDB_MODE": "disabled",
        }
        return subprocess.Popen(
            [sys.executable, "-m", "harness", "run", paper, "-t", tier, "-j", str(jobs)],
            env=os.environ | environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.root.parent / "code",
            start_new_session=True,
        )


@dataclass
class Tally:
    """What became of the faults of one kind."""

    struck: int = 0
    resumed: int = 0
    survived: int = 0
    lost: int = 0
    duplicated: int = 0
    different: int = 0


@dataclass
class Campaign:
    """One paper under attack.

    Attributes:
        expected: records of the undisturbed run.
        seconds: how long that took.
        active: how long trials were running in that time, about.
        unstable: metrics that differ between two undisturbed runs.
    """

    paper: str
    tier: str
    jobs: int
    dice: random.Random
    scratch: Path
    expected: dict[str, Record] = field(default_factory=dict)
    seconds: float = 0.0
    active: float = 0.0
    unstable: set[str] = field(default_factory=set)
    tallies: dict[str, Tally] = field(default_factory=dict)

    def undisturbed(self) -> None:
        """Run a copy of the code, that nobody edits meanwhile, twice without faults."""
        for part in ("harness", "experiments", "baselines"):
            shutil.copytree(ROOT / part, self.scratch / "code" / part)
        runs = []
        for name in ("first", "second"):
            place, began = Place(self.scratch / name), time.monotonic()
            code = place.command(self.paper, self.tier, self.jobs).wait()
            if code != 0:
                raise SystemExit(f"{self.paper} fails undisturbed (exit code {code})")
            self.seconds = time.monotonic() - began
            runs.append(place.records())
        self.expected = runs[0]
        self.active = sum(r.resources.seconds for r in runs[0].values()) / self.jobs
        for trial, record in runs[0].items():
            self.unstable |= set(differing(record, runs[1][trial], set()))

    def attack(self, faults: list[str]) -> None:
        """Let the faults strike, several a round; each round ends with a comparison."""
        left, round_number = list(faults), 0
        while left:
            round_number += 1
            place = Place(self.scratch / f"round-{round_number}")
            struck = self._round(place, left)
            self._judge(place, struck)
            shutil.rmtree(place.root)

    def _round(self, place: Place, left: list[str]) -> list[str]:
        """Run until the paper is done, with a fault at each try while there are any."""
        struck: list[str] = []
        for _ in range(MAX_TRIES):
            process = place.command(self.paper, self.tier, self.jobs)
            if left and len(struck) < MAX_TRIES - 2 and self._wait(process, place):
                kind = left.pop(0)
                before = place.records()
                FAULTS[kind](process, place, self.dice)
                process.wait()
                self._look(place, kind, before)
                struck.append(kind)
                print(f"{self.paper}: {kind}; {len(left)} faults left", file=sys.stderr)
            elif process.wait() == 0:
                break
        return struck

    def _wait(self, process: subprocess.Popen[bytes], place: Place) -> bool:
        """Wait for a random moment after the first trial began; whether the run still goes on."""
        began = time.time()
        while not place.working_since(began) and process.poll() is None:
            time.sleep(0.02)
        end = time.monotonic() + self.dice.uniform(0.0, 0.5) * self.active
        while time.monotonic() < end and process.poll() is None:
            time.sleep(0.01)
        return process.poll() is None

    def _look(self, place: Place, kind: str, before: dict[str, Record]) -> None:
        """Right after a fault: records are whole, and those that were there still are."""
        tally = self.tallies.setdefault(kind, Tally())
        tally.struck += 1
        tally.resumed += bool(place.checkpoints())
        now = place.records()
        gone = [t for t, r in before.items() if r.status == "done" and now.get(t) != r]
        tally.lost += len(gone) + place.unreadable()

    def _judge(self, place: Place, struck: list[str]) -> None:
        """At the end of a round: the same records as without faults."""
        found = place.records()
        cells = Counter((r.variant, r.dataset, str(r.fold), r.seed) for r in found.values())
        lost = [t for t in self.expected if t not in found or found[t].status != "done"]
        duplicated = sum(count - 1 for count in cells.values())
        different = [
            trial
            for trial, record in self.expected.items()
            if trial in found and differing(record, found[trial], self.unstable)
        ]
        for number, kind in enumerate(dict.fromkeys(struck)):
            tally = self.tallies[kind]
            clean = not (lost or duplicated or different or tally.lost)
            tally.survived += struck.count(kind) if clean else 0
            if number == 0:  # counted once
                tally.lost += len(lost)
                tally.duplicated += duplicated
                tally.different += len(different)


def differing(one: Record, other: Record, unstable: set[str]) -> list[str]:
    """Names of metrics and series that are not the same to the last bit."""
    pairs = [(one.metrics, other.metrics), (one.series, other.series)]
    return [
        name
        for a, b in pairs
        for name in a.keys() | b.keys()
        if name not in unstable and a.get(name) != b.get(name)  # type: ignore[attr-defined]
    ]


def _family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        main = psutil.Process(process.pid)
        return [main, *main.children(recursive=True)]
    except psutil.Error:
        return []


def _each(processes: list[psutil.Process], number: int) -> None:
    for found in processes:
        try:
            found.send_signal(number)
        except psutil.Error:
            continue


def kill_all(process: subprocess.Popen[bytes], place: Place, dice: random.Random) -> None:
    """All at once, as far as that is possible: stopped first, so that nobody reacts."""
    _each(_family(process), signal.SIGSTOP)
    _each(_family(process), signal.SIGKILL)


def power_cut(process: subprocess.Popen[bytes], place: Place, dice: random.Random) -> None:
    """Killed, and the newest checkpoint of each trial has lost its end."""
    kill_all(process, place, dice)
    newest = {path.parent: path for path in sorted(place.checkpoints())}
    for path in newest.values():
        os.truncate(path, dice.randrange(path.stat().st_size))


def kill_main(process: subprocess.Popen[bytes], place: Place, dice: random.Random) -> None:
    process.kill()


def kill_one(process: subprocess.Popen[bytes], place: Place, dice: random.Random) -> None:
    """Any process but the main one."""
    _each(dice.sample(_family(process)[1:], 1) if _family(process)[1:] else [], signal.SIGKILL)


def interrupt(process: subprocess.Popen[bytes], place: Place, dice: random.Random) -> None:
    process.send_signal(signal.SIGINT)


def terminate(process: subprocess.Popen[bytes], place: Place, dice: random.Random) -> None:
    process.send_signal(signal.SIGTERM)


def interrupt_twice(process: subprocess.Popen[bytes], place: Place, dice: random.Random) -> None:
    process.send_signal(signal.SIGINT)
    time.sleep(dice.uniform(0, 0.5))
    process.send_signal(signal.SIGINT)


Fault = Callable[[subprocess.Popen[bytes], Place, random.Random], None]
FAULTS: dict[str, Fault] = {
    "kill -9 of the whole process tree": kill_all,
    "the same, and the newest checkpoints are cut short": power_cut,
    "kill -9 of the main process": kill_main,
    "kill -9 of one other process": kill_one,
    "Ctrl-C": interrupt,
    "Ctrl-C twice": interrupt_twice,
    "SIGTERM": terminate,
}


def plan_faults(kills: int, others: int, dice: random.Random) -> list[str]:
    first, *rest = FAULTS
    faults = [first] * kills + [kind for kind in rest for _ in range(others)]
    dice.shuffle(faults)
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("papers", nargs="+")
    parser.add_argument("--tier", default="smoke")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--kills", type=int, default=17, help="kill -9 of everything, per paper")
    parser.add_argument("--others", type=int, default=3, help="of each other fault, per paper")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for paper in options.papers:
        dice = random.Random(f"{options.seed} {paper}")  # noqa: S311
        with tempfile.TemporaryDirectory(prefix="chaos-") as scratch:
            campaign = Campaign(paper, options.tier, options.jobs, dice, Path(scratch))
            campaign.undisturbed()
            campaign.attack(plan_faults(options.kills, options.others, dice))
        finding = {
            "paper": paper,
            "tier": options.tier,
            "jobs": options.jobs,
            "trials": len(campaign.expected),
            "seconds": campaign.seconds,
            "unstable": sorted(campaign.unstable),
            "faults": {kind: vars(tally) for kind, tally in sorted(campaign.tallies.items())},
        }
        robustness.INTERRUPTED.mkdir(parents=True, exist_ok=True)
        (robustness.INTERRUPTED / f"{paper}.json").write_text(json.dumps(finding, indent=1) + "\n")
    robustness.write()


if __name__ == "__main__":
    main()
