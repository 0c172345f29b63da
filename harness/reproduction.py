"""Reproduce a paper: choose data, plan, run what is not fresh, judge the claims."""

from __future__ import annotations

import contextlib
import html
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from harness import data, paths, plan, provenance, quick, rounds
from harness.desk import Setting
from harness.engines import ranks
from harness.engines.base import Engine, Event, Finished, Waiting
from harness.engines.interrupts import stoppable
from harness.judging import deciding
from harness.judging.verdicts import Verdict, judge
from harness.needs import Needs
from harness.plan import PlannedTrial
from harness.records import Record, RecordStore
from harness.request import EngineName, Request
from harness.specs import catalog
from harness.specs.schema import Paper, Schedule

if TYPE_CHECKING:
    import pandas as pd


class Observer(Protocol):
    """Is told what happens during a run: a progress display, a tracker."""

    def announce(self, text: str) -> None: ...

    def begin(self, paper: Paper, trials: Sequence[PlannedTrial], skipped: int) -> None: ...

    def event(self, event: Event) -> None: ...

    def end(self) -> None: ...


Folders = dict[str, dict[str, Path]]  # of data sets: their entries' folders
SHOWN = 16  # rows: with the title a screen of 24 lines of 80 characters
WIDTHS = {"claim": 22, "on": 12, "reported": 10, "measured": 18, "verdict": 14}


@dataclass(repr=False)
class Reproduction:
    """What came of it.

    Attributes:
        paper: with the settings of this run's flags.
        failed: this run's trials without metrics.
        results: the folder that the records are in; of a quick run, its name is that of the
            configuration.
        quick: why that is not the folder of the committed results.
    """

    paper: Paper
    tier: str
    datasets: list[str]
    verdicts: list[Verdict]
    records: list[Record]
    failed: list[Record] = field(default_factory=list)
    ran: int = 0
    results: Path = field(default_factory=paths.results)
    quick: list[str] = field(default_factory=list)

    @property
    def table(self) -> pd.DataFrame:
        """Claims as rows: reported, measured with interval, evidence, verdict, reason."""
        from harness.report.table import frame

        return frame(self.verdicts)

    def __repr__(self) -> str:
        short = self._short
        for name, width in WIDTHS.items():
            short[name] = [v if len(v) <= width else f"{v[: width - 1]}…" for v in short[name]]
        shown = short.to_string(index=False, max_rows=SHOWN) if len(short) else ""
        return f"{self._title}\n{shown}\n.table has all columns and rows"

    def _repr_html_(self) -> str:
        """For notebooks."""
        table = self._short.to_html(index=False, max_rows=SHOWN)
        return f"<p>{html.escape(self._title)}</p>{table}"

    @property
    def _title(self) -> str:
        counts = deciding.count(self.verdicts)
        found = ", ".join(f"{n} {kind}" for kind, n in counts.items() if n) or "none"
        if only := deciding.direction_only(self.verdicts):
            found += f"; {only} of the reproduced in their direction only"
        head = f"{self.paper.key}, tier {self.tier}, {len(self.records)} records"
        return f"{head}\nclaims of the paper: {found}"

    @property
    def _short(self) -> pd.DataFrame:
        """What the terminal shows of each claim and data set, but for units and reasons."""
        import pandas as pd

        from harness.report.rows import measured, reported

        cells = [
            (v.claim, v.dataset, reported(v), measured(replace(v, unit="")), v.verdict)
            for v in self.verdicts
        ]
        return pd.DataFrame(cells, columns=list(WIDTHS))


def reproduce(
    key: str,
    tier: str = "cpu",
    *,
    jobs: int | None = None,
    seeds: int | range | Literal["auto"] | None = None,
    variants: Sequence[str] | str | None = None,
    claims: Sequence[str] | str | None = None,
    force: bool = False,
    engine: EngineName = "local",
    threads: int | None = None,
    timeout: float = 1.0,
    budget: float | None = None,
) -> Reproduction:
    """Run what is missing or stale of a paper at a tier and judge its claims.

    Args: see :class:`harness.request.Request`.

    Raises:
        UnknownPaper, SpecError, PlanError: nothing was run.
        DataUnavailable, CorruptData, BadMirror: no slot of the tier has usable data.
    """
    asked = Request(key, tier, jobs, seeds, variants, force, engine)
    return run(replace(asked, threads=threads, timeout=timeout, budget=budget, claims=claims))


