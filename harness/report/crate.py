"""A paper's results as an RO-Crate: a folder, or a zip file, that others can archive."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

from harness import paths
from harness.plan import PlanError
from harness.records import RecordStore
from harness.report.attachments import WHAT, attachments
from harness.report.leaderboard import PaperResults
from harness.specs.schema import Paper

FORMATS = {
    ".csv": "text/csv",
    ".json": "application/json",
    ".yaml": "application/yaml",
    ".bib": "application/x-bibtex",
    ".md": "text/markdown",
}


def write_crate(results: PaperResults, target: Path) -> Path:
    """Write what lies beside the paper's page, every record and the README of its folder.

    Args:
        target: a new folder, or a file that ends in ``.zip``.

    Raises:
        PlanError: the library is not installed, the target is there, or nothing was measured.
    """
    try:
        from rocrate.rocrate import ROCrate
    except ModuleNotFoundError:
        raise PlanError("RO-Crates need `pip install -c constraints.txt -e '.[archive]'`") from None
    if target.exists():
        raise PlanError(f"there is something at {str(target)!r} already")
    if not results.tiers:
        raise PlanError(f"{results.paper.key} has no records to archive")
    crate: Any = ROCrate()
    _describe(crate, results)
    for name, content in attachments(results).items():
        _add(crate, BytesIO(content), name, WHAT[name])
    readme = paths.experiments() / results.paper.key / "README.md"
    if readme.is_file():
        _add(crate, readme, "README.md", "what was built, how, and why claims held or not")
    store = RecordStore.here()
    for tier in results.tiers:
        for record in tier.records:
            path = store.find(record.paper, record.tier, record.trial)
            _add(crate, path, f"records/{record.tier}/{path.name}", "one trial, as it was measured")
    crate.write_zip(target) if target.suffix == ".zip" else crate.write(target)
    return target


def _describe(crate: Any, results: PaperResults) -> None:
    """The dataset: its name, the day of the last trial, the paper it is about, what made it."""
    from rocrate.model.contextentity import ContextEntity

    paper, counts = results.paper, results.counts
    said = ", ".join(f"{n} {kind}" for kind, n in counts.items() if n) or "no claims"
    crate.name = f"Reproduction of: {paper.title}"
    crate.description = f"Claims of the paper: {said}. {paper.summary}"
    crate.datePublished = max(tier.cost.last for tier in results.tiers)
    article = crate.add(ContextEntity(crate, f"#{paper.key}", properties=_article(paper)))
    software = {"@type": "SoftwareApplication", "name": "paper-harness"}
    versions = {"softwareRequirements": sorted({v for t in results.tiers for v in t.cost.versions})}
    tool = crate.add(ContextEntity(crate, "#paper-harness", properties=software | versions))
    crate.root_dataset["about"] = crate.root_dataset["citation"] = article
    crate.root_dataset["instrument"] = tool


def _article(paper: Paper) -> dict[str, Any]:
    known = {
        "@type": "ScholarlyArticle",
        "name": paper.title,
        "author": paper.authors,
        "datePublished": str(paper.year),
    }
    address = f"https://arxiv.org/abs/{paper.arxiv}" if paper.arxiv else ""
    return known | ({"sameAs": address} if address else {})


def _add(crate: Any, source: BytesIO | Path, name: str, what: str) -> None:
    kind = FORMATS.get(Path(name).suffix, "text/plain")
    about = {"name": Path(name).name, "description": what, "encodingFormat": kind}
    crate.add_file(source, name, properties=about, record_size=True)
