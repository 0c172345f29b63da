"""Train a heart-rate network, then stream the recordings under test and compare with inference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from experiments.streaminnc.data import RATE, STEP, WINDOW, HeartRates, Recording
from experiments.streaminnc.model import StreamableNet
from experiments.streaminnc.streaming import (
    Streaming,
    needed_history,
    stages,
    total_stride,
)
from harness.procedures.base import Outcome, Trial
from harness.procedures.fit import Fit

FIRST_BLOCK = 4  # three convolutions and their pooling: what is streamed in partial streaming
MODES = ("exact", "approximate", "partial", "misaligned")


class StreamedFit(Fit):
    """Fit, and then stream every recording under test in each of the paper's ways.

    Windows advance by 64 samples, in the misaligned way by ``misaligned_step``; each window's
    output is compared with full inference on the same window, which sees as much history as the
    training windows have. Figures are means over recordings:

    - ``mae_full``, ``mae_<way>``: beats/min from the true rate;
    - ``nrmse_<way>``: from full inference, relative to the range of its outputs;
    - ``nrmse_long_history``: exact streaming from full inference that is given all the history
      that its embedding depends on;
    - ``activation_nrmse``: outputs of the last convolution, of one window and of the next, in
      the samples that both have (Figure 6).
    """

    def __init__(self, misaligned_step: int = 63, **fit: Any) -> None:
        super().__init__(**fit)
        self.misaligned_step = misaligned_step

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        own = {f"{name}_{mode}" for name in ("mae", "nrmse") for mode in MODES}
        own |= {"mae_full", "nrmse_long_history", "activation_nrmse"}
        return super().produces(init_args) | own

    def measure(self, model: nn.Module, trial: Trial) -> Outcome:
        net = model.cpu()
        assert isinstance(net, StreamableNet)
        return Outcome(streamed_figures(net, trial.data, self.misaligned_step))


def streamed_figures(
    net: StreamableNet, data: HeartRates, misaligned_step: int
) -> dict[str, float]:
    """The figures of :class:`StreamedFit`, averaged over the recordings under test."""
    rows = [_recording_figures(net, r, data.history, misaligned_step) for r in data.recordings]
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


@torch.no_grad()
def _recording_figures(
    net: StreamableNet, recording: Recording, history: int, misaligned_step: int
) -> dict[str, float]:
    ways = {
        "exact": Streaming(net.features, WINDOW, STEP),
        "approximate": Streaming(net.features, WINDOW, STEP, memory=False),
        "partial": Streaming(net.features, WINDOW, STEP, layers=FIRST_BLOCK),
        "misaligned": Streaming(net.features, WINDOW, misaligned_step),
    }
    figures = {}
    for way, streaming in ways.items():
        starts = recording.starts(streaming.step)
        full: Tensor = net(recording.windows(starts, history))
        streamed = net.head(streaming.run(recording.x[None])[starts // streaming.step])
        figures[f"nrmse_{way}"] = nrmse(full, streamed)
        figures[f"mae_{way}"] = _mae(streamed, recording.rate_at(starts))
        if way == "exact":
            figures["mae_full"] = _mae(full, recording.rate_at(starts))
            long = net(recording.windows(starts, enough_history(net)))
            figures["nrmse_long_history"] = nrmse(long, streamed)
    figures["activation_nrmse"] = _activation_nrmse(net, recording, history)
    return figures


def enough_history(net: StreamableNet) -> int:
    """Samples before a window, a multiple of the total stride, that leave no zero in reach."""
    parts = stages(net.features)
    stride = total_stride(parts)
    return -(-needed_history(parts) // stride) * stride


def nrmse(full: Tensor, other: Tensor) -> float:
    """Root mean squared difference, relative to the range of ``full``."""
    error = (full - other).double().square().mean().sqrt()
    return float(error / (full.max() - full.min()))


def _mae(output: Tensor, rate: Tensor) -> float:
    return float((output - rate).abs().mean())


def _activation_nrmse(net: StreamableNet, recording: Recording, history: int) -> float:
    """Last convolution's outputs of a window against the next window's, where they overlap."""
    *convolutions, _pooling = stages(net.features)
    x = recording.windows(recording.starts(), history)
    for stage in convolutions:
        x = stage.full(x)
    columns, new = (samples // total_stride(convolutions) for samples in (WINDOW, STEP))
    x = x[..., -columns:]
    return nrmse(x[1:, :, :-new], x[:-1, :, new:])


class Naive:
    """Heart rate without a network: the mean rate in training, or the spectrum's peak.

    Reports ``mae_full`` as :class:`StreamedFit` does.
    """

    def __init__(self, rule: Literal["mean", "spectral-peak"]) -> None:
        self.rule = rule

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"mae_full"}

    def run(self, trial: Trial) -> Outcome:
        data: HeartRates = trial.data
        mean = data.train[torch.arange(len(data.train))]["y"].mean()
        errors = []
        for recording in data.recordings:
            rate = recording.rate_at(recording.starts())
            estimate = mean.expand(len(rate))
            if self.rule == "spectral-peak":
                estimate = spectral_peak(recording.windows(recording.starts())[:, 0])
            errors.append(_mae(estimate, rate))
        return Outcome({"mae_full": sum(errors) / len(errors)})


def spectral_peak(x: Tensor, low: float = 0.7, high: float = 3.0) -> Tensor:
    """Frequency of the largest spectral line of windows (B, n) at 32 Hz, in cycles/min: (B,)."""
    padded = 8 * x.shape[-1]
    spectrum = torch.fft.rfft(x * torch.hann_window(x.shape[-1], periodic=False), padded).abs()
    frequencies = torch.arange(spectrum.shape[-1]) * RATE / padded
    spectrum[:, (frequencies < low) | (frequencies > high)] = 0
    return 60 * frequencies[spectrum.argmax(-1)]


@dataclass(frozen=True)
class Identity:
    """Exact streaming of an untrained network against inference on windows with history.

    ``embedding_nrmse`` over ``windows`` windows of white noise, in double precision.

    Args:
        history: samples before each window; ``None`` for all that the embedding depends on.
        step: S.
        windows: compared, after the first ones, of which the history is not complete.
    """

    history: int | None = None
    step: int = 64
    windows: int = 20

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"embedding_nrmse"}

    @torch.no_grad()
    def run(self, trial: Trial) -> Outcome:
        net = trial.model().double().eval()
        assert isinstance(net, StreamableNet)
        enough = enough_history(net)
        history = enough if self.history is None else self.history
        lead = -(-max(enough, history) // self.step)
        x = torch.randn(1, net.window + self.step * (lead + self.windows - 1), dtype=torch.float64)
        streamed = Streaming(net.features, net.window, self.step).run(x)[lead:]
        starts = self.step * (lead + torch.arange(self.windows))
        extended = x[0, starts[:, None] + torch.arange(-history, net.window)][:, None]
        full = net.features(extended)[..., -net.columns :]
        return Outcome({"embedding_nrmse": nrmse(full, streamed)})
