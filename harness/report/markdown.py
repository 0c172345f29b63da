"""Results as Markdown, committed beside the records that they are made from.

The same specs and records give the same bytes: nothing here knows the time or the machine.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness import paths
from harness.files import write_atomically
from harness.judging.deciding import Headline
from harness.judging.rounding import certain, figure, plus_minus
from harness.judging.tally import Counted, counted
from harness.judging.verdicts import JUDGEMENTS, Judgement, Verdict
from harness.privacy import scrub
from harness.records import RecordStore, Unreadable
from harness.report import many, svg
from harness.report.leaderboard import (
    Cell,
    Cost,
    PaperResults,
    TierResults,
    collect,
    collect_all,
    shown_path,
    strays,
)
from harness.report.progress import duration
from harness.report.rows import in_words, marks, measured, reported, seeds_of, seen, sized
from harness.report.tables import table, text
from harness.specs import catalog
from harness.specs.claims import Claim
from harness.specs.schema import Paper
from harness.specs.types import Evidence
from harness.visible import visible

FIGURES = 4
ABOUT = """\
A claim counts by the verdict on its strongest evidence: *paper* (the paper's data and protocol), \
then *reduced* (the paper's data, a smaller protocol), then *stand-in* (other data of the same \
kind). Where several data sets of that evidence disagree it is inconclusive. A verdict is stale \
when code has changed since its records were made. Tier, seeds, compute time, hardware and date \
are those of the most thorough tier with records. \
Columns count the papers' own claims alone."""
AGAIN = """\
Run again, a trial gives the same figures *bit for bit* where code, data, versions, kind of \
processor (vendor, family and model) and number of threads are the same. Elsewhere the last digits \
may differ: `harness verify` then compares within 1 %, and says so."""
VERDICTS_CSV = "verdicts.csv"


def write_paper(
    paper: Paper,
    quick: Sequence[str] = (),
    scope: Mapping[str, Collection[str]] | None = None,
) -> Path:
    """Write a paper's page and figures from its records.

    Args:
        quick: why a run was a quick one, for its page to say.
        scope: tiers and data sets that the page is about; default all.
    """
    return write_page(collect(paper, RecordStore.here(), scope), quick)


class Writer(Protocol):
    """Another form of the same results, written in the same pass over the records."""

    def add(self, results: PaperResults) -> None: ...

    def finish(self, rows: Sequence[Row], problems: Sequence[str]) -> Path: ...


def write_all(
    also: Sequence[Writer] = (), warn: Callable[[str], None] = lambda problem: None
) -> list[Path]:
    """Write every paper's page, the leaderboard and the table of verdicts.

    One paper's records are in memory at a time.

    Args:
        also: other forms to write, such as the site.
        warn: is told of each spec or file that is left out; the leaderboard names them too.
    """
    written: list[Path] = []
    rows: list[Row] = []
    problems: list[str] = []
    for found in collect_all():
        if isinstance(found, catalog.SpecError):
            problems += (scrub(str(problem)) for problem in found.problems)
            continue
        written.append(write_page(found))
        rows.append(Row.of(found))
        problems += unreadable(found.unreadable)
        for writer in also:
            writer.add(found)
    problems += unreadable(strays(RecordStore(paths.records())))
    for problem in problems:
        warn(problem)
    written += write_index(rows, problems)
    return [*written, *(writer.finish(rows, problems) for writer in also)]


