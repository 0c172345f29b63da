"""The schema of ``experiments/<key>/spec.yaml``: everything declarative about a paper.

A :class:`Paper` names datasets, variants, metrics, tiers and claims by key; the rest of the
engine reads nothing else about a paper. Unknown keys are errors. Whether the names agree with
each other and the classes exist is checked by :mod:`harness.specs.validate`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from harness.specs.claims import Claim
from harness.specs.types import Bytes, Key, Seconds, Strict

Keep = Literal["weights"]


class ClassConfig(Strict):
    """A class or function by import path with its keyword arguments, as LightningCLI names them."""

    class_path: str
    init_args: dict[str, Any] = {}


class Metric(Strict):
    """How a recorded number is shown: ``recorded × scale`` in ``unit``."""

    label: str
    unit: str = ""
    scale: float = 1.0
    better: Literal["higher", "lower"] | None = None


class Dataset(Strict):
    """One data set (or theoretical setting) on which variants are run.

    ``class_path`` names a callable that returns :class:`harness.loading.splits.Splits` (or any
    object with ``dims``). It gets ``root`` (the folder of the catalogue's entry ``source``) and
    ``seed`` when its signature has parameters of these names. Without ``class_path`` the procedure
    needs no data. ``sources`` are further entries by the parameter that takes the folder, of the
    callable or of a model (its trained weights).
    ``test_over_train`` is the ratio of their numbers of examples where folds (or, without folds,
    seeds) are different splits of the same examples: their training sets overlap, and intervals
    are those of the corrected resampled t-test. ``splits`` is how many there are where the seed
    chooses one: more seeds are refused, for they would be measured twice.
    """

    label: str
    class_path: str | None = None
    init_args: dict[str, Any] = {}
    source: str | None = None
    sources: dict[str, str] = {}
    evidence: Literal["paper", "stand-in"] = "paper"
    stands_in_for: list[Key] = []
    folds: dict[str, list[Any]] = Field(default={}, max_length=1)
    splits: int | None = Field(default=None, ge=1)
    test_over_train: float | None = Field(default=None, gt=0)

    @property
    def entries(self) -> dict[str, str]:
        """Entries of the data catalogue by the parameter that takes their folder."""
        return ({"root": self.source} if self.source else {}) | self.sources

    @model_validator(mode="after")
    def _one_root(self) -> Dataset:
        if self.source and "root" in self.sources:
            raise ValueError("source is the one for root: give source, or sources with root")
        if "seed" in self.sources:
            raise ValueError("seed is the trial's seed, no folder")
        return self

    @model_validator(mode="after")
    def _stand_in_names_what_it_replaces(self) -> Dataset:
        if (self.evidence == "stand-in") != bool(self.stands_in_for):
            raise ValueError(
                "evidence: stand-in and stands_in_for: [datasets of the paper] go together"
            )
        return self


class Variant(Strict):
    """One configuration under test. ``like`` starts from another variant and merges over it.

    ``model`` and ``procedure`` are merged over the paper's defaults key by key; naming another
    ``class_path`` replaces the ``init_args`` as a whole. A ``deterministic`` variant (a closed
    form, an exact solver) has one seed, whatever the tier says. ``keep: weights`` keeps its
    trained models in ``runs/``, for :func:`harness.load_model`.
    """

    label: str
    role: Literal["paper", "ablation", "baseline", "control"]
    like: Key | None = None
    model: dict[str, Any] | None = None
    procedure: dict[str, Any] = {}
    data: dict[str, Any] = {}
    datasets: list[str] | None = None
    deterministic: bool = False
    keep: Keep | None = None


Cpus = Annotated[int, Field(ge=1, le=1024)]
Gpus = Annotated[float, Field(ge=0, le=64)]


class When(Strict):
    """Shell-style patterns; an override applies where all of them match."""

    variant: str | list[str] = "*"
    dataset: str | list[str] = "*"


class Override(Strict):
    """A change of settings or limits for some variants or datasets; later ones win.

    Those of the paper hold at every tier and come before the tier's own settings; limits replace
    the tier's. Trials that are ``alone``, because they measure time, run with nothing beside them.
    """

    when: When = When()
    procedure: dict[str, Any] = {}
    model: dict[str, Any] = {}
    data: dict[str, Any] = {}
    protocol: Literal["paper", "reduced"] | None = None
    seeds: Annotated[int, Field(ge=1, le=100_000)] | None = None
    timeout: Seconds | None = None
    memory: Bytes | None = None
    cpus: Cpus | None = None
    gpus: Gpus | None = None
    alone: bool | None = None


class Schedule(Strict):
    """Seeds until decided: claims are looked at after ``start`` seeds, then after twice as many,
    and so on to ``most``; variants of those that are undecided go on."""

    start: int = Field(ge=2, le=50_000)
    most: int = Field(ge=3, le=100_000)

    @model_validator(mode="after")
    def _grows(self) -> Schedule:
        if self.most <= self.start:
            raise ValueError("most must be above start")
        return self

    def __str__(self) -> str:
        return f"{self.start}–{self.most}"


Seeds = Annotated[
    Annotated[int, Field(ge=1, le=100_000), Tag("number")] | Annotated[Schedule, Tag("schedule")],
    Discriminator(lambda v: "schedule" if isinstance(v, (dict, Schedule)) else "number"),
]


class Tier(Strict):
    """How much work is spent.

    ``datasets`` is a list of slots; a slot is a dataset or a list of them in order of
    preference, of which the first available one is used. ``seeds`` is a number, or a schedule by
    which they are added until claims are decided. ``together`` is how many seeds share a process
    where the procedure has ``run_together``. ``keep: weights`` is said for all variants.
    """

    description: str
    protocol: Literal["paper", "reduced"] = "reduced"
    datasets: list[Key | list[Key]] = Field(min_length=1)
    variants: list[str] = ["*"]
    seeds: Seeds = 1
    timeout: Seconds = 3600.0
    memory: Bytes | None = None
    cpus: Cpus = 1
    gpus: Gpus = 0.0
    together: int = Field(default=1, ge=1, le=10_000)
    keep: Keep | None = None
    procedure: dict[str, Any] = {}
    overrides: list[Override] = []


def _distinct_ids(claims: list[Claim]) -> list[Claim]:
    seen: set[str] = set()
    for claim in claims:
        if claim.id in seen:
            raise ValueError(f"two claims have the id {claim.id!r}")
        seen.add(claim.id)
    return claims


Package = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
Extra = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]


class Paper(Strict):
    """A publication and how its claims are put to the test.

    ``packages`` are folders of code outside experiments/ whose classes may be named.
    """

    key: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    title: str = Field(min_length=3)
    authors: list[str] = Field(min_length=1)
    year: int = Field(ge=1943, le=2100)
    venue: str = ""
    arxiv: Annotated[str, Field(pattern=r"^\d{4}\.\d{4,5}$")] | None = None
    code: str = ""
    task: str
    summary: str
    extra: Extra | list[Extra] | None = None
    packages: list[Package] = []
    metrics: dict[str, Metric] = Field(min_length=1)
    datasets: dict[Key, Dataset] = Field(min_length=1)
    model: dict[str, Any] | None = None
    procedure: ClassConfig
    variants: dict[Key, Variant] = Field(min_length=1)
    overrides: list[Override] = []
    tiers: dict[Key, Tier]
    claims: Annotated[list[Claim], AfterValidator(_distinct_ids)] = Field(min_length=1)

    @property
    def extras(self) -> list[str]:
        """Optional dependencies in pyproject.toml that this paper needs."""
        return [self.extra] if isinstance(self.extra, str) else self.extra or []
