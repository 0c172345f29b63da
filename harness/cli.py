"""``harness …``: a thin command line over the library. Nothing below this module prints."""

from __future__ import annotations

import gc
import json
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from harness.reproduction import Reproduction

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
    from harness.report import listing

    rows = listing.papers()
    if as_json:
        _print_json(rows)
    else:
        _print(listing.table(rows, _width()))


@app.command()
def show(paper: PaperKey, as_json: Json = False) -> None:
    """Show what a paper claims, and what is run to test it."""
    from harness.report import listing
    from harness.specs import catalog

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
    from harness.specs import catalog
    from harness.specs.validate import validate as check

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

    from harness.specs.schema import Paper

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
    devices: Annotated[int | None, typer.Option(min=1, help="That share each trial.")] = None,
    num_nodes: Annotated[
        int | None, typer.Option(min=1, help="That share each trial; run this on each of them.")
    ] = None,
    strategy: Annotated[str | None, typer.Option(help="Lightning's: ddp, …")] = None,
    precision: Annotated[str | None, typer.Option(help="Lightning's: bf16-mixed, …")] = None,
) -> None:
    """Run what is missing or stale, judge the claims, and write the paper's results page."""
    from harness.report.console import console
    from harness.report.progress import ProgressDisplay
    from harness.reproduction import Request
    from harness.reproduction import run as reproduce
    from harness.tracking import WandbTracker

    display = ProgressDisplay(console(stderr=True))
    given: dict[str, int | str | None] = {"devices": devices, "num_nodes": num_nodes}
    given |= {"strategy": strategy, "precision": precision}
    fabric = {name: value for name, value in given.items() if value is not None}
    request = Request(
        paper, tier, jobs, seeds, variant or None, force, engine.value, accelerator, fabric
    )
    tracker = WandbTracker(display.announce)
    outcome = reproduce(request, [display, tracker])
    _report(outcome)
    tracker.summarise(outcome)
    if outcome.failed:
        raise typer.Exit(TRIAL_FAILED)


def _report(outcome: Reproduction) -> None:
    from harness import paths
    from harness.report.console import console
    from harness.report.markdown import write_paper
    from harness.report.terminal import verdict_table

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
    from harness.report import listing

    rows = listing.states(papers, tier)
    if as_json:
        _print_json(rows)
    else:
        _print(listing.state_table(rows))


@app.command()
def verify(
    paper: PaperKey,
    tier: TierName = "smoke",
    tolerance: Annotated[
        float, typer.Option(min=0, help="Relative, where versions or hardware differ.")
    ] = 0.01,
    leave_out: Annotated[
        list[str] | None, typer.Option(help="Metrics not to compare: times, memory.")
    ] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Workers.")] = None,
) -> None:
    """Run recorded trials again, elsewhere; exit code 1 if they do not measure the same."""
    from harness import verify as verification

    found = verification.verify(paper, tier, tolerance, leave_out or (), jobs)
    for one in found:
        typer.echo("\n".join(verification.lines(one)))
    same = sum(one.same for one in found)
    typer.echo(f"{same} of {len(found)} trials measure the same")
    if same < len(found):
        raise typer.Exit(TRIAL_FAILED)


@app.command()
def results(
    paper: Annotated[str | None, typer.Argument(help="A paper's key; default all.")] = None,
    tier: Annotated[str | None, typer.Option("--tier", "-t", help="Default: the best.")] = None,
    as_json: Json = False,
    form: Annotated[
        str | None,
        typer.Option("--format", help="csv, parquet, json, latex or model-index, of all tiers."),
    ] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="File to write; - prints.")] = "-",
) -> None:
    """Show verdicts from the records, without running anything."""
    from harness.judging.results import verdicts
    from harness.report.console import console
    from harness.report.rows import verdict_rows
    from harness.report.terminal import verdict_table
    from harness.specs import catalog

    if form is not None:
        _export(paper, tier, form, output)
        return
    found = {key: verdicts(key, tier) for key in ([paper] if paper else catalog.paper_keys())}
    if as_json:
        _print_json(verdict_rows(v for group in found.values() for v in group))
        return
    out = console()
    for key, group in found.items():
        out.print(verdict_table(catalog.load(key), group, out.width))