@dataclass(frozen=True)
class Row:
    """A paper's line in the leaderboard: what is kept of its results once its page is written."""

    paper: Paper
    headlines: tuple[Headline, ...]
    counts: dict[Judgement, int]
    evidence: Evidence | None
    tier: str
    cost: Cost | None
    claims: tuple[Counted, ...] = ()

    @classmethod
    def of(cls, results: PaperResults) -> Row:
        best = results.tiers[0] if results.tiers else None
        return cls(
            paper=results.paper,
            headlines=tuple(results.headlines),
            counts=results.counts,
            evidence=results.evidence,
            tier=best.tier if best else "—",
            cost=best.cost if best else None,
            claims=tuple(counted(results.paper, results.verdicts)),
        )

    @property
    def cells(self) -> list[str]:
        """What the leaderboard shows of it, after title and year."""
        own = [line for line in self.headlines if line.by == "paper"]
        numbers = [*self.counts.values(), sum(line.stale for line in own)]
        shown = [*(str(n or "") for n in numbers), self.evidence or "—", self.tier]
        if only := sum(line.direction_only for line in own):
            shown[0] = f"{shown[0]} ({only} direction only)"
        if self.cost is None:
            return [*shown, "—", "—", "—", "—"]
        cost = self.cost
        took = duration(cost.seconds)
        return [*shown, seeds(cost.seeds), took, hardware(cost.hardware), cost.last or "—"]


def seeds(ends: tuple[int, int]) -> str:
    """``5``, or ``3–5`` where variants have different numbers of seeds."""
    return str(ends[1]) if ends[0] == ends[1] else f"{ends[0]}–{ends[1]}"


def hardware(machines: Sequence[str]) -> str:
    """The machine most trials ran on, and how many others there were."""
    if not machines:
        return "—"
    return machines[0] + (f" and {len(machines) - 1} more" if len(machines) > 1 else "")


def write_index(rows: Sequence[Row], problems: Sequence[str]) -> list[Path]:
    """Write ``results/README.md`` and ``results/verdicts.csv``."""
    head = ["paper", "year", *JUDGEMENTS, "stale"]
    right = range(1, len(head))
    head += ["evidence", "tier", "seeds", "time", "hardware", "date"]
    body = []
    for row in rows:
        link = f"[{text(row.paper.title)}]({row.paper.key}.md)"
        body.append([link, str(row.paper.year), *map(text, row.cells)])
    claims = [claim for row in rows for claim in row.claims]
    lines = [
        "# Results",
        "",
        f"Papers: {len(rows)}. {many.headline(claims)}",
        "",
        ABOUT,
        "",
        *table(head, body, right),
        "",
        *many.section(claims),
        *_problems(problems),
    ]
    readme, verdicts = paths.results() / "README.md", paths.results() / VERDICTS_CSV
    write_if_changed(readme, "\n".join(lines).rstrip() + "\n")
    write_if_changed(verdicts, verdicts_csv((r.paper, h) for r in rows for h in r.headlines))
    return [readme, verdicts]


def verdicts_csv(headlines: Iterable[tuple[Paper, Headline]]) -> str:
    """One line per claim: what git history and comparisons read."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["paper", "claim", "verdict", "evidence", "tier", "mark"])
    for paper, line in headlines:
        mark = "direction only" if line.direction_only else ""
        where = [line.evidence or "", line.tier, mark]
        writer.writerow([paper.key, line.claim, line.verdict, *where])
    return out.getvalue()


def write_page(results: PaperResults, quick: Sequence[str] = ()) -> Path:
    """Write one paper's page and figures; ``quick`` says why it is not the committed one."""
    paper = results.paper
    folder = paths.results() / "figures" / paper.key
    drawn = draw(results)
    for name, image in drawn.items():
        write_if_changed(folder / name, image)
    for old in folder.glob("*.svg"):
        if old.name not in drawn:
            old.unlink()
    lines = [
        f"# {text(paper.title)}",
        "",
        f"{text(', '.join(paper.authors))} ({paper.year}). {text(paper.summary)}",
        "",
        *_quick(quick),
        *_summary(results),
        *(line for claim in paper.claims for line in _claim(claim, results)),
        *_figures(paper.key, drawn),
        *(line for tier in results.tiers for line in _measurements(tier)),
        *_how(results),
        *_deviations(paper.key),
        *_problems(unreadable(results.unreadable)),
    ]
    path = paths.results() / f"{paper.key}.md"
    write_if_changed(path, "\n".join(lines).rstrip() + "\n")
    return path


