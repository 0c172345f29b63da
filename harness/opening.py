"""From planned trials to what their procedure gets: data and models built, generators seeded.

Freshness follows this module: what it does decides which random numbers a trial sees.
"""

from __future__ import annotations

import inspect
import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness import weights
from harness.desk import Curves, Desk, Setting
from harness.plan import PlannedTrial
from harness.procedures.base import Outcome, Progress, Trial
from harness.seeding import seed_all
from harness.specs.build import build, import_callable, parameters

if TYPE_CHECKING:
    from torch import nn


def outcomes(
    desks: Sequence[Desk], setting: Setting, report: Callable[[str, Progress], None] | None
) -> list[Outcome | Exception]:
    """Build what the spec names and run it; data that no seed changes is loaded once."""
    loaded: dict[str, Any] = {}
    trials = [_open(desk, setting, report, loaded) for desk in desks]
    procedure = build(desks[0].trial.config["procedure"], _dims(trials[0].data))
    seed_all(trials[0].seed, "trial")
    if len(trials) > 1:
        return list(procedure.run_together(trials))
    return [procedure.run(trials[0])]


def _dims(data: Any) -> dict[str, int]:
    dims = getattr(data, "dims", {})
    return dict(dims) if isinstance(dims, Mapping) else {}  # data modules once had a tuple there


def _data(planned: PlannedTrial, setting: Setting, loaded: dict[str, Any]) -> Any:
    """What the dataset's callable returns, or returned before where it takes no seed."""
    config = planned.config["data"]
    if not config["class_path"]:
        return None
    given = {"seed": planned.seed, **_folders(planned, setting)}
    key = json.dumps(config, sort_keys=True)
    if key not in loaded:
        seed_all(planned.seed, "data")
        before = _generators()
        data = build(config, given=given)
        takes = inspect.signature(import_callable(config["class_path"])).parameters
        if "seed" in takes or _generators() != before:
            return data
        loaded[key] = data
    return loaded[key]


def _generators() -> tuple[Any, ...]:
    """States of the global random generators; they tell whether something was drawn."""
    import numpy as np
    import torch

    numpy_state: Any = np.random.get_state(legacy=False)
    keys, position = numpy_state["state"]["key"].tobytes(), numpy_state["state"]["pos"]
    return random.getstate(), keys, position, torch.get_rng_state().numpy().tobytes()


def _open(
    desk: Desk,
    setting: Setting,
    report: Callable[[str, Progress], None] | None,
    loaded: dict[str, Any],
) -> Trial:
    """Load the data and make the trial that the procedure gets."""
    import torch

    planned = desk.trial
    data = _data(planned, setting, loaded)
    dims = _dims(data)
    folders = {name: path for name, path in _folders(planned, setting).items() if name != "root"}
    curves = Curves(desk.folder / "curves.csv")

    def publish(progress: Progress) -> None:
        if report is not None:
            curves.add(progress)
            report(planned.id, progress)

    def keep(model: nn.Module) -> None:
        weights.write(planned, dims, model)

    return Trial(
        seed=planned.seed,
        data=data,
        model=lambda: build(planned.config["model"], dims, folders),
        device=torch.device(desk.accelerator),
        workdir=desk.folder,
        accelerator=desk.accelerator,
        report=publish,
        checkpoints=desk.checkpoints,
        config={**planned.config, "procedure": _with_defaults(planned.config["procedure"])},
        parts=desk.parts(setting),
        keep=keep if planned.keep and report else lambda model: None,
    )


def _with_defaults(procedure: dict[str, Any]) -> dict[str, Any]:
    """With ``None`` for arguments that the spec leaves at their defaults."""
    given = procedure.get("init_args", {})
    names = parameters(import_callable(procedure["class_path"]))
    return {**procedure, "init_args": {**dict.fromkeys(names), **given}}


def _folders(planned: PlannedTrial, setting: Setting) -> dict[str, Any]:
    """The folders of public files, by the parameters that take them."""
    return {name: setting.roots[entry] for name, entry in planned.sources.items()}
