"""Show and render what was measured."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.specs.schema import Paper

from harness.cli.options import TRIAL_FAILED, Json, print_json
from harness.visible import visible

app = typer.Typer()


class FormatName(StrEnum):
    csv = "csv"
    parquet = "parquet"
    json = "json"
    latex = "latex"
    model_index = "model-index"
    ro_crate = "ro-crate"


@app.command()
def results(
    papers: Annotated[list[str] | None, typer.Argument(help="Keys; default all.")] = None,
    tier: Annotated[
        str | None, typer.Option("--tier", "-t", help="By this one's records alone.")
    ] = None,
    as_json: Json = False,
    configuration: Annotated[
        str | None, typer.Option(help="Of quick runs, as `harness run` names it: smoke, 1-seed, …")
    ] = None,
    same_versions: Annotated[
        bool, typer.Option("--same-versions", help="Only records made like the newest one.")
    ] = False,
    form: Annotated[
        FormatName | None,
        typer.Option("--format", metavar="<form>", help=f"{', '.join(FormatName)}."),
    ] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="File to write; - prints.")] = "-",
) -> None:
    """Show verdicts from the records, without running anything."""
    from harness import quick
    from harness.judging.results import verdicts
    from harness.report.console import console
    from harness.report.rows import verdict_rows
    from harness.report.terminal import verdict_table
    from harness.specs import catalog

    if form is not None and (as_json or configuration or same_versions):
        raise typer.BadParameter("goes with --tier and --output only", param_hint="--format")
    if form is None and output != "-":
        raise typer.BadParameter("needs --format", param_hint="--output")
    known = quick.configuration(configuration).runs if configuration else catalog.paper_keys()
    specs = {key: catalog.load(key) for key in papers or known}
    refuse_unknown_tier(specs.values(), tier, everywhere=papers is not None)
    if form is FormatName.ro_crate:
        _archive(list(specs.values()), tier, output)
        return
    if form is not None:
        _export(specs.values(), tier, form, output)
        return
    asked = {key: spec for key, spec in specs.items() if tier is None or tier in spec.tiers}
    found = {key: verdicts(key, tier, configuration, same_versions) for key in asked}
    if as_json:
        print_json(verdict_rows(v for group in found.values() for v in group))
        return
    out = console()
    for key, group in found.items():
        out.print(verdict_table(specs[key], group, out.width))


def refuse_unknown_tier(specs: Iterable[Paper], tier: str | None, everywhere: bool) -> None:
    """Refuse a tier that some of the papers (``everywhere``), or all of them, do not have."""
    having = [tier is None or tier in spec.tiers for spec in specs]
    if not (all(having) if everywhere else any(having)):
        known = sorted({name for spec in specs for name in spec.tiers})
        raise typer.BadParameter(f"{tier!r} is none of {', '.join(known)}", param_hint="--tier")


def _export(specs: Iterable[Paper], tier: str | None, form: FormatName, output: str) -> None:
    from pathlib import Path

    from harness.records import RecordStore
    from harness.report.exports import Format, export
    from harness.report.leaderboard import collect

    if output == "-" and form is FormatName.parquet and sys.stdout.isatty():
        raise typer.BadParameter("parquet is not for a terminal; give --output", param_hint="-o")
    if output != "-" and not Path(output).absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder for {output!r}", param_hint="--output")
    if output != "-" and Path(output).is_dir():
        raise typer.BadParameter(f"{output!r} is a folder", param_hint="--output")
    found = (collect(spec, RecordStore.here()) for spec in specs)
    content = export(found, Format(form.value), tier)
    if output == "-":
        sys.stdout.buffer.write(content)
    else:
        Path(output).write_bytes(content)


def _archive(specs: list[Paper], tier: str | None, output: str) -> None:
    from pathlib import Path

    from harness.records import RecordStore
    from harness.report.crate import write_crate
    from harness.report.leaderboard import collect

    if len(specs) != 1:
        raise typer.BadParameter("ro-crate is of one paper; name it", param_hint="--format")
    if output == "-":
        raise typer.BadParameter("ro-crate needs a new folder, or a file.zip", param_hint="-o")
    scope = None if tier is None else {tier: list(specs[0].datasets)}
    found = collect(specs[0], RecordStore.here(), scope)
    typer.echo(f"wrote {write_crate(found, Path(output))}")


@app.command()
def leaderboard(
    site: Annotated[bool, typer.Option("--site", help="Also the site, results/site/.")] = False,
) -> None:
    """Write all pages from the records.

    results/README.md, every paper's page and, with --site, the site.
    """
    render(site)


def render(site: bool) -> None:
    from harness.report.markdown import Writer, write_all

    also: list[Writer] = []
    if site:
        from harness.report.site import Site

        also.append(Site())

    def warn(problem: object) -> None:
        typer.echo(visible(f"left out: {problem}"), err=True)

    written = write_all(also, warn=warn)
    typer.echo(f"wrote {len(written)} files: {written[-1]}")


@app.command()
def compare(
    old: Annotated[str, typer.Argument(help="A git revision, or a folder of results.")],
    new: Annotated[str, typer.Argument(help="The same; default results/.")] = "",
) -> None:
    """Say what changed between two states of the results.

    Exit code 1 if a claim regressed.
    """
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
