"""Data sets: what there is, what is here."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.options import NO_DATA, Json, WholeHelp, print_json, print_out

app = typer.Typer(
    cls=WholeHelp, help="Data sets: what there is, what is here.", no_args_is_help=True
)


@app.command("list")
def data_list(as_json: Json = False) -> None:
    """List the data catalogue."""
    from harness.report import listing

    rows = listing.datasets()
    if as_json:
        print_json(rows)
    else:
        print_out(listing.dataset_table(rows))


@app.command("status")
def data_status(as_json: Json = False) -> None:
    """Say where each data set is: mirror, cache or missing."""
    data_list(as_json)


@app.command("fetch")
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


@app.command("verify")
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
