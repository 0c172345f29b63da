"""What commands share: arguments, exit codes, printing."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

OK, TRIAL_FAILED, BAD_USAGE, NO_DATA = 0, 1, 2, 3


PaperKey = Annotated[str, typer.Argument(help="A paper's key, as `harness list` shows it.")]


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


TierName = Annotated[str, typer.Option("--tier", "-t", help="smoke, cpu, full, …")]


def print_out(renderable: Any) -> None:
    from harness.report.console import console

    console().print(renderable)


def width() -> int:
    from harness.report.console import console

    return console().width


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, allow_nan=False))


class WholeHelp(TyperGroup):
    """A list of commands whose first sentences are wrapped and not cut."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        rows = [(name, self.commands[name].get_short_help_str(1000)) for name in self.commands]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
