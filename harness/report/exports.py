"""Results for other programs: CSV, Parquet, JSON, LaTeX and Hugging Face's model index."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any

from harness.judging.deciding import deciding
from harness.judging.verdicts import Verdict
from harness.report.latex import tabular
from harness.report.leaderboard import Cell, PaperResults
from harness.report.rows import marks, measured, reported, seeds_of, verdict_rows
from harness.report.table import frame
from harness.specs.schema import Paper


class Format(StrEnum):
    """What ``harness results --format`` writes."""

    csv = "csv"
    parquet = "parquet"
    json = "json"
    latex = "latex"
    model_index = "model-index"


def export(results: Iterable[PaperResults], form: Format, tier: str | None = None) -> bytes:
    """Results as a file's content, in UTF-8 where it is text.

    Args:
        tier: by the records of this tier alone; default of all.
    """
    found = list(results)
    if form is Format.model_index:
        return model_index(found, tier).encode()
    verdicts = [
        v for one in found for v in deciding(r for r in one.verdicts if tier in (None, r.tier))
    ]
    return _WRITERS[form](verdicts)


def _csv(verdicts: Sequence[Verdict]) -> bytes:
    return frame(verdicts).to_csv(index=False, lineterminator="\n").encode()


def _parquet(verdicts: Sequence[Verdict]) -> bytes:
    out = io.BytesIO()
    frame(verdicts).to_parquet(out, index=False)
    return out.getvalue()


def _json(verdicts: Sequence[Verdict]) -> bytes:
    return (json.dumps(verdict_rows(verdicts), indent=1, allow_nan=False) + "\n").encode()


def _latex(verdicts: Sequence[Verdict]) -> bytes:
    """What a paper would print."""
    head = ["Paper", "Claim", "On", "Reported", "Measured", "$n$", "Evidence", "Verdict"]
    rows = [
        [
            v.paper,
            v.claim,
            v.dataset,
            reported(v),
            measured(v),
            seeds_of(v),
            v.evidence or "",
            v.verdict + (f" ({', '.join(marks(v))})" if marks(v) else ""),
        ]
        for v in verdicts
    ]
    return tabular("lllrrrll", head, rows).encode()


_WRITERS: dict[Format, Callable[[Sequence[Verdict]], bytes]] = {
    Format.csv: _csv,
    Format.parquet: _parquet,
    Format.json: _json,
    Format.latex: _latex,
}


def model_index(results: Iterable[PaperResults], tier: str | None = None) -> str:
    """Measurements of the papers' own models as the ``model-index`` of a Hugging Face model card.

    The means over seeds at the strongest tier that has them, in the metric's unit.
    """
    import yaml
    from huggingface_hub.repocard_data import eval_results_to_model_index

    entries: list[dict[str, Any]] = []
    for one in results:
        by_variant: dict[str, list[Any]] = {}
        for variant, metric, found in _models(one, tier):
            by_variant.setdefault(variant, []).append(_eval_result(one.paper, metric, found))
        for variant, evaluations in by_variant.items():
            entries += eval_results_to_model_index(f"{one.paper.key}/{variant}", evaluations)
    return yaml.safe_dump({"model-index": entries}, sort_keys=False, allow_unicode=True)


def _models(results: PaperResults, tier: str | None) -> list[tuple[str, str, Cell]]:
    chosen: dict[tuple[str, str, str], Cell] = {}
    for one in results.tiers:
        for cell in one.cells if tier in (None, one.tier) else []:
            paper = results.paper
            if paper.variants[cell.variant].role == "paper" and cell.metric in paper.metrics:
                chosen.setdefault((cell.variant, cell.dataset, cell.metric), cell)
    return [(variant, metric, cell) for (variant, _, metric), cell in chosen.items()]


def _eval_result(paper: Paper, metric: str, cell: Cell) -> Any:
    from huggingface_hub import EvalResult

    dataset, spec = paper.datasets[cell.dataset], paper.metrics[metric]
    unit = f" ({spec.unit})" if spec.unit else ""
    return EvalResult(
        task_type=paper.task.replace(" ", "-"),  # results are grouped by task and dataset type
        task_name=paper.task,
        dataset_type=cell.dataset,
        dataset_name=dataset.label,
        metric_type=metric,
        metric_name=f"{spec.label}{unit}",
        metric_value=cell.estimate.value,
    )
