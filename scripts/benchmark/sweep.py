"""Many seeds of a small network: ``harness run`` against loops over the seeds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from harness import provenance
from scripts.benchmark import timing
from scripts.benchmark.project import Project, changed, project
from scripts.benchmark.timing import Finding, Row, interleaved, ratios, seconds

ABOUT = """\
A network of two layers (64-64-10), 3,000 steps of 64 examples a seed. Whole commands in new \
processes, from start to exit, imports included: `harness run` with as many workers as cores (it \
also checks the spec, keeps records, judges and writes the page), seeds one by one and ten \
trained as one (`together: 10`); a program that trains one seed after the other with the plain \
loop (in one thread, which is the fastest here); and as many of those programs at once as there \
are cores, each with its share of the seeds."""
EPOCHS = 30


@dataclass(frozen=True)
class Sweep:
    """A number of seeds, by every way of running them."""

    project: Project
    seeds: int
    epochs: int

    def harness(self, tier: str) -> float:
        self.project.forget()
        words = ("run", "small", "-t", tier, "--seeds", str(self.seeds))
        return self.project.harness(*words, "--jobs", str(provenance.cores()))

    def plain(self, programs: int) -> float:
        """Seconds that so many programs at a time take for all seeds."""
        seeds = [str(seed) for seed in range(self.seeds)]
        shares = [share for i in range(programs) if (share := seeds[i::programs])]
        with changed({"PYTHONPATH": str(self.project.root)}):
            return seconds(lambda: self._all_at_once(shares))

    def _all_at_once(self, shares: list[list[str]]) -> None:
        more = ["--epochs", str(self.epochs)]
        call = [sys.executable, "-m", "experiments.small.plain"]
        running = [
            subprocess.Popen([*call, *share, *more], stdout=subprocess.DEVNULL) for share in shares
        ]
        if any([program.wait() for program in running]):
            raise timing.CommandFailed("the plain loop failed")


def measure(repeats: int = 5, tiny: bool = False) -> Finding:
    """Run 5 and 20 seeds every way."""
    rows = []
    with project("small") as place:
        for seeds in (2,) if tiny else (5, 20):
            sweep = Sweep(place, seeds, 1 if tiny else EPOCHS)
            rows += _rows(sweep, _compare(sweep, repeats, tiny))
    return Finding("sweep", "A sweep over seeds", ABOUT, rows, {"jobs": provenance.cores()})


def _compare(sweep: Sweep, repeats: int, tiny: bool) -> dict[str, list[float]]:
    ways: dict[str, Callable[[], float]] = {
        "together": lambda: sweep.harness("smoke" if tiny else "cpu"),
        "alone": lambda: sweep.harness("smoke" if tiny else "alone"),
        "loop": lambda: sweep.plain(1),
        "loops": lambda: sweep.plain(provenance.cores()),
    }
    return interleaved(ways, repeats, warm=0)


def _rows(sweep: Sweep, found: dict[str, list[float]]) -> list[Row]:
    n, jobs = f"{sweep.seeds} seeds", provenance.cores()
    target = 0.5 if sweep.seeds == 20 else None
    by_loop = {way: ratios(found[way], found["loop"]) for way in found}
    by_loops = {way: ratios(found[way], found["loops"]) for way in found}
    return [
        Row(f"{n}: plain loop, seed after seed", "s", found["loop"]),
        Row(f"{n}: plain loop in {jobs} processes", "s", found["loops"]),
        Row(f"{n}: `harness run`, one by one", "s", found["alone"]),
        Row(f"{n}: `harness run`, ten as one", "s", found["together"]),
        Row(f"{n}: one by one / seed after seed", "×", by_loop["alone"]),
        Row(f"{n}: one by one / {jobs} processes", "×", by_loops["alone"]),
        Row(f"{n}: ten as one / seed after seed", "×", by_loop["together"], target),
        Row(f"{n}: ten as one / {jobs} processes", "×", by_loops["together"]),
    ]