def _export(paper: str | None, tier: str | None, form: str, output: str) -> None:
    from pathlib import Path

    from harness import paths
    from harness.records import RecordStore
    from harness.report.exports import Format, export
    from harness.report.leaderboard import collect
    from harness.specs import catalog

    if form not in set(Format):
        raise typer.BadParameter(f"{form!r} is none of {', '.join(Format)}", param_hint="--format")
    papers = [catalog.load(key) for key in ([paper] if paper else catalog.paper_keys())]
    content = export((collect(p, RecordStore(paths.records())) for p in papers), Format(form), tier)
    if output == "-":
        sys.stdout.buffer.write(content)
    else:
        Path(output).write_bytes(content)


@app.command()
def leaderboard(
    site: Annotated[bool, typer.Option("--site", help="Also the site, results/site/.")] = False,
) -> None:
    """Write results/README.md and every paper's page from the records."""
    _leaderboard(site)


def _leaderboard(site: bool) -> None:
    from harness.report.markdown import Writer, write_all

    also: list[Writer] = []
    if site:
        from harness.report.site import Site

        also.append(Site())
    written = write_all(also, warn=lambda problem: typer.echo(f"left out: {problem}", err=True))
    typer.echo(f"wrote {len(written)} files: {written[-1]}")


@app.command()
def compare(
    old: Annotated[str, typer.Argument(help="A git revision, or a folder of results.")],
    new: Annotated[str, typer.Argument(help="The same; default results/.")] = "",
) -> None:
    """Say what changed between two states of the results; exit code 1 if a claim regressed."""
    from harness import paths
    from harness.report.compare import UnknownTree
    from harness.report.compare import compare as changes

    try:
        found = changes(old, new or str(paths.results()))
    except UnknownTree as error:
        raise typer.BadParameter(str(error.args[0])) from error
    typer.echo(found.markdown(), nl=False)
    if found.regressions:
        raise typer.Exit(TRIAL_FAILED)


@app.command()
def nightly(
    papers: Annotated[list[str] | None, typer.Argument(help="Keys; default all.")] = None,
    budget: Annotated[str, typer.Option(help="Time to spend, such as 60m.")] = "60m",
    tier: TierName = "cpu",
    site: Annotated[bool, typer.Option("--site", help="Also the site, results/site/.")] = False,
) -> None:
    """Reproduce papers whose records are missing, stale or oldest, until the budget is spent."""
    from harness import nightly as night

    try:
        seconds = night.seconds(budget)
    except night.BadBudget as error:
        raise typer.BadParameter(str(error), param_hint="--budget") from error
    try:
        outcome = night.run(seconds, tier, papers, announce=typer.echo)
    finally:
        _leaderboard(site)
    typer.echo(str(outcome))
    if outcome.failed:
        raise typer.Exit(TRIAL_FAILED)


@app.command()
def sync() -> None:
    """Upload to W&B the runs that were tracked offline."""
    from harness import tracking

    folders = tracking.unsynced()
    typer.echo(f"{len(folders)} offline runs to upload")
    if folders and tracking.sync(folders):
        raise typer.Exit(TRIAL_FAILED)


@app.command()
def new(
    key: Annotated[str, typer.Argument(help="Key of the new paper.")],
    like: Annotated[str, typer.Option(help="The paper to start from.")] = "tslstm",
) -> None:
    """Start a new paper by copying another one's folder."""
    from harness.specs.scaffold import copy_paper

    typer.echo(f"Copied {like} to {copy_paper(key, like)}; now edit spec.yaml.")


data_app = typer.Typer(help="Data sets: what there is, what is here.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@data_app.command("list")
def data_list(as_json: Json = False) -> None:
    """List the data catalogue."""
    from harness.report import listing

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
        if remark := data.remark(name):
            typer.echo(f"{name}: {remark}: the checksums of these files are compared from now on")


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
        found = "; ".join(map(str, problems)) or ", ".join(filter(None, ["ok", data.remark(name)]))
        typer.echo(f"{name}: {found}")
    if wrong:
        raise typer.Exit(NO_DATA)


def _print(renderable: Any) -> None:
    from harness.report.console import console

    console().print(renderable)


def _width() -> int:
    from harness.report.console import console

    return console().width


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, allow_nan=False))


def main() -> None:
    """Run the command line: every known kind of failure is one message and its exit code."""
    from harness.errors import explain

    gc.set_threshold(50_000)  # there is hardly any garbage, and looking for it costs a tenth
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
