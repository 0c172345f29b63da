"""Classes of Lightning belong to the procedure that trains them, and other classes to the others.

Fit would take a LightningModule for a plain module and never call its ``training_step``.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from harness.specs.build import import_callable

TRAINER = "harness.procedures.lightning.Trainer"
WAY = f"`procedure: {{class_path: {TRAINER}, …}}` (docs/lightning.md)"
PACKAGES = ("lightning.", "pytorch_lightning.")


def misplaced(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Of a trial's settings, the part that is wrong (``procedure``, ``model``, ``data``), and why.

    Raises:
        BuildError: a class cannot be imported.
    """
    class_path = config["procedure"]["class_path"]
    trains = class_path == TRAINER
    model, data = (_named(config, part) for part in ("model", "data"))
    if _is(model, "LightningModule") != trains and inspect.isclass(model):
        yield "model", _either(config["model"]["class_path"], "LightningModule", class_path, trains)
    if inspect.isclass(data) and _is(data, "LightningDataModule") != trains:
        name = config["data"]["class_path"]
        yield "data", _either(name, "LightningDataModule", class_path, trains)
    if trains:
        from harness.procedures.lightning import misuse

        if wrong := misuse(config["procedure"].get("init_args", {})):
            yield "procedure", wrong


def _either(name: str, kind: str, procedure: str, trains: bool) -> str:
    short = procedure.rpartition(".")[2]
    if trains:
        return f"{name} is no {kind}, which {procedure} trains; Fit takes plain modules and splits"
    return f"{name} is a {kind}, of which {short} calls no hook: train it by {WAY}"


def _named(config: Mapping[str, Any], part: str) -> Any:
    named = config.get(part) or {}
    return import_callable(named["class_path"]) if named.get("class_path") else None


def _is(found: Any, kind: str) -> bool:
    """Told by name, so that nothing imports Lightning that does not use it."""
    bases = inspect.getmro(found) if inspect.isclass(found) else ()
    return any(b.__name__ == kind and b.__module__.startswith(PACKAGES) for b in bases)
