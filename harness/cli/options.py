"""What commands share: arguments, exit codes, printing."""

from __future__ import annotations

import json
import shutil
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
    """Help that fits the terminal, also a narrow one; sentences are wrapped and not cut."""

    def make_context(self, *arguments: Any, **extra: Any) -> Any:
        columns = shutil.get_terminal_size().columns
        extra.setdefault("terminal_width", max(30, min(columns, 80) - 2))
        return super().make_context(*arguments, **extra)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        rows = [(name, self.commands[name].get_short_help_str(1000)) for name in self.commands]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
