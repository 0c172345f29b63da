"""What a trial does is a procedure: it gets a :class:`Trial` and returns an :class:`Outcome`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.procedures.checkpoints import Checkpoints
from harness.records import Measured, Series

if TYPE_CHECKING:  # the process that plans and displays does not need torch
    import torch
    from torch import nn


@dataclass(frozen=True)
class Progress:
    """How far a trial is: ``step`` of ``steps`` (epochs, for training), and the latest figures."""

    step: int
    steps: int
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """Everything a procedure may use; nothing else identifies or changes a trial.

    Attributes:
        seed: the trial's seed; the global generators are seeded with it before ``run``.
        data: what the dataset's callable returned (``None`` for a dataset without one).
        model: builds a new, freshly initialised model at each call.
        device: where to compute.
        accelerator: Lightning's name for it (``cpu``, ``cuda``, ``mps``).
        workdir: a folder for checkpoints and other working files, kept until the trial ends.
        report: tells the user interface and the trackers how far the trial is.
        checkpoints: where :meth:`save` keeps the trial's state; without, nothing is kept.

    A procedure with a loop of its own survives interruptions by four lines::

        state = trial.load() or {"step": 0, "total": 0.0}
        for step in range(state["step"], steps):
            seed_all(trial.seed, "step", step)  # so that randomness does not depend on the past
            state = {"step": step + 1, "total": state["total"] + work()}
            trial.save(step + 1, state)
    """

    seed: int
    data: Any
    model: Callable[[], nn.Module]
    device: torch.device
    workdir: Path
    accelerator: str = "cpu"
    report: Callable[[Progress], None] = lambda progress: None
    checkpoints: Checkpoints | None = None

    def load(self) -> dict[str, Any] | None:
        """The state that an interrupted run of this trial saved last; ``None`` at first."""
        return self.checkpoints.load() if self.checkpoints else None

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Keep what is needed to go on after ``step``; cheap to call, for it writes rarely.

        Args:
            step: steps done so far.
            state: tensors, numbers, text, and lists and dictionaries of these.

        Raises:
            Stopped: the trial was asked to stop, and its state is saved; let it through.
        """
        if self.checkpoints:
            self.checkpoints.save(step, state)


@dataclass(frozen=True)
class Outcome:
    """What was measured: scalars, and series over a swept variable (epochs, widths, lengths).

    ``samples`` is what throughput is reckoned from: how many examples training passed forward and
    backward, over all epochs (also those before an interruption).
    """

    metrics: Mapping[str, float | Measured]
    series: Mapping[str, Series] = field(default_factory=dict)
    samples: int | None = None


class Procedure(Protocol):
    """A procedure is built from the spec's ``init_args`` and run once per trial."""

    def run(self, trial: Trial) -> Outcome: ...

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        """Names of the metrics and series that ``run`` returns with these arguments."""
        ...


class Separately(RuntimeError):
    """``run_together`` cannot train these trials together: they are run one by one instead."""


class Diverged(RuntimeError):
    """A loss or parameter became NaN or infinite."""


def exact(value: float) -> Measured:
    """A deterministic quantity (a count, a closed form): an interval of zero width."""
    return Measured(value=float(value), exact=True)
