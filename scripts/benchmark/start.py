"""How long the command line takes to do next to nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness import paths
from harness.specs import catalog
from scripts.benchmark.project import Project, project
from scripts.benchmark.timing import Finding, Row, interleaved
from scripts.benchmark.written import write_papers

ABOUT = """\
Whole commands, each in a new process, from its start to its exit (files are in the system's \
cache, for they were read in the round before, which is not counted). *This checkout* has \
{papers} papers and their committed records; the {many} papers are theirs under other names. The \
run has nothing to do: a paper of ten variants and 23 seeds, all of its 230 trials fresh; it \
plans, reads the records, judges and writes the page. *Nothing remembered*: the code of every \
paper is parsed anew, as after a fresh clone."""
PAPERS = 32


def measure(repeats: int = 11, tiny: bool = False) -> Finding:
    """Time the commands, interleaved."""
    many = 3 if tiny else PAPERS
    with project() as real, project() as crowd, project() as done:
        _link(real)
        sources = [paths.experiments() / key for key in catalog.paper_keys()]
        for number in range(many):
            source = sources[number % len(sources)]
            crowd.add(source, f"{source.name}_{number}")
        write_papers(done, 1, 2 if tiny else 23)
        commands: dict[str, Callable[[], float]] = {
            "help": lambda: real.harness("--help"),
            "list": lambda: real.harness("list"),
            "list many": lambda: crowd.harness("list"),
            "status": lambda: real.harness("status"),
            "status many": lambda: crowd.harness("status"),
            "status forgotten": lambda: _forgetful(crowd),
            "run": lambda: done.harness("run", "swept_0"),
        }
        found = interleaved(commands, repeats, warm=0 if tiny else 1)
    n = len(sources)
    rows = [
        Row("`harness --help`", "s", found["help"], at_most=0.3),
        Row(f"`harness list`, this checkout ({n} papers)", "s", found["list"], at_most=0.3),
        Row(f"`harness list`, {many} papers", "s", found["list many"], at_most=0.3),
        Row(f"`harness status`, this checkout ({n} papers)", "s", found["status"], at_most=1.0),
        Row(f"`harness status`, {many} papers", "s", found["status many"], at_most=1.0),
        Row("the same, nothing remembered", "s", found["status forgotten"]),
        Row("`harness run`, nothing to do", "s", found["run"], at_most=1.0),
    ]
    about = ABOUT.format(papers=n, many=many)
    return Finding("start", "Starting", about, rows, {"papers": n, "many": many})


def _link(place: Project) -> None:
    """Make this checkout's papers and records those of the project; nothing writes to them."""
    place.experiments.rmdir()
    place.experiments.symlink_to(paths.experiments())
    results: Path = place.root / "results"
    results.mkdir()
    if paths.records().exists():
        (results / "records").symlink_to(paths.records())


def _forgetful(place: Project) -> float:
    place.forget()
    return place.harness("status")
