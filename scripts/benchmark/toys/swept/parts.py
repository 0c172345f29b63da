"""A procedure whose records are written by the benchmark, and that is never run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.procedures.base import Outcome, Trial


class Recorded:
    """Reports what a classifier that is trained for twenty epochs reports."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"accuracy", "train_loss"}

    def run(self, trial: Trial) -> Outcome:
        raise NotImplementedError("its records are written, not measured")
