"""The schema of a claim: a quantity over metrics of variants, and the criterion it must meet."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from harness.specs.types import KEY, Key, Strict


class Reported(Strict):
    """What the paper states: a figure with its unit, or in words where it gives none.

    ``std`` over ``n`` runs where the paper gives them (the standard deviation, not its error). A
    figure that was read from a plot has the ``error`` of that reading, in the unit.
    """

    value: float | None = None
    unit: str = ""
    text: str = ""
    std: float | None = Field(default=None, gt=0)
    n: int | None = Field(default=None, ge=2)
    read_from: Literal["plot"] | None = None
    error: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _says_something(self) -> Reported:
        if self.value is None and not self.text:
            raise ValueError("give the reported value, or text where the paper gives no figure")
        if (self.std is None) != (self.n is None):
            raise ValueError("std and n go together: the spread of how many runs")
        if (self.read_from is None) != (self.error is None):
            raise ValueError("read_from: plot and error go together: how well it can be read")
        if self.value is None and (self.std or self.error):
            raise ValueError("std, n and error belong to a reported value")
        return self


How = Literal["paper", "official code", "official log", "quoted"]
NOBODY = ("study notes", "notes quoting", "anonymous", "machine-written", "second hand")


class Source(Strict):
    """Where in the paper the claim stands, and where it was seen.

    ``how`` says what was looked at: the paper itself, its authors' code or log, or somebody who
    quotes it. A reader can find ``seen_in`` by its title or address, or it is ``untraceable``.
    """

    where: str = Field(min_length=2)
    seen_in: str = Field(min_length=2)
    how: How | None = None
    untraceable: bool = False

    @model_validator(mode="after")
    def _admits_what_cannot_be_found(self) -> Source:
        vague = next((words for words in NOBODY if words in self.seen_in.lower()), None)
        if vague and not self.untraceable:
            raise ValueError(f"{vague!r} cannot be looked up: say untraceable: true")
        return self


def _as_operand(value: Any) -> Any:
    return {"variant": value} if isinstance(value, str) else value


class Operand(Strict):
    """A variant, with the metric and dataset where they differ from the quantity's.

    ``at`` picks one value of a series. In place of a variant, ``best_of`` several: of each seed
    that which is best ``by`` another metric, measured on validation data. ``minus`` takes another
    operand off, for differences of differences.
    """

    variant: Annotated[str, Field(pattern=KEY)] = ""
    metric: str | None = None
    on: Key | None = None
    at: float | None = None
    best_of: list[Key] = []
    by: str = ""
    minus: Annotated[
        Operand | None, BeforeValidator(_as_operand, json_schema_input_type=str | dict[str, Any])
    ] = None

    @model_validator(mode="after")
    def _one_or_a_choice(self) -> Operand:
        if bool(self.variant) == bool(self.best_of):
            raise ValueError("give a variant, or best_of: [variants] with by: a validation metric")
        if bool(self.best_of) != bool(self.by) or len(self.best_of) == 1:
            raise ValueError("best_of: [two variants or more] and by: a validation metric")
        if self.minus is not None and self.minus.minus is not None:
            raise ValueError("minus takes one operand off, not two")
        return self

    @property
    def variants(self) -> list[str]:
        """The variant, or those that it is chosen from."""
        return self.best_of or [self.variant]

    @property
    def parts(self) -> list[Operand]:
        """This operand and what is taken off it."""
        return [self] if self.minus is None else [self, self.minus]

    def cells(self, dataset: str) -> list[tuple[str, str]]:
        """The variants that it is computed from, each with its data set."""
        return [(v, part.on or dataset) for part in self.parts for v in part.variants]

    def __str__(self) -> str:
        name = self.variant or f"best of {', '.join(self.best_of)} by {self.by}"
        name += f" ({self.metric})" if self.metric else ""
        name += f" at {self.at:g}" if self.at is not None else ""
        return name if self.minus is None else f"({name} − {self.minus})"


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


class Extreme(Strict):
    """The best (or worst) of this many runs, as papers report 'best of 40 runs'."""

    best: int | None = Field(default=None, ge=2)
    worst: int | None = Field(default=None, ge=2)

    @model_validator(mode="after")
    def _one(self) -> Extreme:
        if (self.best is None) == (self.worst is None):
            raise ValueError("give best or worst, with the number of runs")
        return self


def _placed(operand: Operand, at: float) -> Operand:
    minus = operand.minus and _placed(operand.minus, at)
    own = at if operand.at is None else operand.at
    return operand.model_copy(update={"at": own, "minus": minus})


OverSeeds = Literal["mean", "median", "best", "worst"] | Share | Extreme


class _Quantity(Strict):
    of: VariantRef
    on: list[Key] | Key
    across: Literal["each", "mean"] = "each"
    over_seeds: OverSeeds = "mean"
    at: float | None = None
    kind: ClassVar[str]

    def _with_at(self, *operands: Operand) -> list[Operand]:
        """Operands that have the quantity's place in a series where they name none."""
        return [o if self.at is None else _placed(o, self.at) for o in operands]

    @property
    def metric(self) -> str:
        return str(getattr(self, self.kind))

    @property
    def datasets(self) -> list[str]:
        return [self.on] if isinstance(self.on, str) else list(self.on)

    @property
    def operands(self) -> list[Operand]:
        return self._with_at(self.of)


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
        return self._with_at(self.of, self.from_)


class Ratio(_Quantity):
    """of / to, paired by seed."""

    ratio: str
    to: VariantRef
    kind: ClassVar[str] = "ratio"

    @property
    def operands(self) -> list[Operand]:
        return self._with_at(self.of, self.to)


