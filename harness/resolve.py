"""What a variant comes to on a dataset at a tier: settings merged, limits, seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatch
from typing import Any, Literal

from harness.specs.schema import Override, Paper, Schedule, Tier, Variant

MOST_LIKES = 20


class PlanError(ValueError):
    """The plan asks for a tier, variant or dataset that the paper does not have."""


@dataclass(frozen=True)
class Limits:
    """What a trial may take: seconds, bytes, processors and devices of its machine.

    ``alone``: nothing else of the run may run beside it.
    """

    timeout: float
    memory: float | None = None
    cpus: int = 1
    gpus: float = 0.0
    alone: bool = False


@dataclass(frozen=True)
class Settings:
    """Resolved settings of a variant on a dataset at a tier, all seeds alike.

    ``schedule`` says that seeds are added until claims are decided, from ``seeds`` on.
    """

    config: dict[str, Any]
    protocol: Literal["paper", "reduced"]
    seeds: int
    limits: Limits
    deterministic: bool = False
    schedule: Schedule | None = None

    def seed_range(self, wanted: int | range | None) -> range:
        """The seeds to run: those asked for, else the tier's; a single one suffices if nothing
        depends on it."""
        if self.deterministic:
            return range(1)
        return wanted if isinstance(wanted, range) else range(wanted or self.seeds)


def merge(base: Any, over: Any) -> Any:
    """Merge mappings key by key; a different ``class_path`` replaces instead."""
    if not (isinstance(base, Mapping) and isinstance(over, Mapping)):
        return over
    if "class_path" in over and over["class_path"] != base.get("class_path"):
        return dict(over)
    merged = dict(base)
    for key, value in over.items():
        merged[key] = merge(merged[key], value) if key in merged else value
    return merged


def tier_of(paper: Paper, name: str) -> Tier:
    """The tier of this name.

    Raises:
        PlanError: naming those that exist.
    """
    if name not in paper.tiers:
        raise PlanError(f"{paper.key} has no tier {name!r}; it has {', '.join(paper.tiers)}")
    return paper.tiers[name]


def inherited(paper: Paper, name: str) -> Variant:
    """A variant with what it takes over from the one it is ``like``."""
    seen: list[str] = []
    chain: list[Variant] = []
    current: str | None = name
    while current is not None:
        if current in seen or current not in paper.variants:
            raise PlanError(
                f"variant {name!r}: like {current!r} goes in a circle or does not exist"
            )
        if len(seen) == MOST_LIKES:
            raise PlanError(f"variant {name!r}: more than {MOST_LIKES} like one another in turn")
        seen.append(current)
        chain.append(paper.variants[current])
        current = chain[-1].like
    merged: dict[str, Any] = {}
    for variant in reversed(chain):
        merged = merge(merged, variant.model_dump(exclude_defaults=True))
    return Variant.model_validate(merged)


def settings(paper: Paper, tier_name: str, variant_name: str, dataset_name: str) -> Settings:
    """Merge what the paper, the variant, the paper's overrides, the tier and its overrides set,
    in this order."""
    tier, variant = tier_of(paper, tier_name), inherited(paper, variant_name)
    dataset = paper.datasets[dataset_name]
    procedure = merge(paper.procedure.model_dump(), variant.procedure)
    model: Any = paper.model
    if variant.model is not None:
        model = merge(model or {}, variant.model)
    data: Any = {"class_path": dataset.class_path, "init_args": dataset.init_args}
    data = merge(data, variant.data)
    protocol, seeds = tier.protocol, tier.seeds
    limits = Limits(tier.timeout, tier.memory, tier.cpus, tier.gpus)
    for override in [*paper.overrides, Override(procedure=tier.procedure), *tier.overrides]:
        if applies(override, variant_name, dataset_name):
            procedure = merge(procedure, override.procedure)
            model = merge(model, override.model) if override.model else model
            data = merge(data, override.data)
            protocol = override.protocol or protocol
            seeds = override.seeds or seeds
            limits = _limited(limits, override)
    config = {"procedure": procedure, "model": model, "data": data}
    if isinstance(seeds, Schedule):
        return Settings(config, protocol, seeds.start, limits, variant.deterministic, seeds)
    return Settings(config, protocol, seeds, limits, variant.deterministic)


def _limited(limits: Limits, override: Override) -> Limits:
    given = {field.name: getattr(override, field.name) for field in fields(Limits)}
    return replace(limits, **{name: value for name, value in given.items() if value is not None})


def with_fabric(paper: Paper, tier_name: str, fabric: Mapping[str, Any]) -> Paper:
    """The paper with arguments of Lightning's Fabric for all trials of a tier.

    They are settings like any other, and so part of a trial's identity.
    """
    tier = tier_of(paper, tier_name)
    override = Override(procedure={"init_args": {"fabric": dict(fabric)}})
    changed = tier.model_copy(update={"overrides": [*tier.overrides, override]})
    return paper.model_copy(update={"tiers": {**paper.tiers, tier_name: changed}})


def applies(override: Override, variant: str, dataset: str) -> bool:
    """Whether an override's patterns match."""
    return matches(override.when.variant, variant) and matches(override.when.dataset, dataset)


def matches(patterns: str | list[str], name: str) -> bool:
    """Whether any of the shell-style patterns matches."""
    return any(fnmatch(name, p) for p in ([patterns] if isinstance(patterns, str) else patterns))
