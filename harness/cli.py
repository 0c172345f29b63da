"""``harness …``: a thin command line over the library. Nothing below this module prints."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from harness.reproduce import Reproduction

OK, TRIAL_FAILED, BAD_USAGE, NO_DATA = 0, 1, 2, 3

app = typer.Typer(
    help="Reproduce machine-learning papers, claim by claim.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

PaperKey = Annotated[str, typer.Argument(help="A paper's key, as `harness list` shows it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TierName = Annotated[str, typer.Option("--tier", "-t", help="smoke, cpu, full, …")]


class EngineName(StrEnum):
    local = "local"
    ray = "ray"


@app.command("list")
def list_papers(as_json: Json = False) -> None:
    """List the papers."""
    from harness import listing

    rows = listing.papers()
    if as_json:
        _print_json(rows)
    else:
        _print(listing.table(rows, _width()))


@app.command()
def show(paper: PaperKey, as_json: Json = False) -> None:
    """Show what a paper claims, and what is run to test it."""
    from harness import catalog, listing

    spec = catalog.load(paper)
    if as_json:
        _print_json(spec.model_dump(mode="json", by_alias=True))
    else:
        _print(listing.paper(spec))


@app.command()
def validate(
    papers: Annotated[list[str] | None, typer.Argument(help="Keys; default all.")] = None,
) -> None:
    """Check specs: schema, names, classes and their arguments, metrics, sources."""
    from harness import catalog
    from harness.validate import validate as check

    keys = papers or catalog.paper_keys()
    problems = [problem for key in keys for problem in check(key)]
    for problem in problems:
        typer.echo(str(problem), err=True)
    if problems:
        raise typer.Exit(BAD_USAGE)
    typer.echo(f"{len(keys)} specs are valid: {', '.join(keys)}")


@app.command()
def schema(
    output: Annotated[str, typer.Option("--output", "-o", help="File to write; - prints.")] = "-",
) -> None:
    """Write the JSON Schema of spec.yaml, for editors."""
    from pathlib import Path

    from harness.spec import Paper

    text = json.dumps(Paper.model_json_schema(), indent=1) + "\n"
    if output == "-":
        typer.echo(text, nl=False)
    else:
        Path(output).write_text(text)


@app.command()
def run(
    paper: PaperKey,
    tier: TierName = "cpu",
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Workers.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Instead of the tier's.")] = None,
    variant: Annotated[list[str] | None, typer.Option(help="Only these (patterns).")] = None,
    force: Annotated[bool, typer.Option(help="Run also what is fresh.")] = False,
    engine: Annotated[EngineName, typer.Option(help="Where trials run.")] = EngineName.local,
    accelerator: Annotated[str, typer.Option(help="auto, cpu, cuda.")] = "auto",
) -> None:
    """Run what is missing or stale, judge the claims, and write the paper's results page."""
    from harness.report.progress import ProgressDisplay
    from harness.report.terminal import console
    from harness.reproduce import Request
    from harness.reproduce import run as reproduce
    from harness.tracking import WandbTracker

    display = ProgressDisplay(console(stderr=True))
    request = Request(paper, tier, jobs, seeds, variant or None, force, engine.value, accelerator)
    outcome = reproduce(request, [display, WandbTracker(display.announce)])
    _report(outcome)
    if outcome.failed:
        raise typer.Exit(TRIAL_FAILED)


def _report(outcome: Reproduction) -> None:
    from harness import paths
    from harness.report.markdown import write_paper
    from harness.report.terminal import console, verdict_table

    out = console()
    out.print(verdict_table(outcome.paper, outcome.verdicts, out.width))
    page = write_paper(outcome.paper, outcome.tier)
    try:
        shown = page.relative_to(paths.root())
    except ValueError:
        shown = page
    if outcome.ran == 0:
        typer.echo("Nothing to run: all trials are fresh (--force runs them again).")
    if outcome.failed:
        typer.echo(f"{len(outcome.failed)} trials failed; a log for each is under runs/.", err=True)
    typer.echo(f"Results: {shown}")


@app.command()
def status(
    papers: Annotated[list[str] | None, typer.Argument(help="Keys; default all.")] = None,
    tier: TierName = "cpu",
    as_json: Json = False,
) -> None:
    """Say which trials are fresh, stale, failed or missing."""
    from harness import listing

    rows = listing.states(papers, tier)
    if as_json:
        _print_json(rows)
    else:
        _print(listing.state_table(rows))


@app.command()
def results(
    paper: Annotated[str | None, typer.Argument(help="A paper's key; default all.")] = None,
    tier: Annotated[str | None, typer.Option("--tier", "-t", help="Default: the best.")] = None,
    as_json: Json = False,
) -> None:
    """Show verdicts from the records, without running anything."""
    from harness import catalog
    from harness.report.rows import verdict_rows
    from harness.report.terminal import console, verdict_table
    from harness.results import verdicts

    found = {key: verdicts(key, tier) for key in ([paper] if paper else catalog.paper_keys())}
    if as_json:
        _print_json(verdict_rows(v for group in found.values() for v in group))
        return
    out = console()
    for key, group in found.items():
        out.print(verdict_table(catalog.load(key), group, out.width))


@app.command()
def leaderboard() -> None:
    """Write results/README.md and every paper's page from the records."""
    from harness.report.markdown import write_all

    for path in write_all():
        typer.echo(f"wrote {path}")


@app.command()
def new(
    key: Annotated[str, typer.Argument(help="Key of the new paper.")],
    like: Annotated[str, typer.Option(help="The paper to start from.")] = "tslstm",
) -> None:
    """Start a new paper by copying another one's folder."""
    from harness.scaffold import copy_paper

    typer.echo(f"Copied {like} to {copy_paper(key, like)}; now edit spec.yaml.")


data_app = typer.Typer(help="Data sets: what there is, what is here.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@data_app.command("list")
def data_list(as_json: Json = False) -> None:
    """List the data catalogue."""
    from harness import listing

    rows = listing.datasets()
    if as_json:
        _print_json(rows)
    else:
        _print(listing.dataset_table(rows))


@data_app.command("status")
def data_status(as_json: Json = False) -> None:
    """Say where each data set is: mirror, cache or missing."""
    data_list(as_json)


@data_app.command("fetch")
def data_fetch(names: Annotated[list[str], typer.Argument(help="Data sets.")]) -> None:
    """Download data sets from their official sources into the cache."""
    from harness import data
    from harness.report.downloads import download_display

    for name in names:
        with download_display(name) as report:
            root = data.fetch(name, report)
        typer.echo(f"{name}: {root}")


@data_app.command("verify")
def data_verify(
    names: Annotated[list[str] | None, typer.Argument(help="Default all that are here.")] = None,
) -> None:
    """Compute the checksums of data sets anew."""
    from harness import data

    wrong = 0
    for name in names or [n for n in data.catalogue() if data.locate(n)]:
        problems = data.verify(name)
        wrong += len(problems)
        typer.echo(f"{name}: {'ok' if not problems else ''}{'; '.join(map(str, problems))}")
    if wrong:
        raise typer.Exit(NO_DATA)


def _print(renderable: Any) -> None:
    from harness.report.terminal import console

    console().print(renderable)


def _width() -> int:
    from harness.report.terminal import console

    return console().width


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, allow_nan=False))


def main() -> None:
    """Run the command line: every known kind of failure is one message and its exit code."""
    from harness.errors import explain

    try:
        app()
    except Exception as error:
        explained = explain(error)
        if explained is None:
            raise
        message, code = explained
        typer.echo(f"error: {message}", err=True)
        sys.exit(code)
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on where this stopped", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
