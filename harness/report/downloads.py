"""The progress bar of ``harness data fetch``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from harness.report.console import console


@contextlib.contextmanager
def download_display(name: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each file of a data set; yields what :func:`harness.data.fetch` reports to."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=console(stderr=True)) as bars:
        tasks = {}

        def report(file: str, done: int, total: int) -> None:
            if file not in tasks:
                tasks[file] = bars.add_task(f"{name}/{file}", total=total or None)
            bars.update(tasks[file], completed=done)

        yield report
