"""The schema of ``experiments/<key>/spec.yaml``: everything declarative about a paper.

A :class:`Paper` names datasets, variants, metrics, tiers and claims by key; the rest of the
engine reads nothing else about a paper. Unknown keys are errors. Whether the names agree with
each other and the classes exist is checked by :mod:`harness.validate`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

KEY = r"^[a-z0-9][a-z0-9_.-]{0,63}$"
Key = Annotated[str, Field(pattern=KEY)]
Evidence = Literal["paper", "reduced", "stand-in"]

_DURATION = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def _quantity_with_unit(units: dict[str, int], example: str) -> BeforeValidator:
    def parse(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ValueError(f"expected a number with a unit, like {example}")
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)\s*", str(value))
        if match is None or match[2] not in units:
            raise ValueError(
                f"expected a number with a unit ({', '.join(units)}), like {example}; got {value!r}"
            )
        return float(match[1]) * units[match[2]]

    return BeforeValidator(parse, json_schema_input_type=str)


Seconds = Annotated[float, _quantity_with_unit(_DURATION, "10m"), Field(gt=0, le=30 * 86400)]
Bytes = Annotated[float, _quantity_with_unit(_SIZE, "4GB"), Field(gt=0, le=1e15)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


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

    ``class_path`` names a callable that returns :class:`harness.data.splits.Splits` (or any
    object with ``dims``). It gets ``root`` (the folder of ``source``) and ``seed`` when its
    signature has parameters of these names. Without ``class_path`` the procedure needs no data.
    """

    label: str
    class_path: str | None = None
    init_args: dict[str, Any] = {}
    source: str | None = None
    evidence: Literal["paper", "stand-in"] = "paper"
    stands_in_for: list[Key] = []
    folds: dict[str, list[Any]] = Field(default={}, max_length=1)

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
    form, an exact solver) has one seed, whatever the tier says.
    """

    label: str
    role: Literal["paper", "ablation", "baseline", "control"]
    like: Key | None = None
    model: dict[str, Any] | None = None
    procedure: dict[str, Any] = {}
    data: dict[str, Any] = {}
    datasets: list[str] | None = None
    deterministic: bool = False


class When(Strict):
    """Shell-style patterns; an override applies where all of them match."""

    variant: str | list[str] = "*"
    dataset: str | list[str] = "*"


class Override(Strict):
    """A change of settings for some variants or datasets of a tier; later ones win."""

    when: When = When()
    procedure: dict[str, Any] = {}
    model: dict[str, Any] = {}
    data: dict[str, Any] = {}
    protocol: Literal["paper", "reduced"] | None = None
    seeds: Annotated[int, Field(ge=1, le=100_000)] | None = None


class Tier(Strict):
    """How much work is spent.

    ``datasets`` is a list of slots; a slot is a dataset or a list of them in order of
    preference, of which the first available one is used. ``together`` is how many seeds share a
    process where the procedure has ``run_together``.
    """

    description: str
    protocol: Literal["paper", "reduced"] = "reduced"
    datasets: list[Key | list[Key]] = Field(min_length=1)
    variants: list[str] = ["*"]
    seeds: int = Field(default=1, ge=1, le=100_000)
    timeout: Seconds = 3600.0
    memory: Bytes | None = None
    cpus: int = Field(default=1, ge=1, le=1024)
    gpus: float = Field(default=0.0, ge=0, le=64)
    together: int = Field(default=1, ge=1, le=10_000)
    procedure: dict[str, Any] = {}
    overrides: list[Override] = []


class Reported(Strict):
    """What the paper states: a figure with its unit, or in words where it gives none."""

    value: float | None = None
    unit: str = ""
    text: str = ""

    @model_validator(mode="after")
    def _says_something(self) -> Reported:
        if self.value is None and not self.text:
            raise ValueError("give the reported value, or text where the paper gives no figure")
        return self


class Source(Strict):
    """Where in the paper the claim stands, and where it was seen."""

    where: str = Field(min_length=2)
    seen_in: str = Field(min_length=2)


class Operand(Strict):
    """A variant, with the metric and dataset where they differ from the quantity's."""

    variant: Key
    metric: str | None = None
    on: Key | None = None


def _as_operand(value: Any) -> Any:
    return {"variant": value} if isinstance(value, str) else value


VariantRef = Annotated[
    Operand, BeforeValidator(_as_operand, json_schema_input_type=str | dict[str, Any])
]


class Share(Strict):
    """The share of seeds whose value lies above (or below) a threshold, in the metric's unit."""

    share_above: float | None = None
    share_below: float | None = None

    @model_validator(mode="after")
    def _one(self) -> Share:
        if (self.share_above is None) == (self.share_below is None):
            raise ValueError("give share_above or share_below")
        return self


OverSeeds = Literal["mean", "median", "best", "worst"] | Share


class _Quantity(Strict):
    of: VariantRef
    on: list[Key] | Key
    across: Literal["each", "mean"] = "each"
    over_seeds: OverSeeds = "mean"
    kind: ClassVar[str]

    @property
    def metric(self) -> str:
        return str(getattr(self, self.kind))

    @property
    def datasets(self) -> list[str]:
        return [self.on] if isinstance(self.on, str) else list(self.on)

    @property
    def operands(self) -> list[Operand]:
        return [self.of]


class Value(_Quantity):
    """The metric itself."""

    value: str
    kind: ClassVar[str] = "value"