def run(request: Request, observers: Sequence[Observer] = ()) -> Reproduction:
    """Like :func:`reproduce`, telling observers what happens."""
    paper = catalog.load(request.key)
    plan.tier_of(paper, request.tier)
    if problem := ranks.unmet(request.fabric):
        raise plan.PlanError(problem)
    if request.fabric or request.accelerator != "auto":
        _try_flags(paper, request)
    if request.fabric:
        paper = plan.with_fabric(paper, request.tier, request.fabric)
    needs = Needs.of(paper, list(request.claims)) if request.claims else None
    wanted = needs.narrowed(request.tier) if needs else paper
    chosen = available_data(wanted, request.tier, lambda text: _announce(observers, text))
    trials = _planned(paper, request, list(chosen), needs)
    why = {} if "HARNESS_RESULTS" in os.environ else quick.reasons(request, paper, chosen)
    folder = paths.quick(quick.name(why)) if why else paths.results()
    with paths.results_in(folder) if why else contextlib.nullcontext():
        if why:
            quick.note(folder, request, chosen)
        store = RecordStore.here()
        states = plan.states(trials, store)
        todo = [t for t in trials if request.force or states[t.id] != "fresh"]
        if request.force:
            shutil.rmtree(paths.parts(paper.key), ignore_errors=True)
        failed = _execute(request, paper, trials, todo, chosen, store, observers) if todo else []
        ran = len(todo)
        if not isinstance(request.seeds, (int, range)):
            for later in _until_decided(request, paper, list(chosen), needs, store, observers):
                failed += _execute(request, paper, later, later, chosen, store, observers)
                ran += len(later)
        records = store.records(paper.key, request.tier)
    if isinstance(request.seeds, range):  # or a single one, of what no seed changes
        asked = {trial.id for trial in trials}
        records = [record for record in records if record.trial in asked]
    used = list(chosen)
    records = needs.among(records, used) if needs else records
    verdicts = _judged(paper, request, records, used, needs)
    return Reproduction(
        paper, request.tier, used, verdicts, records, failed, ran, folder, list(why.values())
    )


def _judged(
    paper: Paper,
    request: Request,
    records: Iterable[Record],
    datasets: Sequence[str],
    needs: Needs | None,
) -> list[Verdict]:
    """Verdicts on the claims that were asked for."""
    found = judge(paper, request.tier, records, datasets)
    return needs.verdicts(found) if needs else found


def _planned(
    paper: Paper, request: Request, datasets: Sequence[str], needs: Needs | None
) -> list[PlannedTrial]:
    """The trials to begin with.

    Raises:
        PlanError: there are none, or seeds cannot be added until claims are decided.
    """
    if request.seeds == "auto" and not isinstance(paper.tiers[request.tier].seeds, Schedule):
        raise plan.PlanError(
            f"{paper.key} has a fixed number of seeds at tier {request.tier}: "
            "seeds: {start: 5, most: 40} in its spec adds seeds until claims are decided"
        )
    if isinstance(request.seeds, (int, range)):
        found = plan.plan(paper, request.tier, datasets, request.seeds, request.variants)
    else:
        found = rounds.planned(paper, request.tier, datasets, request.variants)
    found = needs.among(found, datasets) if needs else found
    if not found:
        what = "claims' variants" if needs else "variants"
        raise plan.PlanError(f"these {what} are not run on these datasets at this tier")
    return found


def _until_decided(
    request: Request,
    paper: Paper,
    datasets: Sequence[str],
    needs: Needs | None,
    store: RecordStore,
    observers: Sequence[Observer],
) -> Iterator[list[PlannedTrial]]:
    """Round after round of more seeds, until claims are decided or the budget is spent."""
    tried: set[str] = set()
    while True:
        records = store.records(paper.key, request.tier)
        verdicts = _judged(paper, request, records, datasets, needs)
        more = rounds.following(
            paper, request.tier, verdicts, records, request.budget, request.variants
        )
        if said := str(more):
            _announce(observers, said)
        if not {trial.id for trial in more.trials} - tried:
            return
        tried |= {trial.id for trial in more.trials}
        yield list(more.trials)


def _try_flags(paper: Paper, request: Request) -> None:
    """Build what the flags name, in a worker: better now than in every trial.

    Raises:
        PlanError: this machine, Lightning or a procedure does not have it.
    """
    from harness.engines.forked import ask

    classes = plan.procedures(paper, request.tier, request.variants)
    flags = (request.accelerator, dict(request.fabric))
    problem = ask(ranks.problem, classes, *flags, paper.packages)
    if problem:
        raise plan.PlanError(str(problem))


