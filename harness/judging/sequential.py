"""Seeds until decided: looks at a growing number of seeds, with intervals valid at all of them.

Group-sequential repeated confidence intervals (Jennison & Turnbull 2000, chapter 9). The error
of 2.5 % a side is spent over the looks by the Pocock-like function of Lan & DeMets (1983); what
is newly spent at a look is the nominal level of the interval shown there. By the union bound
the intervals of all looks hold together with 95 %, whatever kind they are, however the looks
depend on each other, and whichever of them was the last.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from harness import plan
from harness.judging.criteria import is_absolute, place_of
from harness.judging.decisions import Decision
from harness.judging.guards import Controlled
from harness.judging.multiplicity import p_value
from harness.judging.quantities import Measurements, Unmeasured, cells, measure
from harness.judging.statistics import CONFIDENCE, Estimate
from harness.specs.claims import Claim, Quantity
from harness.specs.schema import Paper, Schedule
from harness.specs.types import Evidence


def looks(schedule: Schedule) -> tuple[int, ...]:
    """Numbers of seeds at which claims are judged: doubling from ``start`` until ``most``."""
    found = [schedule.start]
    while 2 * found[-1] < schedule.most:
        found.append(2 * found[-1])
    return (*found, schedule.most)


@lru_cache(maxsize=256)
def share(schedule: Schedule, look: int) -> float:
    """The part of the error that is spent at a look; those of all looks sum to 1.

    ``ln(1 + (e − 1) t)`` is spent by the time that ``t = seeds / most`` is reached.

    Raises:
        ValueError: there is no look at this number of seeds.
    """
    at = looks(schedule)
    place = at.index(look)
    before = at[place - 1] if place else 0
    return _spent(look / schedule.most) - _spent(before / schedule.most)


def _spent(t: float) -> float:
    return math.log1p((math.e - 1) * t)


def confidence(schedule: Schedule, look: int, overall: float) -> float:
    """The nominal confidence of the interval at a look, for an overall one such as 0.95."""
    return 1 - (1 - overall) * share(schedule, look)


def last_look(schedule: Schedule, seeds: int) -> int | None:
    """The largest look that so many seeds complete; ``None`` before the first."""
    return max((look for look in looks(schedule) if look <= seeds), default=None)


def next_look(schedule: Schedule, look: int | None) -> int | None:
    """The look after this one; ``None`` after the last."""
    return next((n for n in looks(schedule) if look is None or n > look), None)


def judged_on(claim: Claim, datasets: Sequence[str]) -> list[tuple[str, str]]:
    """Variants and datasets that a verdict rests on: operands, the control, null models."""
    assert claim.quantity is not None
    others = [*([claim.control.variant] if claim.control else []), *claim.null]
    found = cells(claim.quantity, datasets) + [(v, d) for v in others for d in datasets]
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class Look:
    """What was seen at one look, in the claim's unit, with the interval that is valid there."""

    seeds: int
    measured: float
    ci_low: float | None
    ci_high: float | None


@dataclass(frozen=True)
class Looks:
    """The measurements a claim is judged on, and the look at which it is.

    Without a ``schedule`` these are all of them, with intervals of a fixed number of seeds.
    ``remark`` is what a reader has to know of the number of seeds.
    """

    found: Measurements
    schedule: Schedule | None = None
    reached: int | None = None
    remark: str = ""

    @classmethod
    def of(
        cls, paper: Paper, tier: str, found: Measurements, cells: Sequence[tuple[str, str]]
    ) -> Looks:
        """The look of a claim that is judged on these variants and datasets.

        A look is reached when each of its seeds was tried on all of them, whatever became of it;
        seeds beyond it are not looked at. Variants that were never tried decide no look.
        """
        settings = [(cell, plan.settings(paper, tier, *cell)) for cell in cells]
        free = [(c, s) for c, s in settings if not s.deterministic and found.tried(*c)]
        if not free or any(s.schedule is None for _, s in free):
            more = [cell[0] for cell, s in free if found.tried(*cell) > s.seeds]
            remark = "seeds were added by hand, which the interval does not account for: "
            return cls(found, remark=remark + ", ".join(dict.fromkeys(more)) if more else "")
        schedule, seeds = free[0][1].schedule, min(found.tried(*cell) for cell, _ in free)
        assert schedule is not None
        reached = last_look(schedule, seeds)
        if reached is None:
            return cls(
                found, schedule, None, f"{seeds} seeds; the first look is at {schedule.start}"
            )
        between = f"judged at the look of {reached} seeds" if seeds > reached else ""
        return cls(found, schedule, reached, between)

    @property
    def exhausted(self) -> bool:
        """Whether there is no further look."""
        return self.schedule is None or next_look(self.schedule, self.reached) is None

    def at(self, overall: float = CONFIDENCE, look: int | None = None) -> Measurements:
        """What was measured by a look (default the last one reached); its intervals hold with
        the overall confidence together with those of all other looks."""
        look = look or self.reached
        if self.schedule is None or look is None:
            return self.found.at(overall)
        return self.found.at(confidence(self.schedule, look, overall), look)

    def error(self, claim: Claim, measured: Estimate, datasets: Sequence[str]) -> float | None:
        """The one-sided p-value of a claim whose criterion is met; ``None`` where it has none.

        Exact figures have no error, and a prediction interval is that of the reported figure.
        """
        quantity, criterion = claim.quantity, claim.criterion
        assert quantity is not None and criterion is not None
        if measured.n == "exact" or criterion.replicates:
            return None

        def inside(error: float) -> bool:
            found = measure(quantity, datasets, self.at(1 - 2 * error))
            return place_of(claim, found) == "inside"

        return p_value(inside, largest=(1 - CONFIDENCE) / 2)

    def path(self, quantity: Quantity, datasets: Sequence[str]) -> tuple[Look, ...]:
        """What was seen at every look so far."""
        if self.schedule is None or self.reached is None:
            return ()
        seen = []
        for look in (n for n in looks(self.schedule) if n <= self.reached):
            with contextlib.suppress(Unmeasured):
                found = measure(quantity, datasets, self.at(look=look))
                seen.append(Look(look, found.value, found.low, found.high))
        return tuple(seen)


def seeds_may_decide(
    claim: Claim,
    measured: Estimate,
    evidence: Evidence,
    decision: Decision,
    controlled: Controlled | None,
) -> bool:
    """Whether an interval is what keeps the verdict from being one, the claim's or its control's.

    Failed seeds, an absolute figure at a reduced protocol and a control that clearly misbehaves
    do so as well, and no number of seeds mends that.
    """
    if decision.verdict == "reproduced":
        return controlled is not None and controlled.behaves is None
    lost = measured.failed and not measured.k_of_n
    hopeless = lost or (evidence == "reduced" and is_absolute(claim))
    return not hopeless and place_of(claim, measured) == "across"
