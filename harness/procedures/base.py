"""What a trial does is a procedure: it gets a :class:`Trial` and returns an :class:`Outcome`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

from harness.procedures.checkpoints import Checkpoints
from harness.records import Measured, Series

if TYPE_CHECKING:  # the process that plans and displays does not need torch
    import torch
    from torch import nn

    from harness.procedures.parts import Parts

T = TypeVar("T")


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
        config: ``procedure``, ``model`` and ``data`` as the spec resolves them; the procedure's
            arguments that the spec leaves at their defaults are ``None``.
        parts: where :meth:`part` keeps what other trials need as well; without, it is made here.
        keep: called with the trained model; writes its weights where the spec says
            ``keep: weights``.

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
    config: Mapping[str, Any] = field(default_factory=dict)
    parts: Parts | None = None
    keep: Callable[[nn.Module], None] = lambda model: None

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

    def settings(self, *names: str) -> dict[str, Any]:
        """Some of the procedure's arguments as plain data, to say what a part depends on.

        Raises:
            KeyError: the procedure has no such argument.
        """
        arguments = self.config["procedure"]["init_args"] if self.config else {}
        return {name: arguments[name] for name in names if self.config}

    def part(self, name: str, config: Mapping[str, Any], make: Callable[[Trial], T]) -> T:
        """A deterministic piece of the trial that other trials may need as well.

        The first trial that needs it makes it, and those that agree in ``config``, code, data and
        seed take it from ``runs/``; it may be lost at any time. What the trial measures is the
        same bit for bit either way::

            settings = trial.settings("teacher", "epochs")
            teacher.load_state_dict(trial.part("teacher", settings, self.taught))

        Args:
            name: lower-case letters, digits, ``_``, ``.`` and ``-``.
            config: plain data: all settings that the part depends on. Data and seed always count;
                a part that builds the trial's model has ``"model": trial.config["model"]`` in it.
            make: gets this trial with checkpoints of the part's own, and returns tensors, numbers,
                text, and lists and dictionaries of these. What it changes otherwise is lost.

        Returns:
            What ``make`` returned, its tensors on the trial's device and without gradients. The
            global generators are seeded before and after.
        """
        return part_together([self], name, config, lambda trials: make(trials[0]))


def part_together(
    trials: Sequence[Trial], name: str, config: Mapping[str, Any], make: Callable[[list[Trial]], T]
) -> T:
    """A part of trials that are run together, made for all of them at once; see `Trial.part`.

    Floating-point sums depend on the company they are vectorised in, so that such a part belongs
    to these seeds in this order.
    """
    from harness.procedures.parts import Part

    def refused() -> NoReturn:
        raise ValueError(
            f"part {name!r} depends on the trial's model, for it builds one: "
            "add \"model\": trial.config['model'] to its settings"
        )

    def inside(checkpoints: Checkpoints | None, folder: Path) -> T:
        own = [checkpoints, *[None] * (len(trials) - 1)]
        models = [trial.model if "model" in config else refused for trial in trials]
        return make(
            [
                replace(trial, checkpoints=kept, workdir=folder, model=model)
                for trial, kept, model in zip(trials, own, models, strict=True)
            ]
        )

    first = trials[0]
    common = (first.device, first.workdir, first.checkpoints, first.parts)
    return Part(name, config, [trial.seed for trial in trials], *common).get(inside)


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
    """A procedure is built from the spec's ``init_args`` and run once per trial.

    A trial that measures what ``produces`` does not name fails. One that also has
    ``sometimes(init_args)``, of the same kind, fails as well where anything else that ``produces``
    names is missing: what only some data or settings give is named there.
    """

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