class Difference(_Quantity):
    """of − from, paired by seed."""

    difference: str
    from_: VariantRef = Field(alias="from")
    kind: ClassVar[str] = "difference"

    @property
    def operands(self) -> list[Operand]:
        return [self.of, self.from_]


class Ratio(_Quantity):
    """of / to, paired by seed."""

    ratio: str
    to: VariantRef
    kind: ClassVar[str] = "ratio"

    @property
    def operands(self) -> list[Operand]:
        return [self.of, self.to]


class RelativeChange(_Quantity):
    """(of − from) / from in %, paired by seed."""

    relative_change: str
    from_: VariantRef = Field(alias="from")
    kind: ClassVar[str] = "relative_change"

    @property
    def operands(self) -> list[Operand]:
        return [self.of, self.from_]


class Slope(_Quantity):
    """Least-squares slope of a series over its swept variable; ``log-log`` fits an exponent."""

    slope: str
    axes: Literal["linear", "log-log", "log-x", "log-y"] = "log-log"
    kind: ClassVar[str] = "slope"


class Monotonic(_Quantity):
    """Spearman rank correlation of a series with its swept variable: +1 always rises, −1 falls."""

    monotonic: str
    kind: ClassVar[str] = "monotonic"


QUANTITIES: dict[str, type[_Quantity]] = {
    "value": Value,
    "difference": Difference,
    "ratio": Ratio,
    "relative_change": RelativeChange,
    "slope": Slope,
    "monotonic": Monotonic,
}


def _which_quantity(value: Any) -> str | None:
    names = value if isinstance(value, dict) else {getattr(value, "kind", None): 0}
    found = [name for name in QUANTITIES if name in names]
    return found[0] if len(found) == 1 else None


Quantity = Annotated[
    Annotated[Value, Tag("value")]
    | Annotated[Difference, Tag("difference")]
    | Annotated[Ratio, Tag("ratio")]
    | Annotated[RelativeChange, Tag("relative_change")]
    | Annotated[Slope, Tag("slope")]
    | Annotated[Monotonic, Tag("monotonic")],
    Discriminator(
        _which_quantity,
        custom_error_type="quantity",
        custom_error_message=f"a quantity has exactly one of the keys {', '.join(QUANTITIES)}",
    ),
]


class Criterion(Strict):
    """What must hold of the quantity: exactly one of the keys.

    ``within`` is an absolute and ``within_percent`` a relative distance from the reported value;
    ``equivalent`` is the margin around no effect (0, or 1 for a ratio).
    """

    within: float | None = Field(default=None, ge=0)
    within_percent: float | None = Field(default=None, ge=0)
    at_least: float | None = None
    at_most: float | None = None
    greater_than: float | None = None
    less_than: float | None = None
    between: tuple[float, float] | None = None
    equivalent: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one(self) -> Criterion:
        given = self.model_dump(exclude_none=True)
        if len(given) != 1:
            raise ValueError(f"a criterion has exactly one of {', '.join(type(self).model_fields)}")
        if self.between is not None and self.between[0] > self.between[1]:
            raise ValueError("between: [low, high] needs low <= high")
        return self

    @property
    def kind(self) -> str:
        return next(iter(self.model_dump(exclude_none=True)))


class Control(Strict):
    """A variant in which the claimed mechanism is destroyed.

    Its metric must be lower (higher) than that of the quantity's ``of``, by more than ``by``
    in the metric's unit; otherwise the claim is inconclusive, whatever was measured.
    """

    variant: Key
    must_be: Literal["lower", "higher"]
    by: float = Field(default=0.0, ge=0)
    metric: str | None = None


class Claim(Strict):
    """A statement of the paper with the quantity that tests it and the criterion it must meet."""

    id: Key
    statement: str = Field(min_length=5)
    quantity: Quantity | None = None
    criterion: Criterion | None = None
    control: Control | None = None
    reported: Reported
    source: Source
    not_run: str = ""

    @model_validator(mode="after")
    def _testable_or_excused(self) -> Claim:
        if self.not_run and (self.quantity or self.criterion):
            raise ValueError("not_run excludes quantity and criterion")
        if not self.not_run and not (self.quantity and self.criterion):
            raise ValueError("give quantity and criterion, or not_run with the reason")
        needs_value = self.criterion is not None and self.criterion.kind.startswith("within")
        if needs_value and self.reported.value is None:
            raise ValueError("criterion within needs reported: {value: …}")
        return self


def _distinct_ids(claims: list[Claim]) -> list[Claim]:
    seen: set[str] = set()
    for claim in claims:
        if claim.id in seen:
            raise ValueError(f"two claims have the id {claim.id!r}")
        seen.add(claim.id)
    return claims


class Paper(Strict):
    """A publication and how its claims are put to the test."""

    key: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    title: str = Field(min_length=3)
    authors: list[str] = Field(min_length=1)
    year: int = Field(ge=1943, le=2100)
    venue: str = ""
    arxiv: Annotated[str, Field(pattern=r"^\d{4}\.\d{4,5}$")] | None = None
    code: str = ""
    task: str
    summary: str
    extra: str | None = None
    metrics: dict[str, Metric] = Field(min_length=1)
    datasets: dict[Key, Dataset] = Field(min_length=1)
    model: dict[str, Any] | None = None
    procedure: ClassConfig
    variants: dict[Key, Variant] = Field(min_length=1)
    tiers: dict[Key, Tier]
    claims: Annotated[list[Claim], AfterValidator(_distinct_ids)] = Field(min_length=1)
