"""What an engine is: it runs groups of trials somewhere and yields events until all are done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.plan import PlannedTrial
from harness.procedures.base import Progress
from harness.records import Record

Group = Sequence[PlannedTrial]


@dataclass(frozen=True)
class Started:
    """A worker took up a trial."""

    trial: PlannedTrial


@dataclass(frozen=True)
class Reported:
    """A trial says how far it is."""

    trial: PlannedTrial
    progress: Progress


@dataclass(frozen=True)
class Finished:
    """A trial ended, and its record is written."""

    trial: PlannedTrial
    record: Record


Event = Started | Reported | Finished


class Engine(Protocol):
    """Runs groups, each in a process of its own, and writes one record per trial."""

    def run(self, groups: Sequence[Group]) -> Iterator[Event]: ...
