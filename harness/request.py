"""What a user asks for: checked here, whether it comes from the command line or from Python."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from harness.plan import PlanError

EngineName = Literal["local", "ray"]


@dataclass(frozen=True)
class Request:
    """A paper at a tier, and how to run it.

    Attributes:
        jobs: workers at a time; default as many as the processors allow.
        seeds: instead of the tier's number; a range: these; ``auto``: until claims are decided,
            where the tier has a schedule.
        variants: patterns; only these.
        claims: patterns; only what these need: operands, control and null models.
        force: run also what is fresh.
        accelerator: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        fabric: arguments of Lightning's Fabric (``devices``, ``strategy``, ``precision``, …).
        threads: of each worker; default ``OMP_NUM_THREADS``, else a share of the processors.
        timeout: a factor on the tier's limits of time.
        budget: what seeds beyond the first look may take in all, in seconds of their records.

    Raises:
        PlanError: something that no run could be asked for.
    """

    key: str
    tier: str = "cpu"
    jobs: int | None = None
    seeds: int | range | Literal["auto"] | None = None
    variants: Sequence[str] | str | None = None
    force: bool = False
    engine: EngineName = "local"
    accelerator: str = "auto"
    fabric: Mapping[str, Any] = field(default_factory=dict)
    threads: int | None = None
    timeout: float = 1.0
    budget: float | None = None
    claims: Sequence[str] | str | None = None

    def __post_init__(self) -> None:
        for name in ("jobs", "seeds", "threads"):
            value = getattr(self, name)
            if name == "seeds" and (value == "auto" or isinstance(value, range)):
                continue
            if value is not None and (type(value) is not int or value < 1):
                raise PlanError(f"{name} must be a whole number from 1; got {value!r}")
        if isinstance(self.seeds, range) and not (self.seeds.start >= 0 and len(self.seeds) > 0):
            raise PlanError(f"a range of seeds begins at 0 or above and has some; got {self.seeds}")
        if self.engine not in get_args(EngineName):
            known = " and ".join(get_args(EngineName))
            raise PlanError(f"there is no engine {self.engine!r}; there are {known}")
        if not isinstance(self.timeout, (int, float)) or not self.timeout > 0:
            raise PlanError(f"timeout is a factor above 0; got {self.timeout!r}")
        if self.budget is not None and not self.budget >= 0:
            raise PlanError(f"budget is a number of seconds; got {self.budget!r}")
        for name in ("variants", "claims"):
            if isinstance(getattr(self, name), str):
                object.__setattr__(self, name, [getattr(self, name)])
            if getattr(self, name) is not None and not getattr(self, name):
                raise PlanError(f"no {name[:-1]} is named; leave it out to run all of them")
        if self.variants and self.claims:
            raise PlanError("a claim says which variants it needs: name claims or variants")
        if self.accelerator == "gpu":
            object.__setattr__(self, "accelerator", "cuda")

    @property
    def configuration(self) -> str:
        """A name for settings that come from flags: ``bf16-mixed``, ``4-devices-ddp``."""
        words = {"devices": "{}-devices", "num_nodes": "{}-nodes"}
        return "-".join(words.get(name, "{}").format(v) for name, v in self.fabric.items())


def seeds_asked(text: str) -> int | range | Literal["auto"]:
    """Seeds as the command line gives them: ``10``, ``100:110`` (without the last) or ``auto``.

    Raises:
        PlanError: none of these.
    """
    if text == "auto":
        return "auto"
    if match := re.fullmatch(r"(\d{1,9}):(\d{1,9})", text, re.ASCII):
        return range(int(match[1]), int(match[2]))
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise PlanError(f"seeds are a whole number from 1, a range 100:110, or auto; got {text!r}")
    return int(text)
