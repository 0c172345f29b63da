"""``harness …``: a thin command line over the library. Nothing below this package prints."""

from __future__ import annotations

import gc
import sys

import typer

from harness import paths
from harness.cli import data, papers, reporting, running
from harness.cli.options import WholeHelp
from harness.visible import visible

app = typer.Typer(
    cls=WholeHelp,
    help="Reproduce machine-learning papers, claim by claim.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for part in (papers, running, reporting):
    app.registered_commands += part.app.registered_commands
app.add_typer(data.app, name="data")


def main() -> None:
    """Run the command line: every known kind of failure is one message and its exit code."""
    from harness.errors import INTERRUPTED, explain

    if (other := paths.other_checkout()) is not None:
        chosen = f"works on {paths.root()}, not on {other} (HARNESS_ROOT={other} does)"
        typer.echo(f"note: this harness {chosen}", err=True)
    gc.set_threshold(50_000)  # there is hardly any garbage, and looking for it costs a tenth
    try:
        app()
    except Exception as error:
        explained = explain(error)
        if explained is None:
            raise
        message, code = explained
        typer.echo(visible(f"error: {message}"), err=True)
        sys.exit(code)
    except SystemExit as end:  # Typer's, also of Ctrl-C, of which it says nothing
        if end.code == INTERRUPTED:
            typer.echo("interrupted; the same command goes on where this stopped", err=True)
        raise