class RelativeChange(_Quantity):
    """(of − from) / from in %, paired by seed."""

    relative_change: str
    from_: VariantRef = Field(alias="from")
    kind: ClassVar[str] = "relative_change"

    @property
    def operands(self) -> list[Operand]:
        return self._with_at(self.of, self.from_)


class Slope(_Quantity):
    """Least-squares slope of a series over its swept variable; ``log-log`` fits an exponent."""

    slope: str
    at: None = None
    axes: Literal["linear", "log-log", "log-x", "log-y"] = "log-log"
    kind: ClassVar[str] = "slope"


class Monotonic(_Quantity):
    """Spearman rank correlation of a series with its swept variable: +1 always rises, −1 falls."""

    monotonic: str
    at: None = None
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
    ``equivalent`` is the margin around no effect (0, or 1 for a ratio); ``replicates`` asks for
    what a replication of the reported mean ± std over n runs would give.
    """

    within: float | None = Field(default=None, ge=0)
    within_percent: float | None = Field(default=None, ge=0)
    at_least: float | None = None
    at_most: float | None = None
    greater_than: float | None = None
    less_than: float | None = None
    between: tuple[float, float] | None = None
    equivalent: float | None = Field(default=None, gt=0)
    replicates: Literal[True] | None = None

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

    @property
    def of_reported(self) -> bool:
        """Whether what it accepts depends on the reported figure."""
        return self.kind in ("within", "within_percent", "replicates")


class Control(Strict):
    """A variant in which the claimed mechanism is destroyed.

    Its metric must be lower (higher) than that of the quantity's ``of``, by more than ``by``
    in the metric's unit; otherwise the claim is inconclusive, whatever was measured. ``without``
    names what is destroyed, for 'the effect survives … without order'.
    """

    variant: Key
    must_be: Literal["lower", "higher"]
    by: float = Field(default=0.0, ge=0)
    metric: str | None = None
    without: str = ""


class Figures(Strict):
    """What a claim reports on one of its data sets, and what it asks for there."""

    reported: Reported
    criterion: Criterion


class Claim(Strict):
    """A statement of the paper with the quantity that tests it and the criterion it must meet.

    ``mechanism`` marks a statement that says why: its criterion must fail with the control in the
    place of ``of``, and ``no_control`` says why there can be none. ``null`` are variants on which
    the criterion must fail (chance, a constant, the model without the idea). ``by`` is whose
    claim it is. Figures that differ between data sets are in ``each``; then ``criterion`` is empty
    and ``reported`` says all of them in words.
    """

    id: Key
    statement: str = Field(min_length=5)
    by: Literal["paper", "authors", "others", "us"] = "paper"
    mechanism: bool = False
    quantity: Quantity | None = None
    criterion: Criterion | None = None
    each: dict[Key, Figures] = {}
    control: Control | None = None
    no_control: str = ""
    null: list[Key] = []
    reported: Reported
    source: Source
    not_run: str = ""

    @model_validator(mode="after")
    def _testable_or_excused(self) -> Claim:
        if self.not_run and (self.quantity or self.criterion or self.each):
            raise ValueError("not_run excludes quantity and criterion")
        if not self.not_run and not (self.quantity and (self.criterion or self.each)):
            raise ValueError("give quantity and criterion, or not_run with the reason")
        if self.criterion is not None:
            _figures_suffice(self.criterion, self.reported)
        for figures in self.each.values():
            _figures_suffice(figures.criterion, figures.reported)
        return self

    @model_validator(mode="after")
    def _figures_of_every_dataset(self) -> Claim:
        if not self.each or self.quantity is None:
            return self
        named = set(self.quantity.datasets)
        if lacking := sorted(named ^ self.each.keys()):
            raise ValueError(
                f"figures by data set name the same data sets as on, not more or less: "
                f"{', '.join(lacking)}"
            )
        if self.quantity.across == "mean":
            raise ValueError("a mean across data sets has one figure, not one for each")
        if self.criterion or len({f.criterion.kind for f in self.each.values()}) > 1:
            raise ValueError("figures by data set have one kind of criterion")
        return self

    @model_validator(mode="after")
    def _mechanism_has_a_control(self) -> Claim:
        if self.control and self.no_control:
            raise ValueError("no_control says why there is no control, and there is one")
        if self.mechanism and not (self.control or self.no_control or self.not_run):
            raise ValueError(
                "a claim about a mechanism has a control in which the mechanism is destroyed, "
                "or no_control with the reason why there can be none"
            )
        return self

    def at(self, datasets: Collection[str]) -> Claim:
        """The claim with the figures of one of its data sets.

        Args:
            datasets: those that the measured data are, or stand in for. Where their figures
                differ there is no criterion, unless it is an ordering that all of them share.
        """
        if not self.each:
            return self
        found = [self.each[name] for name in datasets]
        alike = [part for part in found if part == found[0]]
        if found and len(alike) == len(found):
            return self.model_copy(update={**dict(found[0]), "each": {}})
        shared = {part.criterion.model_dump_json() for part in found}
        free = found and not found[0].criterion.of_reported and len(shared) == 1
        criterion = found[0].criterion if free else None
        return self.model_copy(update={"criterion": criterion, "each": {}})


def _figures_suffice(criterion: Criterion, reported: Reported) -> None:
    if criterion.kind.startswith("within") and reported.value is None:
        raise ValueError("criterion within needs reported: {value: …}")
    if criterion.replicates and not reported.std:
        raise ValueError("criterion replicates needs reported: {value: …, std: …, n: …}")