def _execute(
    request: Request,
    paper: Paper,
    trials: Sequence[PlannedTrial],
    todo: list[PlannedTrial],
    chosen: Folders,
    store: RecordStore,
    observers: Sequence[Observer],
) -> list[Record]:
    """Run the trials that are not fresh; the failed records come back."""
    todo = [_patient(trial, request.timeout) for trial in todo]
    jobs = request.jobs or max(1, provenance.cores() // paper.tiers[request.tier].cpus)
    if request.fabric.get("num_nodes", 1) > 1:
        jobs = 1  # the nodes have to work on the same trial at the same time
    commit, dirty = provenance.checkout()
    roots = {entry: root for folders in chosen.values() for entry, root in folders.items()}
    setting = Setting(
        roots=roots,
        threads=request.threads or provenance.threads(jobs),
        accelerator=request.accelerator,
        commit=commit,
        dirty=dirty,
        force=request.force,
    )
    engine = make_engine(request, setting, store, jobs, paper.tiers[request.tier].cpus)
    groups = plan.groups(todo, paper.tiers[request.tier].together)
    failed = []

    def announce(text: str) -> None:
        _announce(observers, text)

    with _watching(observers, paper, todo, len(trials) - len(todo)), stoppable(engine, announce):
        for event in engine.run(groups):
            for observer in observers:
                observer.event(event)
            if isinstance(event, Waiting):
                announce(f"{event.trial.label}: another run is at it; waiting for its record")
            if isinstance(event, Finished) and event.record.status != "done":
                failed.append(event.record)
    return failed


def _patient(trial: PlannedTrial, factor: float) -> PlannedTrial:
    """The trial with so many times its limit of time."""
    return replace(trial, limits=replace(trial.limits, timeout=trial.limits.timeout * factor))


@contextlib.contextmanager
def _watching(
    observers: Sequence[Observer], paper: Paper, todo: Sequence[PlannedTrial], skipped: int
) -> Iterator[None]:
    for observer in observers:
        observer.begin(paper, todo, skipped)
    try:
        yield
    finally:
        for observer in observers:
            observer.end()


def make_engine(
    request: Request, setting: Setting, store: RecordStore, jobs: int, cpus: int
) -> Engine:
    """The engine of this name, after checking the spec's classes in one of its workers.

    Args:
        cpus: processors of each of the ``jobs``.
    """
    from harness.engines.local import LocalEngine

    engine: Engine = LocalEngine(setting, store, jobs, exclusive=ranks.node_rank() == 0, cpus=cpus)
    if request.engine == "ray":
        from harness.engines.ray import RayEngine

        threads = request.threads or provenance.threads_wanted()
        engine = RayEngine(setting, store, request.jobs, threads)
    problems = engine.validate(request.key)
    if problems:
        raise catalog.SpecError(problems)
    return engine


def available_data(
    paper: Paper, tier: str, announce: Callable[[str], None], fetch: bool = True
) -> Folders:
    """The datasets a run uses, with the folders of their entries in the data catalogue (none for
    generated or bundled data).

    A preferred dataset that is missing is announced with the one used instead.

    Raises:
        DataUnavailable: when no slot has any.
        CorruptData: when a file is not what the catalogue says.
    """
    reasons: dict[str, data.DataUnavailable] = {}
    roots: Folders = {}
    entries = {name: list(dataset.entries.values()) for name, dataset in paper.datasets.items()}

    def usable(name: str) -> bool:
        if name in roots or name in reasons:
            return name in roots
        try:
            roots[name] = {entry: _root(entry, fetch) for entry in entries[name]}
        except data.DataUnavailable as error:
            reasons[name] = error
        return name in roots

    chosen: Folders = {}
    for choice in plan.choose(plan.tier_of(paper, tier), usable):
        for missing in choice.missing:
            instead = f"using {choice.dataset}" if choice.dataset else "nothing stands in for it"
            fetch_it = f"`harness data fetch {reasons[missing].name}` gets it or says how"
            announce(f"{missing} is not on this machine: {instead} ({fetch_it})")
        if choice.dataset is not None and choice.dataset not in chosen:
            chosen[choice.dataset] = roots[choice.dataset]
            for remark in filter(None, map(data.remark, entries[choice.dataset])):
                announce(f"{choice.dataset} is {remark}")
    if not chosen:
        raise next(iter(reasons.values()))
    return chosen


def _root(source: str, fetch: bool) -> Path:
    """The data set's folder; without ``fetch`` only a look whether it is there."""
    if fetch:
        return data.resolve(source, fetch_missing=True)
    found = data.locate(source)
    if found is None:
        raise data.DataUnavailable(source, "it is not on this machine")
    return found


def _announce(observers: Iterable[Observer], text: str) -> None:
    for observer in observers:
        observer.announce(text)
