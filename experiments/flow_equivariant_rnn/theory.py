"""What holds without training: equivariance, parameters, and cost over the number of banks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from experiments.flow_equivariant_rnn.model import (
    Forecaster,
    TranslationCell,
    TranslationForecaster,
    shifted,
    velocities,
)
from harness.procedures.base import Outcome, Trial, exact
from harness.procedures.cost import flops, interleaved, parameters
from harness.records import Series

QUARTERS = (-90, 0, 90, 180)


class FlowError:
    """``flow_error``: how far the state of a flowing input is from what equivariance says.

    Random weights and frames, double precision. For every flow ν̂ and bank ν the state of the
    input that flows at ν̂ is compared with ψ(ν̂)^{T-1} of the still input's state in bank ν - ν̂,
    where V has it (without banks: in the one there is). Reported is the largest difference over
    the largest activity.

    Args:
        flows: translations of up to two pixels along each axis, or quarter turns.
        side: of the square frames, pixels.
        frames: T.
    """

    def __init__(
        self,
        flows: Literal["translations", "quarter turns"] = "translations",
        side: int = 9,
        frames: int = 6,
    ) -> None:
        self.flows = flows
        self.side = side
        self.frames = frames

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"flow_error"}

    @torch.no_grad()
    def run(self, trial: Trial) -> Outcome:
        model = trial.model().double()
        assert isinstance(model, Forecaster)
        x = torch.rand(2, self.frames, 1, self.side, self.side, dtype=torch.float64)
        turning = self.flows != "translations"
        flows = QUARTERS if turning else velocities(2, self.side, self.side)
        error = max(self._error(model, x, flow) for flow in flows)
        return Outcome({"flow_error": error})

    def _error(self, model: Forecaster, x: Tensor, flow: Any) -> float:
        cell, still, flowing = model.cell, model.state(x), model.state(self._flowing(x, flow))
        worst = 0.0
        for bank, velocity in enumerate(cell.velocities):
            relative = self._relative(velocity, flow)
            if len(cell.velocities) > 1 and relative not in cell.velocities:
                continue
            other = cell.velocities.index(relative) if len(cell.velocities) > 1 else 0
            expected = still[:, other]
            for _ in range(self.frames - 1):
                expected = cell.moved(expected, flow)
            worst = max(worst, float((flowing[:, bank] - expected).abs().max()))
        return worst / float(still.abs().max())

    def _flowing(self, x: Tensor, flow: Any) -> Tensor:
        frames = enumerate(x.unbind(1))
        if self.flows == "translations":
            moved = [shifted(frame, t * flow[0], t * flow[1]) for t, frame in frames]
        else:
            moved = [torch.rot90(frame, t * flow // 90, (-2, -1)) for t, frame in frames]
        return torch.stack(moved, dim=1)

    def _relative(self, velocity: Any, flow: Any) -> Any:
        if self.flows == "translations":
            return velocity[0] - flow[0], velocity[1] - flow[1]
        return (velocity - flow + 90) % 360 - 90


class Size:
    """``parameters`` of the model; nothing is computed."""

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"parameters"}

    def run(self, trial: Trial) -> Outcome:
        return Outcome({"parameters": exact(parameters(trial.model))})


class Cost:
    """Cost of one step of the recurrence over the number of banks, 1, 9 and 25.

    ``operations``: floating-point operations of a step at the paper's size; ``state_bytes``: of
    the hidden state. ``slowdown``: seconds of a forward and backward pass over a sequence with 25
    banks over those with one, measured in turns.

    Args:
        hidden, side: of the networks whose operations are counted.
        timed_hidden, timed_side: of those that are timed.
    """

    def __init__(
        self,
        hidden: int = 128,
        side: int = 28,
        timed_hidden: int = 64,
        timed_side: int = 28,
        repeats: int = 5,
    ) -> None:
        self.hidden, self.side = hidden, side
        self.timed_hidden, self.timed_side = timed_hidden, timed_side
        self.repeats = repeats

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"operations", "state_bytes", "slowdown"}

    def run(self, trial: Trial) -> Outcome:
        cells = [
            TranslationCell(1, self.hidden, self.side, self.side, reach) for reach in (0, 1, 2)
        ]
        banks = [float(len(cell.velocities)) for cell in cells]
        operations, sizes = zip(*map(self._step, cells), strict=True)
        seconds = interleaved({str(r): self._pass(r) for r in (0, 2)}, self.repeats)
        return Outcome(
            {"slowdown": seconds["2"] / seconds["0"]},
            {
                "operations": Series(over="banks", x=banks, y=list(operations)),
                "state_bytes": Series(over="banks", x=banks, y=list(sizes)),
            },
        )

    def _step(self, cell: TranslationCell) -> tuple[float, float]:
        cell = cell.to("meta")
        frame = torch.empty(1, 1, self.side, self.side, device="meta")
        h = cell.initial(1, frame)
        return float(sum(flops(lambda: cell(frame, h, 0)).values())), float(h.nbytes)

    def _pass(self, reach: int) -> Callable[[], object]:
        size = (self.timed_side, self.timed_side)
        model = TranslationForecaster(*size, hidden=self.timed_hidden, reach=reach)
        x = torch.rand(1, 4, 1, *size)
        return lambda: model.state(x).sum().backward()  # type: ignore[no-untyped-call]
