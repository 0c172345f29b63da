"""Trained models that a spec keeps (``keep: weights``): safetensors in the trial's working folder.

A file says which trial and code it belongs to, so that weights of an earlier run are never taken
for those of a record; and the sizes that the data gave, so that a model can be built without them.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness import paths
from harness.plan import PlannedTrial
from harness.records import Record

if TYPE_CHECKING:  # the process that plans and displays does not need torch
    from torch import nn

_log = logging.getLogger(__name__)


class NoWeights(LookupError):
    """The weights of a record are not on this machine, or are those of another run."""


def path(trial: PlannedTrial | Record) -> Path:
    """Where the weights of a trial's model are, if they were kept."""
    key = trial.id if isinstance(trial, PlannedTrial) else trial.trial
    return paths.workdir(trial.paper, trial.tier, key) / "model.safetensors"


def write(trial: PlannedTrial, dims: Mapping[str, int], model: nn.Module) -> None:
    """Write a model's weights whole or not at all; where that is impossible, the trial goes on."""
    from safetensors.torch import save_model

    target = path(trial)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    about = {"trial": trial.id, "code": trial.code, "dims": json.dumps(dict(dims))}
    try:
        save_model(model, str(temporary), metadata=about)
        os.replace(temporary, target)
    except (OSError, ValueError, RuntimeError) as error:  # the last two: of safetensors
        _log.warning("weights are not kept: %s", error)
    finally:
        temporary.unlink(missing_ok=True)


def load_model(record: Record) -> nn.Module:
    """The trained model of a record, in evaluation mode on the CPU.

    Args:
        record: one of ``reproduce(…).records`` whose variant or tier says ``keep: weights``.

    Raises:
        NoWeights: they were not kept, or belong to another run than the record.
        BuildError: the record names something that is no model.
    """
    from safetensors import safe_open
    from safetensors.torch import load_model as load_into

    from harness.specs import catalog
    from harness.specs.build import build, declaring
    from harness.specs.kinds import refuse_others

    file = path(record)
    again = f"`harness run {record.paper} --tier {record.tier} --variant {record.variant} --force`"
    if not file.is_file():
        raise NoWeights(
            f"no weights of {record.variant}, seed {record.seed}: say `keep: weights` for the "
            f"variant or the tier, then {again}"
        )
    with safe_open(file, "pt") as content:
        about = content.metadata() or {}
    if (about.get("trial"), about.get("code")) != (record.trial, record.provenance.code):
        raise NoWeights(f"the weights of {record.variant} are those of another run; {again}")
    packages = tuple(catalog.load(record.paper).packages)
    with declaring(packages):
        refuse_others("model", record.config["model"], packages)
        model: nn.Module = build(record.config["model"], json.loads(about["dims"]))
    load_into(model, file)
    return model.eval()
