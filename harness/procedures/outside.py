"""What a model keeps outside its ``state_dict``: it has to survive an interruption, too.

Checkpoints hold a model's buffers with ``persistent=False``, plain attributes (counters, flags,
running tensors) of the model and of the recipe, and modules that belong to the recipe. Attributes
of other kinds are watched: where one has changed, no checkpoint is written, and an interrupted
training starts afresh instead of going on from half of what it was.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from harness.procedures.recipe import Recipe

_MODULE = frozenset(vars(nn.Module()))
_RECIPE = frozenset(vars(Recipe()))
_NUMBERS_AND_TEXT = (type(None), bool, int, float, str)


class Unkept(RuntimeError):
    """Something has changed in training that no checkpoint can hold."""


class Outside:
    """State of a model and of the recipe it is trained by that is in no ``state_dict``."""

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        inner = {f"model.{path}".rstrip("."): module for path, module in model.named_modules()}
        known = {id(module) for module in inner.values()}
        own = {f"recipe.{k}": v for k, v in vars(recipe).items() if isinstance(v, nn.Module)}
        own = {name: module for name, module in own.items() if id(module) not in known}
        self._modules = own
        self._owners = {**inner, "recipe": recipe}
        for name, module in own.items():
            self._owners |= {
                f"{name}.{path}".rstrip("."): part for path, part in module.named_modules()
            }
        self._before = dict(self._marks())

    def state(self) -> dict[str, Any]:
        """What can be kept.

        Raises:
            Unkept: something else has changed.
        """
        for name, mark in self._marks():
            if self._before.get(name) != mark:
                raise Unkept(f"{name} changes in training and is no tensor, number or text")
        return {
            "modules": {name: module.state_dict() for name, module in self._modules.items()},
            "attributes": {name: dict(_kept(owner)) for name, owner in self._owners.items()},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        for name, module in self._modules.items():
            module.load_state_dict(state["modules"][name])
        for name, owner in self._owners.items():
            for attribute, value in state["attributes"][name].items():
                _put(owner, attribute, value)

    def _marks(self) -> Iterator[tuple[str, str]]:
        """Of attributes that cannot be kept: by these a change is noticed."""
        registered = {
            id(tensor)
            for owner in self._owners.values()
            if isinstance(owner, nn.Module)
            for tensor in (*owner._parameters.values(), *owner._buffers.values())
        }
        for name, owner in self._owners.items():
            for attribute, value in _attributes(owner):
                if not plain(value) and not isinstance(value, nn.Module):
                    yield f"{name}.{attribute}", _mark(value, registered)


def _put(owner: Any, attribute: str, value: Any) -> None:
    buffers = owner._buffers if isinstance(owner, nn.Module) else {}
    here = buffers if attribute in buffers else vars(owner)
    current = here.get(attribute)
    if isinstance(current, Tensor) and isinstance(value, Tensor):
        value = value.to(current.device)
    here[attribute] = value


def _attributes(owner: Any) -> Iterator[tuple[str, Any]]:
    known = _MODULE if isinstance(owner, nn.Module) else _RECIPE
    for attribute, value in vars(owner).items():
        if attribute not in known:
            yield attribute, value


def _kept(owner: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(owner, nn.Module):
        for name in owner._non_persistent_buffers_set:
            yield name, owner._buffers[name]
    for attribute, value in _attributes(owner):
        if plain(value):
            yield attribute, value.detach() if isinstance(value, Tensor) else value


def plain(value: Any) -> bool:
    """Whether a checkpoint can hold it: tensors, numbers, text, and collections of these."""
    if type(value) is dict:
        return all(map(plain, (*value.keys(), *value.values())))
    if type(value) in (list, tuple):
        return all(map(plain, value))
    return type(value) is Tensor or type(value) in _NUMBERS_AND_TEXT


def same(one: Any, other: Any) -> bool:
    """Whether two states that were kept are equal."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and bool((one == other).all())
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            same(value, other[key]) for key, value in one.items()
        )
    if isinstance(one, list | tuple) and type(one) is type(other):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


class _Marker(pickle.Pickler):
    """Leaves out tensors that some module keeps: recurrent layers list their weights once more."""

    def __init__(self, file: io.BytesIO, registered: set[int]) -> None:
        super().__init__(file)
        self.registered = registered

    def persistent_id(self, value: Any) -> str | None:
        return "registered" if id(value) in self.registered else None


def _mark(value: Any, registered: set[int]) -> str:
    """A digest of the content; empty for what has none to tell (closures and the like)."""
    file = io.BytesIO()
    try:
        _Marker(file, registered).dump(value)
    except Exception:  # whatever an object's own __reduce__ raises
        return ""
    return hashlib.blake2b(file.getvalue(), digest_size=16).hexdigest()
