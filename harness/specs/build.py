"""From ``class_path`` and ``init_args`` to objects, checked with jsonargparse.

Only declared packages may be named, so that reading a spec never imports anything else; of
libraries only the classes that a model, a loss, a metric or an optimizer is made of, for among
their functions are some that download and run code.
Parameters named in ``given`` (``root``, ``seed``) are supplied by the runner and must not
stand in a spec. ``${data.<name>}`` stands for an integer that the dataset provides.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from types import ModuleType
from typing import Any

from harness import paths

OURS = ("experiments", "baselines", "harness.procedures", "harness.loading")
LIBRARIES = (
    "torch.nn",
    "torch.optim",
    "torchmetrics",
    "lightning.pytorch.callbacks",
    "pytorch_lightning.callbacks",
    "torch_geometric.nn",
    "torch_geometric.transforms",
    "neuralop",
    "snntorch",
    "gpytorch",
    "transformers",
)
_declared: ContextVar[tuple[str, ...]] = ContextVar("packages", default=())
_BASES = (
    "torch_geometric.transforms.base_transform",
    "lightning.pytorch.callbacks.callback",
    "pytorch_lightning.callbacks.callback",
)
_REFERENCE = re.compile(r"^\$\{data\.([a-z_][a-z0-9_]*)\}$")


class BuildError(ValueError):
    """A class path or its arguments are wrong; the message says what would be right."""


class MissingPackage(BuildError):
    """What a class is made with is not installed; ``package`` is the name it is imported by."""

    def __init__(self, message: str, package: str) -> None:
        super().__init__(message)
        self.package = package


@contextlib.contextmanager
def declaring(packages: Iterable[str]) -> Iterator[None]:
    """Let classes of a paper's own packages be named for a while, too."""
    token = _declared.set(tuple(packages))
    try:
        yield
    finally:
        _declared.reset(token)


def _ours() -> tuple[str, ...]:
    """Packages of which everything may be named."""
    return (*OURS, *_declared.get())


def _packages() -> tuple[str, ...]:
    return (*_ours(), *LIBRARIES)


def import_callable(class_path: str) -> Callable[..., Any]:
    """Import a class or function by its dotted path.

    Raises:
        BuildError: for a package that may not be named, a module or a name that does not exist.
        MissingPackage: for a package that is not installed.
    """
    module_name, _, name = class_path.rpartition(".")
    steps = class_path.split(".")
    if not (all(map(str.isidentifier, steps)) and module_name and _within(class_path, _packages())):
        raise BuildError(
            f"{class_path!r} may not be named: only {', '.join(_packages())} may, and packages of "
            "your own that the spec names (`packages: [lab]`)"
        )
    if str(paths.root()) not in sys.path:
        sys.path.insert(0, str(paths.root()))
    module = _import(module_name, class_path)
    try:
        found = getattr(module, name)
    except AttributeError:
        raise BuildError(_no_such_name(module_name, name)) from None
    if not callable(found):
        raise BuildError(f"{class_path} is not a class or function")
    _refuse_strangers(class_path, found)
    return found  # type: ignore[no-any-return]


