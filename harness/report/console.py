"""Where people read."""

from __future__ import annotations

import os
import sys

from rich.console import Console

UNLIMITED = 10_000  # characters: what is piped is read by programs and pagers


def console(stderr: bool = False) -> Console:
    """A console that neither guesses markup in data nor colours what is piped.

    What is piped or written to a file is not cut or wrapped, unless ``COLUMNS`` says how wide.
    """
    stream = sys.stderr if stderr else sys.stdout
    known = stream.isatty() or "COLUMNS" in os.environ
    width = None if known else UNLIMITED
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=width)
