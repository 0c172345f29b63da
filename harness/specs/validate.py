"""Checks a spec beyond its schema: names agree, classes and arguments exist, metrics are made.

Every problem names file and line, says what is wrong and, where it can, what would be right.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from fnmatch import filter as glob
from typing import Any

from harness import plan
from harness.records import COSTS
from harness.specs import catalog, extras, modules, packages
from harness.specs.build import (
    BuildError,
    MissingPackage,
    check,
    declaring,
    import_callable,
    parameters,
)
from harness.specs.catalog import Problem, SpecError
from harness.specs.claims import Claim, _Quantity
from harness.specs.kinds import refuse_others
from harness.specs.schema import Override, Paper
from harness.specs.yamlfile import YamlFile

REQUIRED_TIERS = ("smoke", "cpu", "full")
Where = list[str | int]
GIVEN = frozenset({"root", "seed"})


def validate(key: str) -> list[Problem]:
    """All problems of a paper's spec; none if it can be run.

    Raises:
        UnknownPaper: there is no such paper.
    """
    path = catalog.spec_path(key)
    try:
        paper, source = catalog.read(path)
    except SpecError as error:
        return error.problems
    found = list(_Checks(paper, source).names())
    if found:
        return found
    with declaring(paper.packages):
        return list(dict.fromkeys(_Checks(paper, source).classes()))


class _Checks:
    def __init__(self, paper: Paper, source: YamlFile) -> None:
        self.paper = paper
        self.source = source
        self.missing: dict[str, None] = {}  # packages of the paper's extras, in order of discovery

    def _problem(self, where: Where, message: str) -> Problem:
        shown = ".".join(map(str, where))
        return Problem(self.source.path, self.source.line(where), f"{shown}: {message}")

    def _unknown(self, where: Where, kind: str, name: str, known: Sequence[str]) -> Problem:
        close = get_close_matches(name, known, n=1)
        names = ", ".join(known) if len(known) <= 12 else f"{', '.join(known[:6])}, …"
        hint = f"did you mean {close[0]!r}?" if close else f"known: {names}"
        return self._problem(where, f"no {kind} {name!r}; {hint}")

    def names(self) -> Iterator[Problem]:
        """References from one part of the spec to another."""
        for name in self.paper.extras:
            if (known := extras.declared()) and name not in known:
                yield self._unknown(["extra"], "extra", name, known)
        for index, name in enumerate(self.paper.packages):
            if wrong := packages.problem(name):
                yield self._problem(["packages", index], wrong)
        yield from self._dataset_names()
        yield from self._variant_names()
        yield from self._tier_names()
        for index, claim in enumerate(self.paper.claims):
            yield from self._claim_names(index, claim)

    def _dataset_names(self) -> Iterator[Problem]:
        from harness.data import catalogue

        known, public = list(self.paper.datasets), list(catalogue())
        for name, dataset in self.paper.datasets.items():
            where: Where = ["datasets", name]
            for other in dataset.stands_in_for:
                if other not in known:
                    yield self._unknown([*where, "stands_in_for"], "dataset", other, known)
            for name, entry in dataset.entries.items():
                if entry not in public:
                    at: Where = [*where, "sources", name] if name in dataset.sources else where
                    yield self._unknown(at, "entry in the data catalogue", entry, public)

    def _variant_names(self) -> Iterator[Problem]:
        variants, datasets = list(self.paper.variants), list(self.paper.datasets)
        for name, variant in self.paper.variants.items():
            where: Where = ["variants", name]
            try:
                plan.inherited(self.paper, name)
            except plan.PlanError as error:
                yield self._problem([*where, "like"], str(error))
            if variant.like and variant.like not in variants:
                yield self._unknown([*where, "like"], "variant", variant.like, variants)
            yield from self._patterns([*where, "datasets"], variant.datasets or [], datasets)

    def _patterns(
        self, where: Where, patterns: str | Sequence[str], known: Sequence[str]
    ) -> Iterator[Problem]:
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            if not glob(known, pattern):
                yield self._unknown(where, "match for", pattern, known)

    def _tier_names(self) -> Iterator[Problem]:
        variants, datasets = list(self.paper.variants), list(self.paper.datasets)
        for name in REQUIRED_TIERS:
            if name not in self.paper.tiers:
                yield self._problem(["tiers"], f"the tier {name!r} is required")
        yield from self._override_names([], self.paper.overrides)
        for name, tier in self.paper.tiers.items():
            where: Where = ["tiers", name]
            for index, slot in enumerate(plan.slots(tier)):
                for dataset in slot:
                    if dataset not in datasets:
                        yield self._unknown(
                            [*where, "datasets", index], "dataset", dataset, datasets
                        )
            yield from self._patterns([*where, "variants"], tier.variants, variants)
            yield from self._override_names(where, tier.overrides)

    def _override_names(self, where: Where, overrides: Sequence[Override]) -> Iterator[Problem]:
        for index, override in enumerate(overrides):
            at: Where = [*where, "overrides", index]
            yield from self._patterns(at, override.when.variant, list(self.paper.variants))
            yield from self._patterns(at, override.when.dataset, list(self.paper.datasets))

    def _claim_names(self, index: int, claim: Claim) -> Iterator[Problem]:
        where: Where = ["claims", index]
        variants, datasets = list(self.paper.variants), list(self.paper.datasets)
        if claim.quantity is not None:
            quantity = claim.quantity
            parts = [part for operand in quantity.operands for part in operand.parts]
            for name in (variant for part in parts for variant in part.variants):
                if name not in variants:
                    yield self._unknown([*where, "quantity"], "variant", name, variants)
            for name in [*quantity.datasets, *(part.on for part in parts if part.on)]:
                if name not in datasets:
                    yield self._unknown([*where, "quantity", "on"], "dataset", name, datasets)
                elif self.paper.datasets[name].evidence == "stand-in":
                    message = f"{name} is a stand-in; name the paper's dataset it stands in for"
                    yield self._problem([*where, "quantity", "on"], message)
            for metric in _metrics_of(claim):
                if metric not in self.paper.metrics:
                    known = list(self.paper.metrics)
                    yield self._unknown([*where, "quantity"], "metric", metric, known)
            for metric in dict.fromkeys(part.by for part in parts if part.by):
                if metric in self.paper.metrics and not self.paper.metrics[metric].better:
                    message = f"metric {metric} says not what is better: nothing is best by it"
                    yield self._problem([*where, "quantity"], message)
        if claim.control and claim.control.variant not in variants:
            yield self._unknown([*where, "control"], "variant", claim.control.variant, variants)
        for name in claim.null:
            if name not in variants:
                yield self._unknown([*where, "null"], "variant", name, variants)
        if "recalled" in f"{claim.source.where} {claim.source.seen_in}".lower():
            yield self._problem([*where, "source"], "a recalled figure is not a claim")

    def classes(self) -> Iterator[Problem]:
        """Class paths and arguments of every trial that some tier would run."""
        produced: dict[str, set[str]] = {}
        checked: set[str] = set()
        unknown: set[str] = set()  # variants whose procedure is wrong, which is said already
        taken: dict[str, set[str]] = {}
        for tier_name, tier in self.paper.tiers.items():
            for dataset in {name for slot in plan.slots(tier) for name in slot}:
                for variant in plan.variants_on(self.paper, tier, dataset):
                    settings = plan.settings(self.paper, tier_name, variant, dataset)
                    yield from self._too_many_seeds(tier_name, dataset, settings)
                    config = settings.config
                    fold = plan.folds(self.paper, dataset)[0]
                    config = plan.merge(config, {"data": {"init_args": fold}})
                    in_tier = self._only_in_tier(config, variant)
                    where: Where = ["tiers", tier_name] if in_tier else ["variants", variant]
                    yield from self._check_config(where, dataset, variant, config, checked)
                    yield from self._misplaced(where, dataset, variant, config, checked)
                    names = _produces(config)
                    unknown |= {variant} if names is None else set()
                    produced.setdefault(variant, set()).update(names or ())
                    taken.setdefault(dataset, set()).update(_taken(config))
        yield from self._untaken(taken)
        yield from self._unproduced(produced, unknown)
        if self.missing:
            yield self._unchecked()

    def _too_many_seeds(
        self, tier: str, dataset: str, settings: plan.Settings
    ) -> Iterator[Problem]:
        most = settings.schedule.most if settings.schedule else len(settings.seed_range(None))
        splits = self.paper.datasets[dataset].splits
        if splits is not None and most > splits:
            message = f"{most} seeds, and {dataset} has {splits} splits"
            yield self._problem(["tiers", tier, "seeds"], message)

    def _unchecked(self) -> Problem:
        """One sentence in place of all that follows from packages that are not installed."""
        key, names, packages = self.paper.key, ",".join(self.paper.extras), list(self.missing)
        how = f"`pip install -c constraints.txt -e '.[{names}]'`"
        message = (
            f"needs {' and '.join(packages)}, not installed here: {how} installs what {key} needs"
        )
        return replace(self._problem(["extra"], message), unchecked=True)

    def _only_in_tier(self, config: dict[str, Any], variant: str) -> bool:
        """Whether the settings differ from the variant's own: then the tier is to blame."""
        own = plan.merge(
            self.paper.procedure.model_dump(), plan.inherited(self.paper, variant).procedure
        )
        return bool(config["procedure"] != own)

    def _check_config(
        self,
        where: Where,
        dataset: str,
        variant: str,
        config: dict[str, Any],
        checked: set[str],
    ) -> Iterator[Problem]:
        folders = frozenset(self.paper.datasets[dataset].entries)
        for part, given in (
            ("procedure", frozenset[str]()),
            ("model", folders - {"root"}),
            ("data", GIVEN | folders),
        ):
            if not config[part] or not config[part].get("class_path"):
                continue
            key = json.dumps([config[part], sorted(given)], sort_keys=True)
            if key in checked:
                continue
            checked.add(key)
            error = self._error(part, config[part], given, dataset)
            if error and error not in checked:  # once, where it is seen first
                checked.add(error)
                yield self._problem(self._blame(where, part, variant, dataset), error)

    def _misplaced(
        self, where: Where, dataset: str, variant: str, config: dict[str, Any], checked: set[str]
    ) -> Iterator[Problem]:
        """Classes of Lightning under a procedure that does not train them, and the reverse."""
        with contextlib.suppress(BuildError):  # which is said already
            for part, message in modules.misplaced(config):
                if message not in checked:
                    checked.add(message)
                    yield self._problem(self._blame(where, part, variant, dataset), message)

    def _blame(self, where: Where, part: str, variant: str, dataset: str) -> Where:
        """The place in the spec that most likely holds a wrong class or argument."""
        if part == "data":
            return ["datasets", dataset]
        if getattr(self.paper.variants[variant], part):
            return ["variants", variant, part]
        return where if where[0] == "tiers" else [part]

    def _error(
        self, part: str, config: dict[str, Any], given: frozenset[str], dataset: str
    ) -> str | None:
        try:
            refuse_others(part, config, tuple(self.paper.packages))
            check(config, given)
            if part == "procedure":
                _refuse_contradictions(config)
            if part == "data":
                names = parameters(import_callable(config["class_path"]))
                if "root" in names and "root" not in self.paper.datasets[dataset].entries:
                    return "takes root: name the catalogue's entry as source"
        except MissingPackage as error:
            if not self.paper.extras:
                return f"{error}; if an extra of pyproject.toml brings it, name that as `extra:`"
            self.missing[error.package] = None
        except BuildError as error:
            return str(error)
        return None

    def _untaken(self, taken: dict[str, set[str]]) -> Iterator[Problem]:
        """Entries of the data catalogue for parameters that nothing has."""
        for dataset, names in taken.items():
            for name in self.paper.datasets[dataset].sources:
                if name not in names:
                    message = f"neither class_path nor a model takes {name!r}"
                    yield self._problem(["datasets", dataset, "sources", name], message)

    def _unproduced(self, produced: dict[str, set[str]], unknown: set[str]) -> Iterator[Problem]:
        """Claims about metrics that a variant's procedure does not report."""
        for index, claim in enumerate(self.paper.claims):
            if claim.quantity is None:
                continue
            own = claim.quantity.of.metric or claim.quantity.metric
            pairs = list(_needed(claim.quantity))
            if claim.control:
                pairs.append((claim.control.variant, claim.control.metric or own))
            pairs += [(variant, own) for variant in claim.null]
            for variant, metric in pairs:
                if variant not in produced:
                    yield self._problem(["claims", index], f"no tier runs {variant!r}")
                elif variant not in unknown and metric not in {*produced[variant], *COSTS}:
                    known = sorted(produced[variant])
                    at: Where = ["claims", index, "quantity"]
                    yield self._unknown(at, f"metric of {variant}", metric, known)


