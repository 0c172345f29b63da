"""Run trials, and say which were run."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from harness.reproduction import Reproduction

from harness.cli.options import TRIAL_FAILED, Json, PaperKey, TierName, print_json, print_out
from harness.cli.reporting import refuse_unknown_tier, render
from harness.visible import visible

app = typer.Typer()


class EngineName(StrEnum):
    local = "local"
    ray = "ray"


@app.command()
def run(
    paper: PaperKey,
    tier: TierName = "cpu",
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Workers.")] = None,
    seeds: Annotated[
        str | None,
        typer.Option(help="Instead of the tier's; 100:110 these; auto: until claims are decided."),
    ] = None,
    variant: Annotated[list[str] | None, typer.Option(help="Only these (patterns).")] = None,
    claim: Annotated[
        list[str] | None, typer.Option(help="Only what these need: operands, control, null models.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of each worker.")] = None,
    timeout: Annotated[float, typer.Option(min=0.01, help="Times the tier's time limit.")] = 1.0,
    budget: Annotated[
        str | None, typer.Option(help="Of computing for seeds that are added, such as 30m.")
    ] = None,
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
    """Run what is missing or stale, and judge the claims.

    Writes records and the paper's page: those in results/, or for a quick run (the tier smoke,
    fewer seeds, some claims or variants, other settings, missing data) others below runs/, which
    git ignores.
    """
    from harness.report.console import console
    from harness.report.progress import ProgressDisplay
    from harness.reproduction import run as reproduce
    from harness.request import Request, seeds_asked
    from harness.tracking import WandbTracker

    display = ProgressDisplay(console(stderr=True))
    given: dict[str, int | str | None] = {"devices": devices, "num_nodes": num_nodes}
    given |= {"strategy": strategy, "precision": precision}
    fabric = {name: value for name, value in given.items() if value is not None}
    request = Request(
        paper,
        tier,
        jobs,
        None if seeds is None else seeds_asked(seeds),
        variant or None,
        force,
        engine.value,
        accelerator,
        fabric,
        threads,
        timeout,
        None if budget is None else _seconds(budget),
        claim or None,
    )
    tracker = WandbTracker(display.announce)
    outcome = reproduce(request, [display, tracker])
    _report(outcome)
    tracker.summarise(outcome)
    if outcome.failed:
        raise typer.Exit(TRIAL_FAILED)


def _report(outcome: Reproduction) -> None:
    from harness import paths, quick
    from harness.report.console import console
    from harness.report.markdown import write_paper
    from harness.report.terminal import verdict_table

    out = console()
    out.print(verdict_table(outcome.paper, outcome.verdicts, out.width))
    name, key = outcome.results.name, outcome.paper.key
    scope = quick.configuration(name).scope(key) if outcome.quick else None
    with paths.results_in(outcome.results):
        page = write_paper(outcome.paper, outcome.quick, scope)
    try:
        shown = page.relative_to(paths.root())
    except ValueError:
        shown = page
    if outcome.ran == 0:
        typer.echo("Nothing to run: all trials are fresh (--force runs them again).")
    if outcome.failed:
        typer.echo(f"{len(outcome.failed)} trials failed; a log for each is under runs/.", err=True)
    if outcome.quick:
        typer.echo(f"A quick run ({'; '.join(outcome.quick)}): committed results stay as they are.")
        typer.echo(f"`harness results {key} --configuration {name}` shows its own.")
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
        print_json(rows)
    else:
        print_out(listing.state_table(rows))


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
    """Run recorded trials again, elsewhere, and compare.

    Bit for bit where code, data, versions, kind of processor and number of threads are the same,
    else within a tolerance; the output says which.

    Exit code 1 if they do not measure the same.
    """
    from harness import verify as verification

    found = verification.verify(paper, tier, tolerance, leave_out or (), jobs)
    for one in found:
        typer.echo("\n".join(verification.lines(one)))
    typer.echo(verification.summary(found))
    if not all(one.same for one in found):
        raise typer.Exit(TRIAL_FAILED)


@app.command()
def nightly(
    papers: Annotated[list[str] | None, typer.Argument(help="Keys; default all.")] = None,
    budget: Annotated[str, typer.Option(help="Time to spend, such as 60m.")] = "60m",
    tier: TierName = "cpu",
    site: Annotated[bool, typer.Option("--site", help="Also the site, results/site/.")] = False,
) -> None:
    """Reproduce what is stale or oldest, within a budget.

    Papers whose records are missing, stale or oldest, until the time is spent.
    """
    from harness import nightly as night
    from harness.specs import catalog

    seconds = _seconds(budget)
    keys = papers or catalog.paper_keys()
    refuse_unknown_tier([catalog.load(key) for key in keys], tier, everywhere=papers is not None)
    try:
        outcome = night.run(seconds, tier, papers, announce=typer.echo)
    finally:
        render(site)
    typer.echo(str(outcome))
    if outcome.failed:
        raise typer.Exit(TRIAL_FAILED)


def _seconds(budget: str) -> float:
    from harness.nightly import BadBudget, seconds

    try:
        return seconds(budget)
    except BadBudget as error:
        raise typer.BadParameter(str(error), param_hint="--budget") from error


@app.command()
def sync() -> None:
    """Upload to W&B the runs that were tracked offline.

    Exit code 1 without a key, without a network, or if W&B does not take them.
    """
    from harness import tracking

    folders = tracking.unsynced()
    typer.echo(f"{len(folders)} offline runs to upload")
    if folders and (problem := tracking.unable()):
        typer.echo(visible(f"error: {problem}"), err=True)
        raise typer.Exit(TRIAL_FAILED)
    if folders and tracking.sync(folders):
        raise typer.Exit(TRIAL_FAILED)