def _import(module_name: str, class_path: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        message = f"cannot import {class_path}: no module named {error.name!r}"
        if package and importlib.util.find_spec(package) is None:
            raise MissingPackage(message, package) from error
        raise BuildError(message) from error
    except Exception as error:  # a module's own mistake may be of any kind
        raise BuildError(f"cannot import {class_path}: {_short(error)}") from error


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {_one_line(error)}"


def _within(path: str, packages: tuple[str, ...]) -> bool:
    return any(path.startswith(f"{package}.") for package in packages)


def _refuse_strangers(class_path: str, found: Any) -> None:
    """Refuse what a permitted module merely imports, and functions of libraries."""
    defined = f"{getattr(found, '__module__', '')}."
    roots = tuple(package.split(".")[0] for package in _packages())
    if not _within(defined, _packages() if _within(class_path, _ours()) else roots):
        raise BuildError(f"{class_path!r} may not be named: it is defined in {defined[:-1]!r}")
    if not _within(class_path, _ours()) and not _is_part(found):
        raise BuildError(
            f"{class_path!r} may not be named: of libraries only classes of modules, "
            "optimizers, schedules, transforms and callbacks may"
        )


def _is_part(found: Any) -> bool:
    """Whether this is a class of which models and their training are made."""
    import torch

    kinds = (torch.nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)
    bases = inspect.getmro(found) if inspect.isclass(found) else ()
    return any(b in kinds or b.__module__ in _BASES for b in bases)


def _no_such_name(module_name: str, name: str) -> str:
    from difflib import get_close_matches

    public = [n for n in vars(importlib.import_module(module_name)) if not n.startswith("_")]
    close = get_close_matches(name, public, n=1)
    return f"{module_name} has no {name!r}" + (f"; did you mean {close[0]!r}?" if close else "")


def check(config: Mapping[str, Any], given: frozenset[str] = frozenset()) -> None:
    """Check a class path and its arguments against the signature, without building anything.

    Raises:
        BuildError: naming the argument.
    """
    _parse(config["class_path"], _with_dims(config.get("init_args", {}), None), given)


def build(
    config: Mapping[str, Any],
    dims: Mapping[str, int] | None = None,
    given: Mapping[str, Any] | None = None,
) -> Any:
    """Build (or call) what ``config`` names; ``given`` are arguments the spec does not set.

    Of ``given`` only those are passed that the signature has.
    """
    given = dict(given or {})
    arguments = _with_dims(config.get("init_args", {}), dims or {})
    target, parser, parsed = _parse(config["class_path"], arguments, frozenset(given))
    values = parser.instantiate_classes(parsed).as_dict().get("it") or {}
    supplied = {name: given[name] for name in parameters(target) if name in given}
    return target(**{**values, **supplied})


def parameters(target: Callable[..., Any]) -> list[str]:
    """Names of the parameters of a class's constructor or a function."""
    return list(inspect.signature(target).parameters)


def class_paths(config: Any) -> Iterator[str]:
    """Every ``class_path`` in a nested configuration."""
    if isinstance(config, Mapping):
        if isinstance(config.get("class_path"), str):
            yield config["class_path"]
        for value in config.values():
            yield from class_paths(value)
    elif isinstance(config, list):
        for value in config:
            yield from class_paths(value)


def _parse(class_path: str, init_args: Any, given: frozenset[str]) -> Any:
    from jsonargparse import ArgumentParser, set_parsing_settings

    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=list(_packages()))
    for nested in class_paths(init_args):
        import_callable(nested)
    target = import_callable(class_path)
    known = parameters(target)
    _refuse_unknown(class_path, init_args, [name for name in known if name not in given], target)
    parser = ArgumentParser(exit_on_error=False)
    skip: set[str | int] = set(given & set(known))
    if inspect.isclass(target):
        parser.add_class_arguments(target, "it", skip=skip, instantiate=False, fail_untyped=False)
    else:
        parser.add_function_arguments(target, "it", skip=skip, fail_untyped=False)
    try:
        parsed = parser.parse_object({"it": dict(init_args)} if init_args else {})
    except Exception as error:  # jsonargparse wraps what a type raised in several classes
        raise BuildError(f"{class_path}: {_one_line(error)}") from error
    return target, parser, parsed


def _refuse_unknown(class_path: str, init_args: Any, known: list[str], target: Any) -> None:
    from difflib import get_close_matches

    kinds = {p.kind for p in inspect.signature(target).parameters.values()}
    if inspect.Parameter.VAR_KEYWORD in kinds:
        return
    for name in init_args:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it takes {', '.join(known)}"
            raise BuildError(f"{class_path} has no argument {name!r}; {hint}")


def _one_line(error: Exception) -> str:
    text = re.sub(r"\s+", " ", str(error)).replace("it.", "")
    return text.removeprefix("Parser key ").strip()[:400]


def _with_dims(value: Any, dims: Mapping[str, int] | None) -> Any:
    """Replace ``${data.x}`` by the dataset's ``dims``; by 2 when only checking (``None``)."""
    if isinstance(value, Mapping):
        return {key: _with_dims(item, dims) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_dims(item, dims) for item in value]
    if isinstance(value, str) and (match := _REFERENCE.match(value)):
        if dims is None:
            return 2
        if match[1] not in dims:
            raise BuildError(f"the dataset has no {value}; it has {', '.join(dims) or 'none'}")
        return dims[match[1]]
    return value
