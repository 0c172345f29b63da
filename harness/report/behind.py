"""What stands behind a verdict: every seed, the control and null models beside it, its trials."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from harness.judging.criteria import accepted, as_judged
from harness.judging.effects import same_unit
from harness.judging.guards import COMPARISONS, in_place
from harness.judging.quantities import Measurements, Unmeasured, measure, per_seed
from harness.judging.sequential import Looks, judged_on
from harness.judging.statistics import Estimate
from harness.judging.verdicts import Verdict
from harness.needs import Needs
from harness.records import Record
from harness.report.leaderboard import TierResults
from harness.report.svg import ticks
from harness.specs.claims import Claim, Quantity, Share

MOST_SEEDS = 100  # points of one row


@dataclass(frozen=True)
class Arm:
    """The claim's quantity, or it with a control or null model in place, in the claim's unit.

    ``seeds`` are empty where single runs have no such quantity, as with a share of runs;
    ``missing`` says why there is no estimate.
    """

    role: str
    variant: str
    estimate: Estimate | None
    seeds: tuple[float, ...] = ()
    missing: str = ""


@dataclass(frozen=True)
class Trials:
    """How many trials of a variant on a data set were done, and how many failed."""

    variant: str
    dataset: str
    done: int
    failed: int
    seconds: float


@dataclass(frozen=True)
class Behind:
    """A measured verdict with all that it rests on.

    ``low`` and ``high`` are the ends of an axis that shows everything, ``band`` what the
    criterion accepts of it (``None``: nothing of it), ``reported`` the paper's figure.
    """

    verdict: Verdict
    arms: tuple[Arm, ...]
    trials: tuple[Trials, ...]
    low: float
    high: float
    band: tuple[float, float] | None
    reported: float | None

    @property
    def ticks(self) -> list[float]:
        return ticks(self.low, self.high, about=4)

    def place(self, value: float) -> float:
        """Where a value lies on the axis, in % of its length."""
        return 100 * (value - self.low) / (self.high - self.low)

    @property
    def command(self) -> str:
        """Runs again what the claim needs, and no more."""
        tier = "" if self.verdict.tier == "cpu" else f" --tier {self.verdict.tier}"
        return f"harness run {self.verdict.paper}{tier} --claim {self.verdict.claim} --force"


def behind(results: TierResults, verdict: Verdict) -> Behind:
    """All that a verdict which was measured at this tier rests on."""
    paper, datasets = results.paper, verdict.dataset.split(" + ")
    stated = next(claim for claim in paper.claims if claim.id == verdict.claim)
    claim = as_judged(paper, stated, datasets)
    assert claim.quantity is not None
    looks = Looks.of(paper, results.tier, results.measurements, judged_on(claim, datasets))
    arms = _arms(claim, claim.quantity, datasets, looks.at())
    comparable = same_unit(claim.reported.unit, verdict.unit)
    reported = claim.reported.value if comparable else None
    edges = accepted(claim) if claim.criterion else (math.inf, -math.inf)
    low, high = _axis(arms, [*edges, *([] if reported is None else [reported])])
    band = max(edges[0], low), min(edges[1], high)
    trials = _trials(results, set(Needs(paper, (stated,)).cells(datasets)))
    shown = band if band[0] <= band[1] else None
    return Behind(verdict, arms, trials, low, high, shown, reported)


def _arms(
    claim: Claim, quantity: Quantity, datasets: Sequence[str], found: Measurements
) -> tuple[Arm, ...]:
    others = [("control", claim.control.variant)] if claim.control else []
    others += [("null model", name) for name in claim.null]
    swapped = [_arm(role, v, in_place(quantity, v), datasets, found) for role, v in others]
    return (_arm("as claimed", "", quantity, datasets, found), *swapped)


def _arm(
    role: str, variant: str, quantity: Quantity, datasets: Sequence[str], found: Measurements
) -> Arm:
    try:
        estimate = measure(quantity, datasets, found)
        by_seed = per_seed(quantity, datasets, found) if _run_by_run(quantity) else {}
    except Unmeasured as missing:
        return Arm(role, variant, None, missing=str(missing))
    seeds = tuple(one.value for one in by_seed.values())[:MOST_SEEDS]
    return Arm(role, variant, estimate, () if estimate.n == "exact" else seeds)


def _run_by_run(quantity: Quantity) -> bool:
    """Whether single seeds have the quantity: no share of runs, no best against best."""
    if isinstance(quantity.over_seeds, Share):
        return False
    return quantity.over_seeds == "mean" or quantity.kind not in COMPARISONS


def _axis(arms: Sequence[Arm], others: Sequence[float]) -> tuple[float, float]:
    """Ends that show everything finite, with a margin."""
    numbers = list(others)
    for arm in arms:
        if arm.estimate:
            ends = (arm.estimate.value, arm.estimate.low, arm.estimate.high)
            numbers += [*arm.seeds, *(end for end in ends if end is not None)]
    finite = [number for number in numbers if math.isfinite(number)]
    low, high = min(finite), max(finite)
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def _trials(results: TierResults, cells: set[tuple[str, str]]) -> tuple[Trials, ...]:
    """Those of the variants that a claim needs, in the spec's order."""
    by_cell: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in results.records:
        by_cell[record.variant, record.dataset].append(record)
    order = [(v, d) for v in results.paper.variants for d in results.paper.datasets]
    found = []
    for cell in (one for one in order if one in cells):
        done = sum(record.status == "done" for record in by_cell[cell])
        seconds = math.fsum(record.resources.seconds for record in by_cell[cell])
        found.append(Trials(*cell, done, len(by_cell[cell]) - done, seconds))
    return tuple(found)
