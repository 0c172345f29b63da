"""What claims need: the data sets, and the variants on each of them, that verdicts rest on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from harness import plan
from harness.judging.guards import in_place
from harness.judging.quantities import cells
from harness.judging.verdicts import Verdict, measured_on
from harness.plan import PlanError
from harness.specs.claims import Claim, Quantity
from harness.specs.schema import Paper


class _Placed(Protocol):
    @property
    def variant(self) -> str: ...
    @property
    def dataset(self) -> str: ...


T = TypeVar("T", bound=_Placed)


@dataclass(frozen=True)
class Needs:
    """Some claims of a paper, which have a quantity."""

    paper: Paper
    claims: tuple[Claim, ...]

    @classmethod
    def of(cls, paper: Paper, patterns: Sequence[str]) -> Needs:
        """The claims that these patterns name.

        Raises:
            PlanError: a pattern names no claim, or none that can be run.
        """
        found: dict[str, Claim] = {}
        for pattern in patterns:
            named = [claim for claim in paper.claims if plan.matches(pattern, claim.id)]
            if not named:
                names = ", ".join(claim.id for claim in paper.claims)
                raise PlanError(f"{paper.key} has no claim {pattern!r}; it has {names}")
            if not any(claim.quantity for claim in named):
                raise PlanError(f"{named[0].id} cannot be run: {named[0].not_run}")
            found |= {claim.id: claim for claim in named if claim.quantity}
        return cls(paper, tuple(found.values()))

    def narrowed(self, tier_name: str) -> Paper:
        """The paper with those slots of a tier's data that the claims are judged on, no others.

        Raises:
            PlanError: the tier has none of them.
        """
        tier = plan.tier_of(self.paper, tier_name)
        wanted = {name for quantity in self._quantities for name in _data_of(quantity)}

        def serves(name: str) -> bool:
            return bool(wanted & {name, *self.paper.datasets[name].stands_in_for})

        slots = [slot for slot in plan.slots(tier) if any(map(serves, slot))]
        if not slots:
            raise PlanError(f"tier {tier_name} has none of the data: {', '.join(sorted(wanted))}")
        changed = tier.model_copy(update={"datasets": slots})
        return self.paper.model_copy(update={"tiers": {**self.paper.tiers, tier_name: changed}})

    def cells(self, datasets: Sequence[str]) -> list[tuple[str, str]]:
        """Variants with data sets: of each claim its operands, then control and null models.

        Args:
            datasets: that there are.
        """
        found = (
            cell
            for claim, quantity in zip(self.claims, self._quantities, strict=True)
            for row in measured_on(self.paper, quantity, datasets)
            for variant in ("", *_others(claim))
            for cell in cells(in_place(quantity, variant) if variant else quantity, row)
        )
        return list(dict.fromkeys(found))

    def among(self, found: Iterable[T], datasets: Sequence[str]) -> list[T]:
        """Those trials, or records, that are needed."""
        wanted = set(self.cells(datasets))
        return [one for one in found if (one.variant, one.dataset) in wanted]

    def verdicts(self, found: Iterable[Verdict]) -> list[Verdict]:
        """Those on these claims."""
        names = {claim.id for claim in self.claims}
        return [verdict for verdict in found if verdict.claim in names]

    @property
    def _quantities(self) -> list[Quantity]:
        return [claim.quantity for claim in self.claims if claim.quantity]


def _others(claim: Claim) -> list[str]:
    return [*([claim.control.variant] if claim.control else []), *claim.null]


def _data_of(quantity: Quantity) -> list[str]:
    placed = [part.on for operand in quantity.operands for part in operand.parts if part.on]
    return [*quantity.datasets, *placed]
