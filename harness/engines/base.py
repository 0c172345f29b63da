"""What an engine is: it runs groups of trials somewhere and yields events until all are done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.plan import PlannedTrial
from harness.procedures.base import Progress
from harness.records import Record
from harness.specs.catalog import Problem

Group = Sequence[PlannedTrial]


def alone_last(groups: Sequence[Group]) -> list[Group]:
    """Groups that run alone behind all others, so that the machine is emptied for them once."""
    return sorted(groups, key=lambda group: group[0].limits.alone)


class Interrupted(RuntimeError):
    """The user, or the system that shuts down, asked the run to stop."""


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
class Waiting:
    """Another run is working on the trial; its record will do."""

    trial: PlannedTrial


@dataclass(frozen=True)
class Finished:
    """A trial ended, and its record is written."""

    trial: PlannedTrial
    record: Record


Event = Started | Reported | Waiting | Finished


class Engine(Protocol):
    """Runs groups, each in a process of its own, and writes one record per trial."""

    def validate(self, key: str) -> list[Problem]: ...

    def run(self, groups: Sequence[Group]) -> Iterator[Event]: ...

    def stop(self) -> None:
        """Begin no more trials, and let those that run save their state and end.

        Called again it ends them at once. May be called from a signal handler. Trials without a
        record by then get none.
        """
        ...
