"""Look at papers, check their specs, begin new ones."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from harness.cli.options import BAD_USAGE, Json, PaperKey, print_json, print_out, width
from harness.visible import visible

app = typer.Typer()


@app.command("list")
def list_papers(as_json: Json = False) -> None:
    """List the papers."""
    from harness.report import listing

    rows = listing.papers()
    if as_json:
        print_json(rows)
    else:
        print_out(listing.table(rows, width()))


@app.command()
def show(paper: PaperKey, as_json: Json = False) -> None:
    """Show what a paper claims, and what is run to test it."""
    from harness.report import listing
    from harness.specs import catalog

    spec = catalog.load(paper)
    if as_json:
        print_json(spec.model_dump(mode="json", by_alias=True))
    else:
        print_out(listing.paper(spec))


@app.command()
def validate(
    papers: Annotated[list[str] | None, typer.Argument(help="Keys; default all.")] = None,
) -> None:
    """Check specs.

    Schema, names, classes and their arguments, metrics, sources; that nothing is left to do, and
    that the README is this paper's. A paper whose extra is not installed is not checked, which is
    said, and is exit code 2 where that paper is named.
    """
    from harness.specs import catalog, documents
    from harness.specs.validate import validate as check

    keys = papers or catalog.paper_keys()
    found = {key: [*check(key), *documents.problems(key)] for key in keys}
    problems = [problem for some in found.values() for problem in some]
    for problem in problems:
        mark = "not checked: " if problem.unchecked else ""
        typer.echo(visible(f"{mark}{problem}"), err=True)
    if any(papers or not problem.unchecked for problem in problems):
        raise typer.Exit(BAD_USAGE)
    valid = [key for key in keys if not found[key]]
    left = f"; {len(keys) - len(valid)} not checked" if len(valid) < len(keys) else ""
    typer.echo(f"{len(valid)} specs are valid: {', '.join(valid)}{left}")


@app.command()
def schema(
    output: Annotated[str, typer.Option("--output", "-o", help="File to write; - prints.")] = "-",
) -> None:
    """Write the JSON Schema of spec.yaml, for editors."""
    from pathlib import Path

    from harness.specs.editor import editor_schema

    text = json.dumps(editor_schema(), indent=1) + "\n"
    if output == "-":
        typer.echo(text, nl=False)
    else:
        Path(output).write_text(text)


@app.command()
def new(
    key: Annotated[str, typer.Argument(help="Key of the new paper.")],
    procedure: Annotated[
        bool,
        typer.Option("--procedure", help="Also procedure.py: trials that train more than once."),
    ] = False,
) -> None:
    """Start a new paper: spec, model, data, README and tests.

    It runs as it is. TODO marks what is to be told or written; `harness validate` counts it.
    """
    from harness import paths
    from harness.specs.scaffold import new_paper

    for path in new_paper(key, procedure):
        typer.echo(f"wrote {path.relative_to(paths.root())}")
    typer.echo(f"`harness run {key} --tier smoke` runs it as it is;")
    typer.echo(f"`harness validate {key}` says what is left to do.")
