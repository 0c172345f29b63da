"""Which settings of a recipe contradict each other, in a spec's words or once they are built."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from torch.optim.lr_scheduler import ReduceLROnPlateau

EXCLUSIVE = (("epochs", "steps"), ("clip_norm", "clip_value"), ("eval_every", "eval_steps"))


def contradictions(given: Mapping[str, Any]) -> Iterator[str]:
    """Each in one sentence.

    Args:
        given: settings of :class:`harness.procedures.recipe.Recipe`, or ``init_args`` of a spec.
    """
    for one, other in EXCLUSIVE:
        if _set(given, one) and _set(given, other):
            yield f"give {one} or {other}, not both (null takes one back)"
    for name in ("epochs", "steps", "batch_size", "accumulate", "eval_every", "eval_steps"):
        if isinstance(given.get(name), int) and given[name] < 1:
            yield f"{name} has to be 1 or more, not {given[name]}"
    parts, size = given.get("accumulate"), given.get("batch_size", 64)
    if isinstance(parts, int) and isinstance(size, int) and parts > size:
        yield f"a batch of {size} examples has no {parts} parts to accumulate"
    ema = given.get("ema")
    if ema is not None and not 0 < ema < 1:
        yield f"ema is a decay between 0 and 1, not {ema}"
    delta = given.get("min_delta")
    if isinstance(delta, int | float) and (delta < 0 or (delta and given.get("ties") == "last")):
        yield "min_delta is 0 or more, and leaves no ties to the last"
    yield from _undecided(given)


def _set(given: Mapping[str, Any], name: str) -> bool:
    default = {"eval_every": 1}.get(name)
    return given.get(name) not in (None, default)


def _undecided(given: Mapping[str, Any]) -> Iterator[str]:
    """What is to be chosen by a figure that cannot decide."""
    plateau = _plateau(given.get("schedule"))
    users = [name for name in ("patience",) if given.get(name) is not None]
    users += ["select: best"] if given.get("select") == "best" else []
    users += ["ReduceLROnPlateau"] if plateau else []
    name = monitored(given)
    if plateau and given.get("schedule_every") == "step":
        yield "ReduceLROnPlateau advances by evaluations: leave out schedule_every"
    if not users or name is None:
        return
    if name in (given.get("metrics") or {}):
        yield f"monitor: {name} is of the test split; val_{name} is of the validation split"
    known = directions(given.get("metrics") or {}, given.get("mode") or {})
    metric = name.removeprefix("val_")
    if name == "train_loss" or metric in known:
        more = name != "train_loss" and known[metric]
        if plateau and plateau != ("max" if more else "min"):
            amount = "more" if more else "less"
            yield f"ReduceLROnPlateau has mode {plateau}, but {amount} {name} is better"
    elif "metrics" in given or not name.startswith("val_"):
        yield (
            f"{users[0]} needs to know whether more or less {metric} is better: "
            f"mode: {{{metric}: max}} or min"
        )


def monitored(given: Mapping[str, Any]) -> str | None:
    """The figure by which evaluations are compared; ``None`` if metrics are not known."""
    if given.get("monitor"):
        return str(given["monitor"])
    first = next(iter(given.get("metrics") or {}), None)
    return f"val_{first}" if first else None


def directions(metrics: Mapping[str, Any], mode: Mapping[str, str]) -> dict[str, bool]:
    """Whether more is better, for each metric (or its spec) of which that is known."""
    found = {
        name: getattr(_class(metric), "higher_is_better", True) for name, metric in metrics.items()
    }
    found |= {name: which == "max" for name, which in mode.items()}
    return {name: bool(more) for name, more in found.items() if more is not None}


def _class(part: Any) -> Any:
    """What a spec names, if it has been imported: reading settings imports nothing."""
    if not isinstance(part, Mapping):
        return part
    module, _, name = str(part.get("class_path")).rpartition(".")
    return getattr(sys.modules.get(module), name, None)


def _plateau(schedule: Any) -> str:
    """The mode of a schedule that wants a figure, so far as a spec says it; else empty."""
    found = _class(schedule) if isinstance(schedule, Mapping) else None
    if not (inspect.isclass(found) and issubclass(found, ReduceLROnPlateau)):
        return ""
    return str((schedule.get("init_args") or {}).get("mode", "min"))
