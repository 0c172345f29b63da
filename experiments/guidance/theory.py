"""What chance gives on the copying task, in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.guidance.data import chance_of_copying
from harness.procedures.base import Outcome, Trial, exact


class Chance:
    """``accuracy`` of a copying model that knows all but the symbols.

    Args:
        shortest, longest, symbols: of :func:`experiments.guidance.data.copy_paste`.
    """

    def __init__(self, shortest: int = 20, longest: int = 40, symbols: int = 10) -> None:
        self.task = (shortest, longest, symbols)

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"accuracy"}

    def run(self, trial: Trial) -> Outcome:
        return Outcome({"accuracy": exact(chance_of_copying(*self.task))})
