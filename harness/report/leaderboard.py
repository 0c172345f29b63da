"""What every report shows, computed once: claims, measurements, curves and cost of each paper.

Markdown, site, exports and comparison render these values and compute none of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness import paths, plan
from harness.judging.deciding import (
    STRENGTH,
    Headline,
    count,
    deciding,
    headlines,
    strongest_first,
)
from harness.judging.quantities import Measurements, Unmeasured
from harness.judging.statistics import Estimate, estimate
from harness.judging.verdicts import (
    Current,
    Judgement,
    Verdict,
    current,
    judge_current,
)
from harness.records import Record, RecordStore, Unreadable
from harness.report.curves import Panel, panels
from harness.specs import catalog
from harness.specs.claims import Operand
from harness.specs.schema import Paper
from harness.specs.types import Evidence


@dataclass(frozen=True)
class Cell:
    """One metric of one variant on one dataset, over seeds, in the metric's unit."""

    variant: str
    dataset: str
    metric: str
    estimate: Estimate
    evidence: Evidence


@dataclass(frozen=True)
class Cost:
    """What was spent at a tier, and on what."""

    done: int
    failed: int
    seeds: tuple[int, int]
    seconds: float
    hardware: tuple[str, ...]
    first: str
    last: str
    commits: tuple[str, ...]
    versions: tuple[str, ...]


@dataclass(frozen=True)
class TierResults:
    """One paper at one tier.

    ``left_out`` counts records that the spec no longer asks for.
    """

    paper: Paper
    tier: str
    found: tuple[Current, ...]
    verdicts: tuple[Verdict, ...]
    left_out: int

    @property
    def records(self) -> list[Record]:
        return [c.record for c in self.found]

    @cached_property
    def cells(self) -> list[Cell]:
        """Every variant × dataset × metric; declared metrics first."""
        return measured_cells(self.paper, self.records, self.measurements)

    @cached_property
    def measurements(self) -> Measurements:
        """Seed by seed, as claims are judged on them."""
        folds = {name: len(plan.folds(self.paper, name)) for name in self.paper.datasets}
        certain = plan.certainties(self.paper)
        return Measurements(self.records, self.paper.metrics, folds, *certain)

    @cached_property
    def panels(self) -> list[Panel]:
        """Learning curves and swept series; those that claims are about first."""
        return self._panels[0]

    @property
    def undrawn(self) -> list[str]:
        """Series that there is no panel of."""
        return self._panels[1]

    @cached_property
    def _panels(self) -> tuple[list[Panel], list[str]]:
        return panels(self.paper, self.records)

    @cached_property
    def cost(self) -> Cost:
        return spent(self.records)

    @property
    def command(self) -> str:
        """The command that made these records."""
        places = {(r.variant, r.dataset) for r in self.records}
        planned = {plan.settings(self.paper, self.tier, *place).seeds for place in places}
        most = self.cost.seeds[1]
        fewer = f" SEEDS={most}" if planned and 0 < most < max(planned) else ""
        return f"make reproduce PAPER={self.paper.key} TIER={self.tier}{fewer}"


@dataclass(frozen=True)
class PaperResults:
    """All that is known of one paper; tiers with records, strongest first."""

    paper: Paper
    tiers: tuple[TierResults, ...]
    unreadable: tuple[Unreadable, ...]

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """Every verdict, claim by claim, strongest evidence and then tier first.

        Without any record every claim is ``not run``.
        """
        if not self.tiers:
            return judge_current(self.paper, "cpu", [])
        rows = [v for tier in self.tiers for v in tier.verdicts]
        order = {claim.id: i for i, claim in enumerate(self.paper.claims)}
        return sorted(rows, key=lambda v: (order[v.claim], -STRENGTH[v.evidence]))

    @cached_property
    def headlines(self) -> list[Headline]:
        """One verdict per claim, in the spec's order."""
        return headlines(self.verdicts)

    @cached_property
    def deciding(self) -> list[Verdict]:
        """The verdicts that those rest on."""
        return deciding(self.verdicts)

    @property
    def counts(self) -> dict[Judgement, int]:
        return count(self.verdicts)

    @property
    def evidence(self) -> Evidence | None:
        """The strongest evidence that any claim was judged on."""
        return max((h.evidence for h in self.headlines), key=STRENGTH.__getitem__, default=None)


def collect(
    paper: Paper, store: RecordStore, scope: Mapping[str, Collection[str]] | None = None
) -> PaperResults:
    """Read and judge a paper's records.

    Args:
        scope: only these tiers, and data sets of each; default all of the spec.
    """
    results: list[TierResults] = []
    unreadable: list[Unreadable] = []
    for tier in strongest_first(scope or paper.tiers):
        records: list[Record] = []
        for found in store.scan(paper.key, tier):
            if not isinstance(found, Record):
                unreadable.append(found)
            elif scope is None or found.dataset in scope[tier]:
                records.append(found)
        if records:
            kept = current(paper, tier, records)
            verdicts = judge_current(paper, tier, kept)
            left_out = len(records) - len(kept)
            results.append(TierResults(paper, tier, tuple(kept), tuple(verdicts), left_out))
    return PaperResults(paper, tuple(results), tuple(unreadable))


