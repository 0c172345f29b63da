"""What kind of thing each part of a spec may name: a spec is data, and calls nothing else.

Which packages may be named is decided where they are imported (:mod:`harness.specs.build`). Here it
is decided what of them: procedures, modules, loaders of data, and the classes that their arguments
are made of. Nothing that begins with an underscore, and no function but a loader.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from harness.specs.build import OURS, BuildError, import_callable

# They fetch a trained model from the network when they are made or first used.
DOWNLOADING = frozenset(
    {
        "ARNIQA",
        "BERTScore",
        "CLIPImageQualityAssessment",
        "CLIPScore",
        "DeepNoiseSuppressionMeanOpinionScore",
        "FrechetInceptionDistance",
        "InceptionScore",
        "InfoLM",
        "KernelInceptionDistance",
        "LearnedPerceptualImagePatchSimilarity",
        "MemorizationInformedFrechetInceptionDistance",
        "NonIntrusiveSpeechQualityAssessment",
        "PerceptualPathLength",
    }
)


def refuse_others(part: str, config: Mapping[str, Any], packages: tuple[str, ...] = ()) -> None:
    """Refuse what is not of the kind that a part of a trial's configuration takes.

    Args:
        part: ``procedure``, ``model`` or ``data``.
        config: with ``class_path`` and ``init_args``.
        packages: of the paper's own.

    Raises:
        BuildError: naming the class path, and what may stand there.
    """
    ours = (*OURS, *packages)
    path = config["class_path"]
    _KINDS[part](path, _public(path), ours)
    for nested in _named(config.get("init_args", {}), ours):
        _refuse_no_class(nested, _public(nested))


def _public(path: str) -> Callable[..., Any]:
    """What a path names, if it may be named by anybody.

    Raises:
        BuildError: a part of the path begins with an underscore, or it downloads a model.
    """
    if not isinstance(path, str):
        raise BuildError(f"a class path is text, not {path!r}")
    if any(step.startswith("_") for step in path.split(".")):
        raise BuildError(f"{path!r} may not be named: it is private")
    found = import_callable(path)
    if getattr(found, "__name__", "") in DOWNLOADING and path.startswith("torchmetrics."):
        raise BuildError(
            f"{path!r} may not be named: it downloads a trained model while a trial runs"
        )
    return found


def _procedure(path: str, found: Any, ours: tuple[str, ...]) -> None:
    lacking = [name for name in ("run", "produces") if not callable(getattr(found, name, None))]
    if not inspect.isclass(found) or lacking:
        what = f"it has no {' and no '.join(lacking)}" if lacking else "it is no class"
        raise BuildError(f"{path} is no procedure: {what}")


def _model(path: str, found: Any, ours: tuple[str, ...]) -> None:
    from torch import nn

    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        raise BuildError(f"{path} is no model: it is no subclass of torch.nn.Module")


def _data(path: str, found: Any, ours: tuple[str, ...]) -> None:
    """A class, or a function that says what it returns: a class of this project's."""
    homes = tuple(package for package in ours if package != "harness.procedures")
    returned = found if inspect.isclass(found) else _returned(found)
    known = inspect.isclass(returned) and _within(returned.__module__, ours)
    if not (known and _within(path, homes)):
        raise BuildError(
            f"{path} is no loader of data: a function says what it returns (`-> Splits`, or a "
            "class of yours that holds the data)"
        )


_KINDS = {"procedure": _procedure, "model": _model, "data": _data}


def _returned(function: Callable[..., Any]) -> Any:
    try:
        return typing.get_type_hints(function).get("return")
    except Exception:  # an annotation can be anything, and name what is not there
        return None


def _refuse_no_class(path: str, found: Any) -> None:
    if not inspect.isclass(found):
        raise BuildError(f"{path!r} may not be named: it is no class")
    if _within(found.__module__, ("harness",)) and not _is_part(found):
        raise BuildError(f"{path!r} may not be named: it is neither a module nor a procedure")


def _is_part(found: type) -> bool:
    from torch import nn

    return issubclass(found, nn.Module) or hasattr(found, "produces")


def _named(arguments: Any, ours: tuple[str, ...]) -> Iterator[Any]:
    """Every class path in nested arguments, and every text that is a path into the project."""
    if isinstance(arguments, Mapping):
        if "class_path" in arguments:
            yield arguments["class_path"]
        for key, value in arguments.items():
            if key != "class_path":
                yield from _named(value, ours)
    elif isinstance(arguments, list):
        for value in arguments:
            yield from _named(value, ours)
    elif isinstance(arguments, str) and _within(arguments, ours):
        yield from [arguments] if all(map(str.isidentifier, arguments.split("."))) else []


def _within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
