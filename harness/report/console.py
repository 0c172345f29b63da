"""Where people read."""

from __future__ import annotations

from rich.console import Console


def console(stderr: bool = False) -> Console:
    """A console that neither guesses markup in data nor colours what is piped."""
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)
