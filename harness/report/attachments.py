"""What lies beside a paper's page for other programs: verdicts, records, curves, spec, citation."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

from harness import paths
from harness.privacy import scrub
from harness.records import Record
from harness.report.citing import bibtex
from harness.report.exports import Format, export
from harness.report.leaderboard import PaperResults, commit

WHAT = {
    "verdicts.csv": "the verdicts that count",
    "verdicts.json": "the same",
    "records.csv": "every metric of every trial",
    "records.json": "every trial with settings, versions and hardware",
    "curves.csv": "mean curves with their intervals",
    "curves.json": "the same with single seeds",
    "environment.json": "versions, hardware and commits",
    "spec.yaml": "claims, variants and settings",
    "citation.bib": "the paper and this project",
}


def attachments(results: PaperResults) -> dict[str, bytes]:
    """Files by their names, those in :data:`WHAT`. The same records give the same bytes."""
    records = [record for tier in results.tiers for record in tier.records]
    curves = list(_curves(results))
    points = [row for curve in curves for row in _points(curve)]
    texts = {
        "records.csv": _csv(row for record in records for row in _metrics(record)),
        "records.json": _json(
            [record.model_dump(mode="json", exclude={"series"}) for record in records]
        ),
        "curves.csv": _csv(points),
        "curves.json": _json(curves),
        "environment.json": _json(_environment(results)),
        "spec.yaml": _spec(results.paper.key),
        "citation.bib": bibtex(results.paper),
    }
    verdicts = {f"verdicts.{form}": export([results], form) for form in (Format.csv, Format.json)}
    found = verdicts | {name: text.encode() for name, text in texts.items()}
    return {name: found[name] for name in WHAT}


def _metrics(record: Record) -> Iterable[dict[str, Any]]:
    """A row for each metric as it was recorded, unscaled; one without for a trial that failed."""
    trial = {
        "tier": record.tier,
        "trial": record.trial,
        "variant": record.variant,
        "dataset": record.dataset,
        "fold": " ".join(f"{name} {value}" for name, value in record.fold.items()),
        "seed": record.seed,
        "status": record.status,
    }
    spent = {
        "seconds": record.resources.seconds,
        "peak_memory_mb": record.resources.peak_memory_mb,
        "ended": record.resources.ended,
        "commit": commit(record),
    }
    found = [(name, record.measured(name)) for name in record.metrics] or [("", None)]
    for name, one in found:
        value = (
            {"value": one.value, "stderr": one.stderr} if one else {"value": None, "stderr": None}
        )
        yield {**trial, "metric": name, **value, **spent}


def _curves(results: PaperResults) -> Iterable[dict[str, Any]]:
    """The lines of the page's panels, also those that are not drawn."""
    for tier in results.tiers:
        for panel in tier.panels:
            place = {"tier": tier.tier, "series": panel.name, "unit": panel.unit}
            place |= {"dataset": panel.dataset, "over": panel.over}
            for line in panel.lines:
                values = {"x": line.x, "mean": line.y, "low": line.low, "high": line.high}
                yield {
                    **place,
                    "variant": line.variant,
                    "n": line.seeds,
                    **values,
                    "runs": line.runs,
                }


def _points(curve: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    columns = ("x", "mean", "low", "high")
    place = {name: value for name, value in curve.items() if name not in (*columns, "runs")}
    for values in zip(*(curve[name] for name in columns), strict=True):
        yield place | dict(zip(columns, values, strict=True))


def _environment(results: PaperResults) -> list[dict[str, Any]]:
    return [
        {
            "tier": tier.tier,
            "command": tier.command,
            "first": tier.cost.first,
            "last": tier.cost.last,
            "hardware": tier.cost.hardware,
            "versions": tier.cost.versions,
            "commits": tier.cost.commits,
        }
        for tier in results.tiers
    ]


def _spec(key: str) -> str:
    return scrub((paths.experiments() / key / "spec.yaml").read_text(encoding="utf-8"))


def _csv(rows: Iterable[Mapping[str, Any]]) -> str:
    found = list(rows)
    out = io.StringIO()
    if found:
        writer = csv.DictWriter(out, list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
    return out.getvalue()


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False) + "\n"
