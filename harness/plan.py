"""Paper and tier become trials: which, with what identity, and whether they are fresh."""

from __future__ import annotations

import functools
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from harness.fingerprint import code_fingerprint
from harness.records import Record, RecordStore
from harness.resolve import Limits as Limits
from harness.resolve import PlanError as PlanError
from harness.resolve import Settings as Settings
from harness.resolve import inherited as inherited
from harness.resolve import matches as matches
from harness.resolve import merge as merge
from harness.resolve import settings as settings
from harness.resolve import tier_of as tier_of
from harness.resolve import with_fabric as with_fabric
from harness.specs.build import class_paths
from harness.specs.schema import Paper, Tier
from harness.specs.types import Evidence

State = Literal["fresh", "stale", "failed", "missing"]


@dataclass(frozen=True)
class PlannedTrial:
    """One trial, with everything that a worker needs to run it.

    ``id`` hashes what is measured (settings, dataset and its fingerprint, fold, seed); ``code``
    fingerprints how, and ``contents`` which version of data whose checksums only this machine
    knows. Limits belong to none of them, nor whether weights are kept.
    """

    id: str
    paper: str
    tier: str
    variant: str
    dataset: str
    fold: dict[str, Any]
    seed: int
    config: dict[str, Any]
    protocol: Literal["paper", "reduced"]
    sources: dict[str, str]
    data: str
    code: str
    limits: Limits
    contents: str = ""
    keep: bool = False
    packages: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        fold = "".join(f" {k} {v}" for k, v in self.fold.items())
        return f"{self.variant} on {self.dataset}{fold}, seed {self.seed}"


@dataclass(frozen=True)
class Choice:
    """What a tier's slot came to: the dataset used, and those preferred that were missing."""

    dataset: str | None
    missing: tuple[str, ...] = ()


def slots(tier: Tier) -> list[list[str]]:
    """The tier's datasets as lists of preference."""
    return [[slot] if isinstance(slot, str) else list(slot) for slot in tier.datasets]


def choose(tier: Tier, available: Callable[[str], bool]) -> list[Choice]:
    """For each slot the first available dataset (``None`` if there is none)."""
    choices = []
    for slot in slots(tier):
        chosen = next((name for name in slot if available(name)), None)
        missing = slot[: slot.index(chosen)] if chosen else slot
        choices.append(Choice(chosen, tuple(missing)))
    return choices


def variants_on(paper: Paper, tier: Tier, dataset: str) -> list[str]:
    """The variants that this tier runs on a dataset."""
    return [
        name
        for name in paper.variants
        if matches(tier.variants, name)
        and matches(inherited(paper, name).datasets or ["*"], dataset)
    ]


def procedures(paper: Paper, tier_name: str, variants: Sequence[str] | None) -> dict[str, str]:
    """The class path of the procedure that runs each variant of a tier.

    Args:
        variants: patterns; only these.
    """
    tier = tier_of(paper, tier_name)
    _check_patterns(paper, variants)
    return {
        variant: settings(paper, tier_name, variant, dataset).config["procedure"]["class_path"]
        for dataset in dict.fromkeys(name for slot in slots(tier) for name in slot)
        for variant in variants_on(paper, tier, dataset)
        if variants is None or matches(list(variants), variant)
    }


def plan(
    paper: Paper,
    tier_name: str,
    datasets: Iterable[str],
    seeds: int | range | None = None,
    variants: Sequence[str] | None = None,
) -> list[PlannedTrial]:
    """All trials of a tier on the given datasets, seed by seed, so that a run that is stopped
    early has whole seeds.

    Args:
        seeds: instead of the tier's number of seeds.
        variants: patterns; only these.

    Raises:
        PlanError: an unknown tier or variant, or more seeds than the data have splits.
    """
    tier = tier_of(paper, tier_name)
    _check_patterns(paper, variants)
    code_of = functools.cache(code_fingerprint)
    trials = []
    for dataset in dict.fromkeys(datasets):
        for variant in variants_on(paper, tier, dataset):
            if variants is None or matches(list(variants), variant):
                resolved = settings(paper, tier_name, variant, dataset)
                _check_splits(paper, dataset, resolved.seed_range(seeds))
                for fold in folds(paper, dataset):
                    cell = (paper, tier_name, variant, dataset, fold)
                    first = make_trial(*cell, 0, resolved, code_of)
                    trials += [with_seed(first, s) for s in resolved.seed_range(seeds)]
    return sorted(trials, key=lambda trial: trial.seed)


def _check_patterns(paper: Paper, variants: Sequence[str] | None) -> None:
    for pattern in variants or []:
        if not any(matches(pattern, name) for name in paper.variants):
            names = ", ".join(paper.variants)
            raise PlanError(f"{paper.key} has no variant {pattern!r}; it has {names}")


def _check_splits(paper: Paper, dataset: str, seeds: range) -> None:
    splits = paper.datasets[dataset].splits
    if splits is not None and seeds.stop > splits:
        raise PlanError(
            f"{dataset} has {splits} splits, one for each seed from 0 to {splits - 1}: "
            f"seed {seeds.stop - 1} would be one of them again"
        )


def folds(paper: Paper, dataset: str) -> list[dict[str, Any]]:
    """The folds of a dataset, each the init argument it sets."""
    spec = paper.datasets[dataset].folds
    return [{name: value} for name, values in spec.items() for value in values] or [{}]


