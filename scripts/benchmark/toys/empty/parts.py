"""A trial that does nothing: what is left is the cost of running it by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.procedures.base import Outcome, Trial, exact


class Nothing:
    """Returns at once."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"nothing"}

    def run(self, trial: Trial) -> Outcome:
        return Outcome({"nothing": exact(self.value)})
