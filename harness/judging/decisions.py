"""From an estimate to a verdict: its interval against the criterion, and what evidence allows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from harness.judging.criteria import (
    Place,
    describe_criterion,
    is_absolute,
    k_of_n,
    met,
    position,
    replicated,
)
from harness.judging.replication import TOO_WIDE
from harness.judging.statistics import Estimate
from harness.specs.claims import Claim
from harness.specs.types import Evidence

Judgement = Literal["reproduced", "not reproduced", "inconclusive", "not comparable", "not run"]
JUDGEMENTS: tuple[Judgement, ...] = (
    "reproduced",
    "not reproduced",
    "inconclusive",
    "not comparable",
    "not run",
)
Reached = Literal["", "met", "missed"]


@dataclass(frozen=True)
class Decision:
    """A verdict with its reason, and what is shown beside it."""

    verdict: Judgement
    reason: str
    at_reduced: Reached = ""
    runs_met: int | None = None
    share: tuple[float, float] | None = None


def decide(claim: Claim, measured: Estimate, evidence: Evidence) -> Decision:
    """The verdict on a measured quantity, and why."""
    assert claim.quantity is not None and claim.criterion is not None
    if evidence == "stand-in" and is_absolute(claim):
        return Decision("not comparable", "an absolute figure, measured on stand-in data")
    shown = describe_criterion(claim)
    if claim.criterion.replicates:
        found = _replication(claim, measured)
    elif measured.k_of_n:
        found = _run_by_run(claim, measured)
    elif measured.low is None and measured.high is None:
        side = "meets" if position(claim, measured) == "inside" else "misses"
        reason = f"{measured.note}, no interval (the value {side}: {shown})"
        return Decision("inconclusive", reason)
    else:
        found = _BY_PLACE[position(claim, measured)]
        suffix = f" ({measured.note})" if None in (measured.low, measured.high) else ""
        found = replace(found, reason=f"{found.reason}: {shown}{suffix}")
    if measured.failed and claim.quantity.over_seeds == "mean" and not measured.k_of_n:
        runs = measured.failed + (measured.n if isinstance(measured.n, int) else 0)
        lost = f"{measured.failed} of {runs} seeds failed, which the mean of the others leaves out"
        return replace(found, verdict="inconclusive", reason=f"{lost}; {found.reason}")
    if evidence == "reduced" and is_absolute(claim) and found.verdict != "inconclusive":
        reached: Reached = "met" if found.verdict == "reproduced" else "missed"
        reason = f"{reached} at reduced protocol, which neither shows nor refutes it: {shown}"
        return replace(found, verdict="inconclusive", reason=reason, at_reduced=reached)
    return found


_BY_PLACE: dict[Place, Decision] = {
    "inside": Decision("reproduced", "inside"),
    "outside": Decision("not reproduced", "outside"),
    "across": Decision("inconclusive", "the interval reaches across"),
}


def _run_by_run(claim: Claim, measured: Estimate) -> Decision:
    """Of outcomes that do not vary or have two peaks: whether the typical run meets it."""
    place, hits, runs, (low, high) = k_of_n(claim, measured)
    share = f"{hits} of {runs} runs meet: {describe_criterion(claim)}"
    interval = f"Clopper-Pearson {100 * low:.0f} to {100 * high:.0f} % of runs"
    reason = f"{share} ({measured.note}; {interval})"
    if place != "across" and met(claim, measured.value) != (place == "inside"):
        place, reason = "across", f"the mean says otherwise than most runs: {reason}"
    return Decision(_BY_PLACE[place].verdict, reason, runs_met=hits, share=(low, high))


def _replication(claim: Claim, measured: Estimate) -> Decision:
    """Whether the mean is what a replication gives, and how sharp that question is."""
    place, expected = replicated(claim, measured)
    ends = f"{expected.low:.4g} to {expected.high:.4g}, ± {expected.width:.2g} reported std"
    if place == "across":
        reason = f"inside, but beyond ± {TOO_WIDE:g} std the prediction interval says nothing"
        return Decision("inconclusive", f"{reason} ({ends})")
    where = f"{place} the prediction interval of a replication"
    return Decision(_BY_PLACE[place].verdict, f"{where} ({ends})")
