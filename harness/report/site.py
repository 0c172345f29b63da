"""The leaderboard as a static site: opens from disk, needs no server and no network.

Pages are complete without JavaScript; scripts add sorting, filters and charts.
"""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from harness import paths
from harness.judging.deciding import Headline
from harness.judging.rounding import figure
from harness.judging.verdicts import JUDGEMENTS, Verdict
from harness.records import Record
from harness.report import figures, history, many
from harness.report.attachments import WHAT, attachments
from harness.report.behind import Behind, behind
from harness.report.boards import Boards
from harness.report.citing import bibtex
from harness.report.curves import Panel
from harness.report.leaderboard import PaperResults, TierResults, commit
from harness.report.markdown import (
    ABOUT,
    AGAIN,
    Row,
    deviations,
    hardware,
    metric_label,
    seeds,
    unreadable,
    value,
)
from harness.report.progress import duration
from harness.report.rows import estimated, marks, measured, reasons, reported, seeds_of, seen

MAX_TRIALS = 200
STATIC = ("style.css", "tables.js", "charts.js")


class Site:
    """Writes pages as papers come; ``finish`` puts the whole in place of the previous site.

    Args:
        folder: where the site goes; default ``results/site``.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or paths.results() / "site"
        self.building = self.folder.with_name(f".{self.folder.name}.building")
        shutil.rmtree(self.building, ignore_errors=True)
        for part in ("papers", "models", "assets"):
            (self.building / part).mkdir(parents=True)
        self.environment = _environment()
        self.history = history.revisions(paths.results())
        self.boards = Boards()

    def add(self, results: PaperResults) -> None:
        """Write a paper's page, and beside it what other programs can read."""
        key = results.paper.key
        self.boards.add(results)
        self._write(
            f"papers/{key}.html",
            "paper.html",
            results=results,
            paper=results.paper,
            headlines={line.claim: line for line in results.headlines},
            behind=_behind(results),
            curves=_curves(results),
            again=_html(AGAIN) if results.tiers else "",
            deviations=_html(unlink(deviations(key))),
            arxiv=f"https://arxiv.org/abs/{results.paper.arxiv}" if results.paper.arxiv else "",
            changes=history.changes(self.history, key),
            problems=unreadable(results.unreadable),
            citation=bibtex(results.paper),
            attached=WHAT,
        )
        beside = self.building / "papers" / key
        beside.mkdir()
        for name, content in attachments(results).items():
            (beside / name).write_bytes(content)

    def finish(self, rows: Sequence[Row], problems: Sequence[str]) -> Path:
        """Write the other pages and swap the site in; returns its index."""
        trends = {row.paper.key: history.trend(self.history, row.paper.key) for row in rows}
        tasks = sorted({row.paper.task for row in rows})
        total = {k: sum(row.counts[k] for row in rows) for k in JUDGEMENTS}
        about = _html(ABOUT)
        claims = [claim for row in rows for claim in row.claims]
        self._write(
            "index.html",
            "index.html",
            rows=rows,
            trends=trends,
            tasks=tasks,
            total=total,
            direction_only=sum(
                line.direction_only for row in rows for line in row.headlines if line.by == "paper"
            ),
            about=about,
            many=_html("\n".join(many.section(claims))),
            problems=problems,
        )
        datasets = self.boards.datasets()
        self._write("models/index.html", "models.html", datasets=datasets)
        for page in datasets:
            self._write(f"models/{page.slug}.html", "board.html", page=page)
        self._assets()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.building.rename(self.folder)
        return self.folder / "index.html"

    def _write(self, name: str, template: str, **values: Any) -> None:
        root = "../" * name.count("/")
        page = self.environment.get_template(template).render(root=root, **values)
        (self.building / name).write_text(page, encoding="utf-8")

    def _assets(self) -> None:
        folder = self.building / "assets"
        for name in STATIC:
            source = resources.files("harness.report") / "templates" / name
            (folder / name).write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
        (folder / "vega.js").write_text(_vega(), encoding="utf-8")


