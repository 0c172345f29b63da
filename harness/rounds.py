"""Seeds until decided: which trials are run next, round by round.

Everything is decided from records: verdicts say which claims are undecided, records what a seed
of each variant costs. The same command on the same records gives the same rounds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness import plan
from harness.judging.sequential import judged_on, next_look
from harness.judging.verdicts import Verdict
from harness.plan import PlannedTrial
from harness.records import Record, RecordStore
from harness.specs.schema import Paper, Schedule

Cell = tuple[str, str]


@dataclass(frozen=True)
class Round:
    """Trials that take undecided claims to their next look, the cheapest claims first.

    Attributes:
        seconds: what they are expected to take on one worker.
        claims, left: how many rows go on, and how many do not, for the budget is spent.
        next: what the cheapest of the latter would take, in seconds.
    """

    trials: tuple[PlannedTrial, ...] = ()
    seconds: float = 0.0
    claims: int = 0
    left: int = 0
    next: float = 0.0

    def __str__(self) -> str:
        said = []
        if self.claims:
            said.append(
                f"{self.claims} claims are undecided: {len(self.trials)} more trials, "
                f"about {self.seconds:.0f} s of computing"
            )
        if self.left:
            said.append(f"{self.left} stay undecided: the next look takes {self.next:.0f} s")
        return "; ".join(said)


def planned(
    paper: Paper, tier: str, datasets: Sequence[str], variants: Sequence[str] | None = None
) -> list[PlannedTrial]:
    """The trials a run begins with: those of the first look, and later ones with a record."""
    first = plan.plan(paper, tier, datasets, None, variants)
    schedule = plan.tier_of(paper, tier).seeds
    if not isinstance(schedule, Schedule):
        return first
    store, known = RecordStore.here(), {trial.id for trial in first}
    cells = {(t.variant, t.dataset) for t in first if _grows(paper, tier, (t.variant, t.dataset))}
    growing = [d for d in datasets if any(d == dataset for _, dataset in cells)]
    more = plan.plan(paper, tier, growing, schedule.most, variants)
    grown = [t for t in more if t.id not in known and store.path(t.paper, t.tier, t.id).exists()]
    return first + [t for t in grown if (t.variant, t.dataset) in cells]


def following(
    paper: Paper,
    tier: str,
    verdicts: Iterable[Verdict],
    records: Sequence[Record],
    budget: float | None = None,
    variants: Sequence[str] | None = None,
) -> Round:
    """The next round; without trials when all is decided or the budget is spent.

    Args:
        verdicts: on all records.
        budget: what seeds beyond the first look may take in all, in seconds of their records.
        variants: patterns; claims that need others do not go on.
    """
    seconds = _seconds(records)
    steps = [s for v in verdicts if v.undecided and (s := _step(paper, tier, v, variants))]
    done = {record.trial for record in records}
    costs = {id(s): _cost((t for t in s if t.id not in done), seconds) for s in steps}
    spent = sum(r.resources.seconds for r in records if _added(paper, tier, r))
    chosen: dict[str, PlannedTrial] = {}
    total, claims, left = 0.0, 0, []
    for step in sorted(steps, key=lambda s: costs[id(s)]):
        more = {t.id: t for t in step if t.id not in done and t.id not in chosen}
        cost = _cost(more.values(), seconds)
        if budget is not None and spent + total + cost > budget:
            left.append(cost)
            continue
        chosen |= more
        total, claims = total + cost, claims + 1
    return Round(tuple(chosen.values()), total, claims, len(left), min(left, default=0.0))


def _step(
    paper: Paper, tier: str, verdict: Verdict, variants: Sequence[str] | None
) -> list[PlannedTrial]:
    """The trials that bring a claim to its next look."""
    schedule = plan.tier_of(paper, tier).seeds
    claim = next(c for c in paper.claims if c.id == verdict.claim)
    needed = [c for c in judged_on(claim, verdict.dataset.split(" + ")) if _grows(paper, tier, c)]
    if variants is not None and not all(plan.matches(list(variants), v) for v, _ in needed):
        return []
    assert isinstance(schedule, Schedule)
    datasets, names = [d for _, d in needed], [v for v, _ in needed]
    found = plan.plan(paper, tier, datasets, next_look(schedule, verdict.look), names)
    return [t for t in found if (t.variant, t.dataset) in needed]


def _grows(paper: Paper, tier: str, cell: Cell) -> bool:
    """Whether seeds of a variant on a dataset are added until claims are decided."""
    settings = plan.settings(paper, tier, *cell)
    return settings.schedule is not None and not settings.deterministic


def _added(paper: Paper, tier: str, record: Record) -> bool:
    schedule = plan.tier_of(paper, tier).seeds
    return isinstance(schedule, Schedule) and record.seed >= schedule.start


def _seconds(records: Iterable[Record]) -> dict[Cell, float]:
    """Mean time of a trial, by variant and dataset."""
    found: dict[Cell, list[float]] = defaultdict(list)
    for record in records:
        found[record.variant, record.dataset].append(record.resources.seconds)
    return {cell: sum(times) / len(times) for cell, times in found.items()}


def _cost(trials: Iterable[PlannedTrial], seconds: dict[Cell, float]) -> float:
    return sum(seconds.get((t.variant, t.dataset), 0.0) for t in trials)


def expected(trials: Iterable[PlannedTrial], records: Sequence[Record]) -> float:
    """What trials will take in seconds, by the records of the same variants and data sets.

    Variants that were never run take as long as the average trial of the paper.
    """
    seconds = _seconds(records)
    usual = sum(r.resources.seconds for r in records) / max(len(records), 1)
    return sum(seconds.get((t.variant, t.dataset), usual) for t in trials)