def _quick(reasons: Sequence[str]) -> list[str]:
    if not reasons:
        return []
    return [f"**A quick run**: {text('; '.join(reasons))}. Not a committed result.", ""]


def write_if_changed(path: Path, content: str) -> None:
    """Leave a file that says the same already as it is, its time stamp too."""
    if not path.exists() or path.read_text(encoding="utf-8") != content:
        write_atomically(path, content)


def draw(results: PaperResults) -> dict[str, str]:
    """Figures by file name: the forest plot, then the first curves of the strongest tier."""
    images = {"forest.svg": svg.forest(results)}
    panels = next((tier.panels for tier in results.tiers if tier.panels), [])
    for panel in panels[:FIGURES]:
        name = f"{panel.name}-{panel.dataset}-by-{panel.over}"
        images[re.sub(r"[^A-Za-z0-9._-]+", "-", name) + ".svg"] = svg.curves(panel)
    return {name: image for name, image in images.items() if image is not None}


def _summary(results: PaperResults) -> list[str]:
    body = [[f"[{v.claim}](#{v.claim.replace('.', '')})", *_judged(v)] for v in results.deciding]
    head = ["claim", "on", "reported", "measured, 95 % CI", "n", "evidence", "tier", "verdict"]
    return ["## Verdicts", "", *table(head, body), ""]


def _judged(v: Verdict) -> list[str]:
    found = marks(v)
    verdict = f"**{v.verdict}**" + (f" ({', '.join(found)})" if found else "")
    shown = [v.dataset, reported(v), measured(v), seeds_of(v), v.evidence or "—", v.tier]
    return [*map(text, shown), verdict]


def _claim(claim: Claim, results: PaperResults) -> list[str]:
    rows = [v for v in results.verdicts if v.claim == claim.id]
    first = rows[0]
    facts = [
        f"- statement: {text(claim.statement)}",
        f"- reported: {text(reported(first))} ({text(seen(first))})",
        *([f"- quantity: {text(first.quantity)}"] if first.quantity else []),
        *([f"- criterion: {text(first.criterion)}"] if first.criterion else []),
    ]
    head = ["tier", "on", "measured, 95 % CI", "n", "evidence", "verdict", "reason", "control"]
    head.append("× reported")
    body = []
    for v in rows:
        on, _, shown, n, evidence, tier, verdict = _judged(v)
        why = [text(v.reason), text(v.control), text(sized(v).removesuffix(" × reported"))]
        body.append([tier, on, shown, n, evidence, verdict, *why])
    looks = [
        f"- looks on {text(v.dataset)}, tier {v.tier}: {text(in_words(v))}" for v in rows if v.path
    ]
    after = [*looks, ""] if looks else []
    return [f"### {text(claim.id)}", "", *facts, "", *table(head, body), "", *after]


def _figures(key: str, drawn: Iterable[str]) -> list[str]:
    names = {"forest.svg": "Claims: reported figures and measured intervals"}
    lines = []
    for name in drawn:
        label = names.get(name, f"Curves: {name.removesuffix('.svg')}")
        lines += [f"![{text(label)}](figures/{key}/{name})", ""]
    return ["## Figures", "", *lines] if lines else []


def _measurements(results: TierResults) -> list[str]:
    """Every variant × data set × metric of a tier."""
    lines = [f"## Measurements, tier {text(results.tier)}", ""]
    for dataset in dict.fromkeys(cell.dataset for cell in results.cells):
        cells = [cell for cell in results.cells if cell.dataset == dataset]
        label = results.paper.datasets[dataset].label
        lines += [f"On {text(label)} (`{dataset}`, evidence: {cells[0].evidence}):", ""]
        lines += [*grid(results.paper, cells), ""]
    if not results.cells:
        lines += ["No trial was finished.", ""]
    return lines


