"""What commands share: arguments, exit codes, printing."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

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
