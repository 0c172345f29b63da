"""Which verdicts count where a claim was judged at several tiers and on several data sets.

The one rule behind terminal, JSON, pages, leaderboard, exports and Python: claim by claim, the
strongest evidence decides (``paper`` before ``reduced`` before ``stand-in``), and of equal
evidence the most thorough tier. Data sets of that evidence and tier decide together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.judging.verdicts import JUDGEMENTS, Judgement, Verdict
from harness.specs.types import Evidence

STRENGTH: dict[Evidence | None, int] = {"paper": 3, "reduced": 2, "stand-in": 1, None: 0}


@dataclass(frozen=True)
class Headline:
    """A claim's verdict on its strongest evidence.

    ``direction_only`` where it is reproduced, on some data set with an effect of another size;
    ``by`` says whose claim it is.
    """

    claim: str
    verdict: Judgement
    evidence: Evidence | None
    tier: str
    stale: bool
    direction_only: bool = False
    by: str = "paper"


def strongest_first(tiers: Iterable[str]) -> list[str]:
    """Tiers by how much their evidence weighs; ``smoke`` only shows that the pipeline works."""
    known = {"full": 0, "long": 1, "cpu": 2, "smoke": 4}
    return sorted(tiers, key=lambda tier: known.get(tier, 3))


def deciding(rows: Iterable[Verdict]) -> list[Verdict]:
    """Those verdicts that count, claim by claim in the order of their first row."""
    return [row for group in by_claim(rows) for row in _deciding(group)]


def headlines(rows: Iterable[Verdict]) -> list[Headline]:
    """One verdict for each claim, in the order of their first row."""
    return [headline(group) for group in by_claim(rows)]


def headline(rows: Sequence[Verdict]) -> Headline:
    """One verdict for a claim: its deciding rows must agree, otherwise it is inconclusive.

    Args:
        rows: the verdicts on one claim, at any tiers.
    """
    decide = _deciding(rows)
    kinds = {row.verdict for row in decide}
    verdict: Judgement = kinds.pop() if len(kinds) == 1 else "inconclusive"
    first = decide[0]
    return Headline(
        first.claim,
        verdict,
        first.evidence,
        first.tier,
        any(row.stale for row in decide),
        verdict == "reproduced" and any(row.direction_only for row in decide),
        first.by,
    )


def count(rows: Iterable[Verdict]) -> dict[Judgement, int]:
    """How many of the paper's own claims have each verdict; those of others do not count."""
    found = Counter(one.verdict for one in headlines(rows) if one.by == "paper")
    return {kind: found[kind] for kind in JUDGEMENTS}


def direction_only(rows: Iterable[Verdict]) -> int:
    """How many of those reproduced hold in their direction only."""
    return sum(one.direction_only for one in headlines(rows) if one.by == "paper")


def by_claim(rows: Iterable[Verdict]) -> list[list[Verdict]]:
    """Rows of one claim after the other."""
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for row in rows:
        groups.setdefault((row.paper, row.claim), []).append(row)
    return list(groups.values())


def _deciding(rows: Sequence[Verdict]) -> list[Verdict]:
    best = max((row.evidence for row in rows), key=STRENGTH.__getitem__)
    tier = strongest_first(row.tier for row in rows if row.evidence == best)[0]
    return [row for row in rows if (row.evidence, row.tier) == (best, tier)]
