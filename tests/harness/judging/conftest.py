"""Papers and records made by hand, from which claims are judged."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest

from harness import plan
from harness.judging.verdicts import judge
from harness.records import Failure, Measured, Provenance, Record, Resources
from harness.specs.schema import Paper

BASE = {
    "key": "toy",
    "title": "Toy",
    "authors": ["A"],
    "year": 2020,
    "task": "t",
    "summary": "s",
    "metrics": {
        "acc": {"label": "accuracy", "unit": "%", "scale": 100, "better": "higher"},
        "loss": {"label": "loss", "better": "lower"},
        "curve": {"label": "a series"},
    },
    "datasets": {
        "paper-set": {"label": "p"},
        "other-set": {"label": "o"},
        "proxy": {
            "label": "s",
            "evidence": "stand-in",
            "stands_in_for": ["paper-set", "other-set"],
        },
    },
    "procedure": {"class_path": "experiments.toy.parts.Behave"},
    "variants": {name: {"label": name, "role": "paper"} for name in ("a", "b", "ctl")},
    "tiers": {
        name: {"description": "d", "protocol": protocol, "datasets": ["paper-set"], "seeds": 5}
        for name, protocol in (("cpu", "reduced"), ("full", "paper"))
    },
    "claims": [],
}


def paper(claim: dict, **changes) -> Paper:
    spec = copy.deepcopy(BASE)
    spec.update(changes)
    base = {
        "id": "c",
        "statement": "it holds",
        "reported": {"value": 90.0, "unit": "%"},
        "source": {"where": "T1", "seen_in": "arXiv"},
    }
    return Paper.model_validate({**spec, "claims": [{**base, **claim}]})


def record(
    spec: Paper,
    tier: str,
    variant: str,
    dataset: str,
    seed: int,
    metrics=None,
    series=None,
    fold=None,
    status="done",
) -> Record:
    settings = plan.settings(spec, tier, variant, dataset)
    trial = plan.make_trial(spec, tier, variant, dataset, fold or {}, seed, settings)
    return Record(
        trial=trial.id,
        paper="toy",
        tier=tier,
        variant=variant,
        dataset=dataset,
        fold=fold or {},
        seed=seed,
        protocol=trial.protocol,
        status=status,
        error=None if status == "done" else Failure(type="Diverged", message="NaN"),
        metrics={
            k: v if isinstance(v, Measured) else Measured(value=v)
            for k, v in (metrics or {}).items()
        },
        series=series or {},
        provenance=Provenance(code=trial.code, data=""),
        resources=Resources(started="", ended="", seconds=1),
    )


def table(spec: Paper, tier: str, dataset: str, **variants: list[float]) -> list[Record]:
    return [
        record(spec, tier, variant, dataset, seed, {"acc": value})
        for variant, values in variants.items()
        for seed, value in enumerate(values)
    ]


def one(spec: Paper, tier: str, records: list[Record]):
    (verdict,) = judge(spec, tier, records)
    return verdict


def judged(spec: Paper, tier: str, **variants: list[float]):
    """The verdict on accuracies per seed, on the paper's data."""
    return one(spec, tier, table(spec, tier, "paper-set", **variants))


@pytest.fixture
def made(project) -> SimpleNamespace:
    """The builders, with the class paths of their specs resolving in the toy project."""
    return SimpleNamespace(
        BASE=BASE, paper=paper, record=record, table=table, one=one, judged=judged, judge=judge
    )


@pytest.fixture
def handmade(made: SimpleNamespace) -> SimpleNamespace:
    """The same for one tier, ``full``, whose settings are given; ``exact`` names variants."""

    def paper(claim: dict, exact: tuple = (), **tier) -> Paper:
        names = made.BASE["variants"]
        variants = {k: {**v, "deterministic": k in exact} for k, v in names.items()}
        tiers = {"full": {**made.BASE["tiers"]["full"], **tier}}
        return made.paper(claim, variants=variants, tiers=tiers)

    def records(spec: Paper, **values) -> list[Record]:
        return made.table(spec, "full", "paper-set", **values)

    def judge(spec: Paper, found: tuple = (), **values):
        return made.one(spec, "full", [*found, *records(spec, **values)])

    return SimpleNamespace(paper=paper, records=records, judge=judge)
