"""What a part of the benchmark measures: rows of repeated values, and how they are taken."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from harness import provenance


@dataclass(frozen=True)
class Row:
    """One quantity, measured several times.

    Attributes:
        unit: ``s``, ``ms``, ``×``, ``MB`` or ``/s``.
        values: every repeat, in the order in which they were taken.
        at_most: what the median must not exceed; ``None`` if nothing is asked of it.
        shown: in the tables; else only in the JSON.
    """

    what: str
    unit: str
    values: Sequence[float]
    at_most: float | None = None
    shown: bool = True


@dataclass(frozen=True)
class Finding:
    """What a part found, and what its page says of how."""

    part: str
    title: str
    about: str
    rows: Sequence[Row]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def document(self, load_before: float) -> dict[str, Any]:
        """As JSON, with the machine that it was measured on.

        Args:
            load_before: the load average when the part began: other work on the machine.
        """
        commit, dirty = provenance.checkout()
        return {
            **asdict(self),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit,
            "dirty": dirty,
            "hardware": provenance.hardware(),
            "versions": provenance.versions(),
            "load_before": round(load_before, 2),
        }


def interleaved(
    kinds: Mapping[str, Callable[[], float]], repeats: int, warm: int = 1
) -> dict[str, list[float]]:
    """Measure several kinds in turn, so that all of them see the same weather.

    The order changes from round to round; the first ``warm`` rounds are not counted.
    """
    found: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(warm + repeats):
        for name in list(kinds)[:: 1 if turn % 2 else -1]:
            value = kinds[name]()
            if turn >= warm:
                found[name].append(value)
    return found


now = time.perf_counter


def seconds(work: Callable[[], object]) -> float:
    """The wall time of a call."""
    began = now()
    work()
    return now() - began


def ratios(of: Sequence[float], to: Sequence[float]) -> list[float]:
    """Repeat by repeat."""
    return [a / b for a, b in zip(of, to, strict=True)]


class CommandFailed(RuntimeError):
    """A command that was to be timed failed."""


def command(words: Sequence[str], environment: Mapping[str, str]) -> tuple[float, float]:
    """Run a command in a new process: wall time in s, and its peak memory in MB (Linux)."""
    began = now()
    process = subprocess.Popen(
        words,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    took = now() - began
    process.returncode = os.waitstatus_to_exitcode(status)  # or it would be waited for again
    process.stderr.close()
    if process.returncode != 0:
        raise CommandFailed(f"{' '.join(words)}: exit code {process.returncode}\n{said[-2000:]}")
    return took, used.ru_maxrss / 1024
