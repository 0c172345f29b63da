"""What is known of a paper: its committed records, judged against its claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import paths
from harness.judging.verdicts import Verdict, judge
from harness.records import RecordStore
from harness.specs import catalog

if TYPE_CHECKING:
    import pandas as pd


def verdicts(key: str, tier: str | None = None) -> list[Verdict]:
    """Verdicts on every claim, from the records of one tier.

    Args:
        tier: default the most thorough one that has records (full before cpu before smoke), or
            ``cpu``, where every claim is then ``not run``.

    Raises:
        UnknownPaper, SpecError: the paper cannot be loaded.
    """
    paper = catalog.load(key)
    store = RecordStore(paths.records())
    name = tier or best_tier(store, list(paper.tiers), key)
    return judge(paper, name, store.records(key, name))


def best_tier(store: RecordStore, tiers: list[str], key: str) -> str:
    """The tier with the strongest evidence that has records."""
    order: list[str] = [t for t in ("full", "long", "cpu") if t in tiers]
    order += [t for t in tiers if t not in order]
    return next((t for t in order if any(store.root.glob(f"{key}/{t}/*.json"))), "cpu")


def results(key: str | None = None, tier: str | None = None) -> pd.DataFrame:
    """Verdicts of one paper, or of all, as a table: one row per claim and dataset."""
    import pandas as pd

    from harness.report.rows import COLUMNS, verdict_rows

    found = [v for k in ([key] if key else catalog.paper_keys()) for v in verdicts(k, tier)]
    return pd.DataFrame(verdict_rows(found), columns=list(COLUMNS))