@functools.cache
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one classic script: modules do not load from disk."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return f"(() => {{{bundle}}})();\n"


def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("harness.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "estimated": estimated,
        "figure": figure,
        "marks": marks,
        "measured": measured,
        "reasons": reasons,
        "reported": reported,
        "seeds_of": seeds_of,
        "seen": seen,
        "duration": duration,
        "hardware": hardware,
        "seeds": seeds,
        "tick": lambda value: f"{value:.6g}".replace("-", "−"),
        "slug": lambda text: text.replace(" ", "-"),
        "link": web_link,
    }
    environment.globals |= {
        "JUDGEMENTS": JUDGEMENTS,
        "decides": decides,
        "grids": grids,
        "trials": trials,
        "commit": commit,
        "spread": spread,
    }
    return environment


def web_link(address: str) -> str:
    """An address that is safe to link to; anything but http(s) becomes empty."""
    return address if address.startswith(("https://", "http://")) else ""


def decides(verdict: Verdict, line: Headline) -> bool:
    """Whether this verdict is among those that the claim's headline rests on."""
    return (verdict.evidence, verdict.tier) == (line.evidence, line.tier)


def grids(results: TierResults) -> list[dict[str, Any]]:
    """A table for each data set of a tier: variants as rows, metrics as columns."""
    tables = []
    paper = results.paper
    for dataset in dict.fromkeys(cell.dataset for cell in results.cells):
        cells = [cell for cell in results.cells if cell.dataset == dataset]
        metrics = list(dict.fromkeys(cell.metric for cell in cells))
        rows: dict[str, dict[str, Any]] = {}
        for cell in cells:
            rows.setdefault(cell.variant, {})[cell.metric] = cell
        tables.append(
            {
                "label": paper.datasets[dataset].label,
                "evidence": cells[0].evidence,
                "heads": [metric_label(paper, metric) for metric in metrics],
                "rows": [
                    {
                        "variant": variant,
                        "label": paper.variants[variant].label,
                        "role": paper.variants[variant].role,
                        "n": max(_count(c.estimate.n) for c in found.values()),
                        "cells": [spread(found.get(metric)) for metric in metrics],
                    }
                    for variant, found in rows.items()
                ],
            }
        )
    return tables


def _count(n: int | str) -> int:
    return n if isinstance(n, int) else 1


def spread(cell: Any) -> dict[str, Any]:
    """A cell as shown, and the number it sorts by."""
    return {"shown": value(cell), "sort": cell.estimate.value if cell else ""}


def trials(results: TierResults) -> list[Record]:
    """Trials to list: failed ones first, at most ``MAX_TRIALS``."""

    def place(r: Record) -> tuple[bool, str, str, int, str]:
        return (r.status == "done", r.variant, r.dataset, r.seed, str(sorted(r.fold.items())))

    return sorted(results.records, key=place)[:MAX_TRIALS]


def _behind(results: PaperResults) -> dict[tuple[str, str], Behind]:
    """What the verdicts that count rest on, by claim and data set."""
    tiers = {tier.tier: tier for tier in results.tiers}
    measured_ones = (v for v in results.deciding if v.measured is not None)
    return {(v.claim, v.dataset): behind(tiers[v.tier], v) for v in measured_ones}


def _curves(results: PaperResults) -> dict[str, list[tuple[Panel, dict[str, Any]]]]:
    """The panels of each tier with their charts."""
    return {
        tier.tier: [(panel, figures.curves(panel)) for panel in tier.panels if panel.lines]
        for tier in results.tiers
    }


def _html(markdown: str) -> Any:
    """Markdown from a README as HTML; raw HTML in it is shown as text."""
    from markdown_it import MarkdownIt
    from markupsafe import Markup

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    return Markup(parser.render(markdown))  # noqa: S704  # nosec: the parser escapes


def unlink(markdown: str) -> str:
    """Relative links as plain text: the site is read apart from the repository."""
    return re.sub(r"\[([^\]]*)\]\((?![a-z]+:|#)[^)]*\)", r"\1", markdown)