def make_trial(
    paper: Paper,
    tier_name: str,
    variant: str,
    dataset: str,
    fold: dict[str, Any],
    seed: int,
    resolved: Settings,
    code_of: Callable[[frozenset[str], tuple[str, ...]], str] = code_fingerprint,
) -> PlannedTrial:
    """Compute one trial's identity.

    Args:
        code_of: fingerprint of the code behind class paths; a caller with many trials caches it.
    """
    from harness.data import contents, fingerprint

    sources = paper.datasets[dataset].entries
    config = merge(resolved.config, {"data": {"init_args": fold}} if fold else {})
    data = _joined({name: fingerprint(entry) for name, entry in sources.items()})
    return PlannedTrial(
        id=identity(paper.key, variant, dataset, config, data, seed),
        paper=paper.key,
        tier=tier_name,
        variant=variant,
        dataset=dataset,
        fold=fold,
        seed=seed,
        config=config,
        protocol=resolved.protocol,
        sources=sources,
        data=data,
        code=code_of(frozenset(class_paths(config)), tuple(paper.packages)),
        limits=resolved.limits,
        contents=_joined({name: contents(entry) for name, entry in sources.items()}),
        keep="weights" in (paper.tiers[tier_name].keep, inherited(paper, variant).keep),
        packages=tuple(paper.packages),
    )


def _joined(marks: Mapping[str, str]) -> str:
    """One mark for what several parameters are given; that of a single ``root`` is its own."""
    if set(marks) <= {"root"} or not any(marks.values()):
        return marks.get("root", "")
    return hashlib.sha256(json.dumps(marks, sort_keys=True).encode()).hexdigest()[:16]


def with_seed(trial: PlannedTrial, seed: int) -> PlannedTrial:
    """The same trial with another seed; code and settings are not looked at again."""
    parts = (trial.paper, trial.variant, trial.dataset, trial.config, trial.data)
    return replace(trial, id=identity(*parts, seed), seed=seed)


def identity(
    paper: str, variant: str, dataset: str, config: dict[str, Any], data: str, seed: int
) -> str:
    """A trial's id: a hash of what is measured."""
    parts = {
        "paper": paper,
        "variant": variant,
        "dataset": dataset,
        "config": config,
        "data": data,
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def outdated(trial: PlannedTrial, record: Record) -> bool:
    """Whether code, or data that are known by their contents alone, are not those of the record."""
    made = record.provenance
    return made.code != trial.code or trial.contents not in ("", made.data)


def state(trial: PlannedTrial, record: Record | None) -> State:
    """Whether a trial needs to be run: everything but ``fresh`` does."""
    if record is None:
        return "missing"
    if record.status != "done":
        return "failed"
    return "stale" if outdated(trial, record) else "fresh"


def states(trials: Iterable[PlannedTrial], store: RecordStore) -> dict[str, State]:
    """The state of each trial by id."""
    return {t.id: state(t, store.read(t.paper, t.tier, t.id)) for t in trials}


def groups(trials: Iterable[PlannedTrial], together: int) -> list[list[PlannedTrial]]:
    """Trials that one process runs: those that differ only by seed, at most ``together``."""
    cells: dict[str, list[PlannedTrial]] = defaultdict(list)
    for trial in trials:
        key = json.dumps([trial.variant, trial.dataset, trial.fold, trial.config], sort_keys=True)
        cells[key if together > 1 else trial.id].append(trial)
    size = max(together, 1)
    return [cell[i : i + size] for cell in cells.values() for i in range(0, len(cell), size)]


def planner(paper: Paper) -> Callable[[Record], PlannedTrial | None]:
    """A function from a record to the trial it would be today.

    It gives ``None`` where the spec no longer has that trial: another variant, dataset or fold,
    or settings that resolve to another identity. All seeds of a fold share what is resolved.
    """
    seed_zero: dict[str, PlannedTrial | None] = {}
    code_of = functools.cache(code_fingerprint)

    def resolve(record: Record) -> PlannedTrial | None:
        """The trial of the record's fold with seed 0."""
        cell = (record.tier, record.variant, record.dataset)
        if (
            record.tier not in paper.tiers
            or record.variant not in paper.variants
            or record.dataset not in paper.datasets
            or record.fold not in folds(paper, record.dataset)
        ):
            return None
        return make_trial(paper, *cell, record.fold, 0, settings(paper, *cell), code_of)

    def trial_of(record: Record) -> PlannedTrial | None:
        key = json.dumps([record.tier, record.variant, record.dataset, record.fold], sort_keys=True)
        if key not in seed_zero:
            seed_zero[key] = resolve(record)
        like = seed_zero[key]
        trial = with_seed(like, record.seed) if like else None
        return trial if trial and trial.id == record.trial else None

    return trial_of


def certainties(paper: Paper) -> tuple[set[str], dict[str, float]]:
    """What is known of errors: the deterministic variants, and datasets whose splits overlap."""
    deterministic = {name for name in paper.variants if inherited(paper, name).deterministic}
    ratios = {name: d.test_over_train for name, d in paper.datasets.items()}
    return deterministic, {name: ratio for name, ratio in ratios.items() if ratio is not None}


def evidence(paper: Paper, dataset: str, protocol: str) -> Evidence:
    """How comparable measurements on a dataset with a protocol are to the paper's claims."""
    if paper.datasets[dataset].evidence == "stand-in":
        return "stand-in"
    return "reduced" if protocol == "reduced" else "paper"
