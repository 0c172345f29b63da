"""What is known of a paper: its records, judged against its claims."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from harness import paths, plan, quick
from harness.judging.deciding import deciding, strongest_first
from harness.judging.verdicts import Verdict, judge
from harness.records import Record, RecordStore
from harness.specs import catalog


def verdicts(
    key: str, tier: str | None = None, configuration: str | None = None, same_versions: bool = False
) -> list[Verdict]:
    """The verdicts that count on every claim: see :mod:`harness.judging.deciding`.

    Args:
        tier: judge by the records of this one alone; default all.
        configuration: of quick runs, by the name of its folder: the tiers and data sets that
            were run with it; default the committed results.
        same_versions: leave out records of other versions or processors than the newest one's.

    Raises:
        UnknownPaper, SpecError: the paper cannot be loaded.
        PlanError: it has no such tier, or there is no such configuration.
    """
    paper = catalog.load(key)
    run = quick.configuration(configuration) if configuration else None
    scope = run.scope(key) if run else {}
    rows: list[Verdict] = []
    with paths.results_in(run.folder) if run else contextlib.nullcontext():
        store = RecordStore.here()
        for name in [tier] if tier else strongest_first(scope or paper.tiers):
            plan.tier_of(paper, name)
            asked = plan.with_fabric(paper, name, run.fabric) if run and run.fabric else paper
            records = store.records(key, name)
            if records or tier:
                kept = _alike(records) if same_versions else records
                rows += judge(asked, name, kept, scope.get(name))
    return deciding(rows or judge(paper, "cpu", []))


def _alike(records: Sequence[Record]) -> list[Record]:
    """Those made with the versions and the kind of machine of the newest one."""
    newest = max(records, key=lambda record: record.resources.ended, default=None)
    return [r for r in records if newest and r.made_with == newest.made_with]
