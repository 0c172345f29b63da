"""How the time of an inference falls with the step between windows, on one machine at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from scipy import stats
from torch import Tensor, nn

from experiments.streaminnc.model import StreamableNet
from experiments.streaminnc.streaming import Streaming, multiplications, stages
from harness.procedures.base import Outcome, Progress, Trial, exact
from harness.records import Measured, Series

WAYS = ("exact", "approximate")
Inference = Callable[[], Tensor]


class Speed:
    """Time of f on S new samples on a CPU, relative to full inference on the whole window.

    Time is the processor's, not the clock's, so that waiting on a busy machine does not count.
    All timings of a trial are interleaved: every round measures full inference and each step in
    both ways once, and the fastest of the rounds counts. The network is untrained, the input
    white noise.

    Reported for ``exact`` and ``approximate`` streaming: ``slope_<way>`` of a line through
    (S / L, time / full time), 1 if the speed-up is L / S; ``linearity_<way>``, the R² of that
    line; the series ``speedup_<way>`` over L / S; besides, ``buffer_overhead``, by how much exact
    streaming takes longer (mean over S), and ``operations_deviation``, the largest relative
    difference of the multiplications saved from L / S.

    Args:
        divisors: L / S.
        streams: independent signals in one batch. One is the paper's setting; with more, the
            time is that of the arithmetic and not of calling the layers.
        rounds: of measurement, after two unmeasured ones.
        recompute: stream nothing, so that every step is a full inference (a control).
    """

    def __init__(
        self,
        divisors: Sequence[int] = (2, 3, 4, 5, 6, 8, 10, 12),
        streams: int = 1,
        rounds: int = 30,
        recompute: bool = False,
    ) -> None:
        self.divisors = list(divisors)
        self.streams = streams
        self.rounds = rounds
        self.recompute = recompute

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        per_way = ("slope", "linearity", "speedup")
        names = {f"{name}_{way}" for name in per_way for way in WAYS}
        return names | {"buffer_overhead", "operations_deviation"}

    @torch.no_grad()
    def run(self, trial: Trial) -> Outcome:
        net = trial.model().eval()
        assert isinstance(net, StreamableNet)
        inferences = self._inferences(net)
        times = self._fastest(inferences, trial)
        full = times.pop(("full", 1))
        metrics: dict[str, float | Measured] = {}
        series = {}
        for way in WAYS:
            share = [times[way, divisor] / full for divisor in self.divisors]
            line = stats.linregress([1 / divisor for divisor in self.divisors], share)
            metrics |= {
                f"slope_{way}": float(line.slope),
                f"linearity_{way}": float(line.rvalue**2),
            }
            speedups = [1 / value for value in share]
            x = [float(divisor) for divisor in self.divisors]
            series[f"speedup_{way}"] = Series(over="L / S", x=x, y=speedups)
        over = [times["exact", d] / times["approximate", d] - 1 for d in self.divisors]
        metrics["buffer_overhead"] = sum(over) / len(over)
        metrics["operations_deviation"] = exact(self._operations_deviation(net))
        return Outcome(metrics, series)

    def _inferences(self, net: StreamableNet) -> dict[tuple[str, int], Inference]:
        window = torch.randn(self.streams, _channels(net), net.window)
        found: dict[tuple[str, int], Inference] = {("full", 1): lambda: net(window)}
        for divisor in self.divisors:
            for way in WAYS:
                streaming = Streaming(
                    net.features,
                    net.window,
                    net.window // divisor,
                    memory=way == "exact",
                    layers=0 if self.recompute else None,
                )
                streaming.start(window)
                new = window[..., : streaming.step].contiguous()
                found[way, divisor] = lambda s=streaming, x=new: net.head(s.push(x))  # type: ignore[misc]
        return found

    def _fastest(
        self, inferences: Mapping[tuple[str, int], Inference], trial: Trial
    ) -> dict[tuple[str, int], float]:
        fastest = dict.fromkeys(inferences, float("inf"))
        for index in range(-2, self.rounds):
            for name, inference in inferences.items():
                seconds = _seconds(inference)
                if index >= 0:
                    fastest[name] = min(fastest[name], seconds)
            trial.report(Progress(max(index + 1, 0), self.rounds))
        return fastest

    def _operations_deviation(self, net: StreamableNet) -> float:
        parts = stages(net.features)
        whole = multiplications(parts, net.window)
        deviations = []
        for divisor in self.divisors:
            columns = net.window if self.recompute else net.window // divisor
            deviations.append(abs(whole / multiplications(parts, columns) / divisor - 1))
        return max(deviations)


def _channels(net: StreamableNet) -> int:
    first = stages(net.features)[0].layer
    assert isinstance(first, nn.Conv1d)
    return first.in_channels


def _seconds(inference: Inference) -> float:
    begin = time.process_time()
    inference()
    return time.process_time() - begin