def collect_all(store: RecordStore | None = None) -> Iterator[PaperResults | catalog.SpecError]:
    """Every paper in turn; a spec that cannot be read comes as its error, and the rest goes on."""
    store = store or RecordStore(paths.records())
    for key in catalog.paper_keys():
        try:
            paper = catalog.load(key)
        except catalog.SpecError as error:
            yield error
        else:
            yield collect(paper, store)


def strays(store: RecordStore) -> list[Unreadable]:
    """Files in the store that belong to no paper and tier, by name."""
    known = {key: None for key in catalog.paper_keys()}
    found = []
    for path in sorted(p for p in store.root.rglob("*") if p.is_file()):
        parts = path.relative_to(store.root).parts
        if path.name.startswith("."):
            continue
        if len(parts) != 3 or path.suffix != ".json":
            found.append(Unreadable(path, "is not where a record lies: <paper>/<tier>/<id>.json"))
        elif parts[0] not in known:
            found.append(Unreadable(path, f"no paper has the key {parts[0]!r}"))
    return found


def shown_path(path: Path) -> str:
    """A path within the results folder, as a reader of the reports would look for it."""
    try:
        return path.relative_to(paths.results()).as_posix()
    except ValueError:
        return path.name


def measured_cells(paper: Paper, records: Sequence[Record], found: Measurements) -> list[Cell]:
    """Mean and interval over whole seeds of every metric that any trial reports."""
    reported: dict[tuple[str, str], dict[str, None]] = {}
    protocols: dict[tuple[str, str], str] = {}
    for record in records:
        if record.status == "done":
            place = (record.variant, record.dataset)
            reported.setdefault(place, {}).update(dict.fromkeys(record.metrics))
            protocols[place] = record.protocol
    cells = []
    for variant in paper.variants:
        for dataset in paper.datasets:
            for metric in sorted(reported.get((variant, dataset), {}), key=_rank(paper)):
                try:
                    seeds = found.by_seed(Operand(variant=variant), metric, dataset)
                except Unmeasured:
                    continue
                kind = plan.evidence(paper, dataset, protocols[variant, dataset])
                overlap = found.overlap.get(dataset, 0.0)
                value = estimate(list(seeds.values()), overlap=overlap)
                cells.append(Cell(variant, dataset, metric, value, kind))
    return cells


def _rank(paper: Paper) -> Any:
    """Metrics in the spec's order, then the undeclared ones by name."""
    order = {name: i for i, name in enumerate(paper.metrics)}
    return lambda name: (order.get(name, len(order)), name)


def spent(records: Sequence[Record]) -> Cost:
    """Sum up what trials cost and what they ran on."""
    seeds: dict[tuple[str, str], set[int]] = {}
    for r in records:
        if r.status == "done":
            seeds.setdefault((r.variant, r.dataset), set()).add(r.seed)
    numbers = [len(s) for s in seeds.values()] or [0]
    done = sum(r.status == "done" for r in records)
    return Cost(
        done=done,
        failed=len(records) - done,
        seeds=(min(numbers), max(numbers)),
        seconds=sum(r.resources.seconds for r in records),
        hardware=_distinct(machine(r.provenance.hardware) for r in records),
        first=min((r.resources.ended[:10] for r in records), default=""),
        last=max((r.resources.ended[:10] for r in records), default=""),
        commits=_distinct(commit(r) for r in records),
        versions=_distinct(
            ", ".join(f"{name} {v}" for name, v in r.provenance.versions.items()) for r in records
        ),
    )


def machine(hardware: dict[str, Any]) -> str:
    """Hardware in a few words: the accelerator if there was one, else processor and threads."""
    if name := hardware.get("accelerator"):
        return str(name)
    threads = hardware.get("threads")
    plural = "" if threads == 1 else "s"
    cpu = str(hardware.get("cpu", "unknown"))
    return f"{cpu}, {threads} thread{plural}" if threads else cpu


def commit(record: Record) -> str:
    """The commit that made a record, marked where the checkout had changes."""
    provenance = record.provenance
    return described(provenance.commit, provenance.dirty)


def described(commit: str, dirty: bool | None) -> str:
    """A state of the checkout in words; empty where the commit is not known."""
    unknown = "" if dirty is not None else ", unknown whether with changes"
    return commit and commit[:10] + (" with changes" if dirty else unknown)


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    """Distinct non-empty values, the most frequent first."""
    counts = Counter(value for value in values if value)
    return tuple(sorted(counts, key=lambda value: (-counts[value], value)))