def grid(paper: Paper, cells: Sequence[Cell]) -> list[str]:
    """Variants as rows, metrics as columns: mean ± half the 95 % interval over seeds."""
    metrics = list(dict.fromkeys(cell.metric for cell in cells))
    found = {(cell.variant, cell.metric): cell for cell in cells}
    body = []
    for variant in dict.fromkeys(cell.variant for cell in cells):
        row = [found.get((variant, metric)) for metric in metrics]
        n = sorted({str(c.estimate.n) for c in row if c and c.estimate.n != "exact"}, key=int)
        body.append([text(variant), ", ".join(n), *(text(value(c)) for c in row)])
    heads = [metric_label(paper, metric) for metric in metrics]
    return table(["variant", "seeds", *map(text, heads)], body, right=range(1, 2 + len(metrics)))


def metric_label(paper: Paper, metric: str) -> str:
    """A metric's name with its unit."""
    known = paper.metrics.get(metric)
    return f"{metric} ({known.unit})" if known and known.unit else metric


def value(cell: Cell | None) -> str:
    """``94.1 ± 0.5``; one seed has no interval."""
    if cell is None:
        return "—"
    found = cell.estimate
    if found.n == "exact" or found.k_of_n:
        return certain(found.value)
    if found.low is None or found.high is None:
        return figure(found.value)
    return plus_minus(found.value, (found.high - found.low) / 2)


def _how(results: PaperResults) -> list[str]:
    lines = ["## How it was measured", ""]
    if not results.tiers:
        return [*lines, "It was not: there are no records.", ""]
    head = ["tier", "done", "failed", "seeds", "compute time", "hardware", "from", "to", "commits"]
    body = []
    for tier in results.tiers:
        cost = tier.cost
        shown = [tier.tier, str(cost.done), str(cost.failed), seeds(cost.seeds)]
        shown += [duration(cost.seconds), "; ".join(cost.hardware), cost.first, cost.last]
        body.append([text(x) for x in [*shown, ", ".join(cost.commits[:5])]])
    lines += [*table(head, body, right=range(1, 4)), "", "```sh"]
    lines += [*(tier.command for tier in results.tiers), "```", ""]
    for tier in results.tiers:
        if tier.left_out:
            lines += [
                f"{tier.left_out} records of tier {tier.tier} belong to earlier settings of the "
                "spec and count nowhere.",
                "",
            ]
    versions = dict.fromkeys(v for tier in results.tiers for v in tier.cost.versions)
    return [*lines, *(f"- {text(v)}" for v in list(versions)[:5]), "", AGAIN, ""]


def _deviations(key: str) -> list[str]:
    found = deviations(key)
    if not found:
        return []
    home = os.path.relpath(paths.experiments() / key, paths.results())
    return ["## Deviations from the paper", "", relink(found, f"{Path(home).as_posix()}/"), ""]


def deviations(key: str) -> str:
    """The section of a paper's README whose heading begins with ``## Deviations``."""
    path = paths.experiments() / key / "README.md"
    if not path.is_file():
        return ""
    parts = re.split(r"^## +(.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    sections = zip(parts[1::2], parts[2::2], strict=True)
    return next((body.strip() for head, body in sections if head.startswith("Deviations")), "")


def relink(markdown: str, prefix: str) -> str:
    """Make links that are relative to one folder work from another."""
    return re.sub(r"\]\((?![a-z]+:|#|/)", f"]({prefix}", markdown)


def unreadable(files: Iterable[Unreadable]) -> list[str]:
    """What is wrong with each file, by name."""
    return [visible(scrub(f"{shown_path(file.path)}: {file.reason}")) for file in files]


def _problems(problems: Sequence[str]) -> list[str]:
    if not problems:
        return []
    return ["", "## Left out", "", *(f"- {text(problem)}" for problem in problems), ""]
