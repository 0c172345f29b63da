"""Many claims at once: what chance would give, what stands when all are tested together, whose
claims they are, and which rest on one measurement."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.judging.criteria import as_judged, is_absolute
from harness.judging.deciding import by_claim, deciding, headline
from harness.judging.multiplicity import benjamini_hochberg, holm
from harness.judging.statistics import CONFIDENCE
from harness.judging.verdicts import JUDGEMENTS, Judgement, Verdict
from harness.specs.claims import Claim
from harness.specs.schema import Paper
from harness.specs.types import Evidence

LEVEL = (1 - CONFIDENCE) / 2  # of one verdict: an interval misses with this on each side

WHOSE = ("paper", "authors", "others", "us")


@dataclass(frozen=True)
class Counted:
    """What is counted of a claim's verdict.

    Attributes:
        measurement: what it rests on: claims with the same metric, variants, data sets and tier
            share one; empty where nothing was measured.
        tested: whether an interval over runs could have made it ``reproduced`` by chance.
        p: the one-sided error of one that is.
    """

    paper: str
    claim: str
    by: str
    verdict: Judgement
    evidence: Evidence | None
    direction_only: bool
    measurement: str
    tested: bool
    p: float | None


@dataclass(frozen=True)
class Chance:
    """Of the claims tested: how many are reproduced, would be by chance, and stand together."""

    tested: int
    expected: float
    reproduced: int
    holm: int
    benjamini_hochberg: int


def counted(paper: Paper, verdicts: Iterable[Verdict]) -> list[Counted]:
    """One entry for each claim of a paper.

    Args:
        verdicts: at any tiers.
    """
    claims = {claim.id: claim for claim in paper.claims}
    return [_counted(paper, claims[rows[0].claim], rows) for rows in by_claim(verdicts)]


def _counted(paper: Paper, claim: Claim, rows: Sequence[Verdict]) -> Counted:
    line, decide = headline(rows), deciding(rows)
    tested = all(_tested(as_judged(paper, claim, [row.dataset]), row) for row in decide)
    errors = [row.p for row in decide if row.p is not None]
    return Counted(
        paper=decide[0].paper,
        claim=claim.id,
        by=claim.by,
        verdict=line.verdict,
        evidence=line.evidence,
        direction_only=line.direction_only,
        measurement=_measurement(claim, decide),
        tested=tested,
        p=max(errors) if tested and line.verdict == "reproduced" else None,
    )


def _tested(claim: Claim, row: Verdict) -> bool:
    """Exact figures have no error; an absolute figure at a reduced protocol is never reproduced,
    and whether a mean replicates is asked of the reported figure's interval."""
    if claim.criterion is None or claim.criterion.replicates or row.n == "exact":
        return False
    if row.evidence == "reduced" and is_absolute(claim):
        return False
    if row.verdict == "reproduced" and row.p is None:  # the error is one of reading, not of chance
        return False
    interval = row.ci_low is not None or row.ci_high is not None or row.runs_met is not None
    return interval and row.verdict in ("reproduced", "not reproduced", "inconclusive")


def _measurement(claim: Claim, rows: Sequence[Verdict]) -> str:
    quantity = claim.quantity
    if quantity is None or all(row.measured is None for row in rows):
        return ""
    sides = {
        " ".join(filter(None, (str(o), "" if o.metric else quantity.metric, o.on)))
        for o in quantity.operands
    }
    where = sorted({row.dataset for row in rows})
    return f"{rows[0].paper}, {rows[0].tier}: {', '.join(sorted(sides))} on {', '.join(where)}"


def split(
    claims: Iterable[Counted], part: str, kinds: Sequence[str | None]
) -> dict[str | None, Counter[Judgement]]:
    """Verdicts counted apart by an attribute: ``by`` or ``evidence``."""
    found: dict[str | None, Counter[Judgement]] = {kind: Counter() for kind in kinds}
    for claim in claims:
        found[getattr(claim, part)][claim.verdict] += 1
    return found


def chance(claims: Iterable[Counted]) -> Chance:
    """What the tested claims among these would give if none of them held, and what stands."""
    tested = [claim for claim in claims if claim.tested]
    p = [claim.p for claim in tested if claim.p is not None]
    return Chance(
        tested=len(tested),
        expected=LEVEL * len(tested),
        reproduced=len(p),
        holm=sum(holm(p, LEVEL, len(tested))),
        benjamini_hochberg=sum(benjamini_hochberg(p, LEVEL, len(tested))),
    )


def measurements(claims: Iterable[Counted]) -> dict[str, list[Counted]]:
    """Claims by the measurement they rest on."""
    found: dict[str, list[Counted]] = defaultdict(list)
    for claim in claims:
        if claim.measurement:
            found[claim.measurement].append(claim)
    return found


def once(groups: Iterable[Sequence[Counted]]) -> dict[Judgement, int]:
    """Verdicts with each measurement counted once; where its claims differ it is inconclusive."""
    kinds = [{claim.verdict for claim in group} for group in groups]
    found = Counter(kind.pop() if len(kind) == 1 else "inconclusive" for kind in kinds)
    return {kind: found[kind] for kind in JUDGEMENTS}
