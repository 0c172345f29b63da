"""The leaderboard's section on many claims, in Markdown; the site renders the same text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.judging.tally import LEVEL, WHOSE, Counted, chance, measurements, once, split
from harness.judging.verdicts import JUDGEMENTS, Judgement
from harness.report.tables import table, text

EVIDENCE = ("paper", "reduced", "stand-in", None)
LISTED = 2  # a measurement is named where so many claims rest on it


def headline(claims: Sequence[Counted]) -> str:
    """How many claims there are and what became of them; only the papers' own make it."""
    own = _own(claims)
    total = Counter(claim.verdict for claim in own)
    weak = sum(claim.direction_only for claim in own)
    others = f" Claims of others: {len(claims) - len(own)}." if len(own) < len(claims) else ""
    said = _said({kind: total[kind] for kind in JUDGEMENTS})
    if weak:
        mark = f"reproduced, {weak} of these in direction only"
        said = said.replace(" reproduced", f" {mark}", 1)
    return f"Claims of the papers: {len(own)} ({said}).{others}"


def section(claims: Sequence[Counted]) -> list[str]:
    """Whose claims, on what evidence, what chance would give, and what rests on what."""
    own = _own(claims)
    return [
        "## Many claims at once",
        "",
        *_split("claims of", split(claims, "by", WHOSE)),
        "",
        "The papers' own claims by evidence:",
        "",
        *_split("evidence", split(own, "evidence", EVIDENCE)),
        "",
        *_by_chance(own),
        *_measurements(own),
    ]


def _own(claims: Sequence[Counted]) -> list[Counted]:
    return [claim for claim in claims if claim.by == "paper"]


def _said(counts: dict[Judgement, int]) -> str:
    return ", ".join(f"{n} {kind}" for kind, n in counts.items() if n) or "none"


def _split(what: str, counts: dict[str | None, Counter[Judgement]]) -> list[str]:
    body = [
        [name or "none", *(str(found[kind] or "") for kind in JUDGEMENTS)]
        for name, found in counts.items()
        if found
    ]
    return table([what, *JUDGEMENTS], body, right=range(1, 1 + len(JUDGEMENTS)))


def _by_chance(own: Sequence[Counted]) -> list[str]:
    found = chance(own)
    level = f"{100 * LEVEL:g} %"
    return [
        f"{found.tested} of the papers' own claims were tested with an interval over runs. If "
        f"none of them held, at most {found.expected:.1f} would be *reproduced* by chance "
        f"({level} of each); {found.reproduced} are. Tested together, {found.holm} of them stand "
        f"after Holm (any error at all in at most {level} of leaderboards like this) and "
        f"{found.benjamini_hochberg} after Benjamini-Hochberg (of what stands, at most {level} "
        "is expected to be wrong). Exact figures have no such error and are not among them.",
        "",
    ]


def _measurements(own: Sequence[Counted]) -> list[str]:
    groups = measurements(own)
    shared = sum(len(group) > 1 for group in groups.values())
    lines = [
        f"The papers' own claims rest on {len(groups)} measurements (the same metrics of the same "
        f"variants, data sets and tier), {shared} of which more than one claim rests on. With each "
        f"measurement counted once (as inconclusive where its claims differ): "
        f"{_said(once(groups.values()))}.",
        "",
    ]
    many = {name: group for name, group in groups.items() if len(group) >= LISTED}
    body = [
        [text(name), str(len(group)), text(", ".join(claim.claim for claim in group))]
        for name, group in many.items()
    ]
    if not body:
        return lines
    return [*lines, *table(["measurement", "claims", "which"], body, right=[1]), ""]