def _metrics_of(claim: Claim) -> set[str]:
    quantity = claim.quantity
    if not isinstance(quantity, _Quantity):
        return set()
    return {metric for _, metric in _needed(quantity)}


def _needed(quantity: _Quantity) -> Iterator[tuple[str, str]]:
    """Variants with the metrics that a quantity is computed from."""
    for operand in quantity.operands:
        for part in operand.parts:
            for variant in part.variants:
                yield variant, part.metric or quantity.metric
                if part.by:
                    yield variant, part.by


def _refuse_contradictions(config: dict[str, Any]) -> None:
    """Settings that a procedure knows cannot go together."""
    refused = getattr(import_callable(config["class_path"]), "refused", None)
    for problem in refused(config.get("init_args", {})) if refused else ():
        raise BuildError(f"{config['class_path']}: {problem}")


def _taken(config: dict[str, Any]) -> set[str]:
    """Parameters of the data's callable and of the model."""
    paths = [part["class_path"] for part in (config["data"], config["model"]) if part]
    with contextlib.suppress(BuildError):  # said already
        return {name for path in paths if path for name in parameters(import_callable(path))}
    return set()


def _produces(config: dict[str, Any]) -> set[str] | None:
    """Metrics and series of a procedure; ``None`` where there is no such procedure."""
    try:
        procedure: Any = import_callable(config["procedure"]["class_path"])
        return set(procedure.produces(config["procedure"].get("init_args", {})))
    except (BuildError, AttributeError):
        return None
