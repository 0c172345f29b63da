"""What holds without training: counts, parallel and sequential form, the delay line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from baselines.lmu import (
    LegendreMemory,
    held,
    impulse_response,
    legendre_system,
    window_readout,
)
from experiments.lmuformer.model import LMUFormer, running_mean
from experiments.lmuformer.streaming import Stream
from harness.procedures.base import Outcome, Trial, exact
from harness.records import Series


class Counts:
    """``parameters``, and ``macs``: multiply-accumulates on one sequence, in the parallel form.

    Args:
        frames: length of the sequence.
        features: numbers in a frame.
    """

    def __init__(self, frames: int = 128, features: int = 128) -> None:
        self.frames = frames
        self.features = features

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"parameters", "macs"}

    def run(self, trial: Trial) -> Outcome:
        with torch.device("meta"):  # shapes are enough
            model = trial.model()
        parameters = sum(p.numel() for p in model.parameters())
        macs = multiplications(model, torch.zeros(1, self.frames, self.features))
        return Outcome({"parameters": exact(parameters), "macs": exact(macs)})


def multiplications(model: nn.Module, x: Tensor) -> int:
    """Multiply-accumulates of all matrix products, convolutions and Fourier transforms.

    Nothing is computed. Normalisation and activations are not counted.
    """
    model = model.eval().to("meta")
    with FlopCounterMode(display=False) as counter, torch.enable_grad():
        model(x.to("meta"))
    memories = (part for part in model.modules() if isinstance(part, LegendreMemory))
    transforms = sum(len(x) * fourier_multiplications(memory) for memory in memories)
    products: int = counter.get_total_flops() // 2
    return products + transforms


def fourier_multiplications(memory: LegendreMemory) -> int:
    """Of the parallel form: order + 1 real transforms of 2n points, and a product for each.

    A real transform of N points takes N / 4 log2 N complex multiplications of four real ones.
    """
    points = 2 * memory.steps
    transform = points * math.ceil(math.log2(points))
    return (memory.order + 1) * transform + 4 * memory.order * (memory.steps + 1)


class Streaming:
    """Sequential against parallel computation of an untrained network on noise.

    ``streaming_error``: largest difference of the logits after each frame, relative to their
    standard deviation. ``look_ahead``: frames that have to arrive before the first can be scored.

    Args:
        frames: length of the sequences.
        forget: the memory is emptied at every step (a control).
    """

    def __init__(self, frames: int = 128, features: int = 128, forget: bool = False) -> None:
        self.frames = frames
        self.features = features
        self.forget = forget

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"streaming_error", "look_ahead"}

    @torch.no_grad()
    def run(self, trial: Trial) -> Outcome:
        model = trial.model()
        assert isinstance(model, LMUFormer)
        settle(model, self.features, self.frames)
        x = torch.randn(4, self.frames, self.features)
        whole = model.head(running_mean(model.features(x)))
        stream, found, waited = Stream(model, len(x)), [], 0
        for frame in x.unbind(1):
            if self.forget:
                stream.memory.zero_()
            logits = stream.push(frame)
            waited += logits is None
            found += [] if logits is None else [logits]
        streamed = torch.stack([*found, *stream.finish()], dim=1)
        error = float((streamed - whole).abs().max() / whole.std())
        return Outcome({"streaming_error": error, "look_ahead": exact(waited)})


@torch.no_grad()
def settle(model: nn.Module, features: int, frames: int) -> None:
    """Give batch normalisation the statistics of noise, and leave the model in evaluation."""
    for _ in range(5):
        model.train()(torch.randn(4, frames, features))
    model.eval()


class Forms:
    """``form_error``: largest difference between the memory's parallel and recurrent states.

    Relative to the largest state; single precision, the paper's size, white noise.

    Args:
        padding: zeros behind the signal before it is transformed, in lengths of the signal; the
            paper has 1. With 0 the end of a sequence runs into its begin (a control).
    """

    def __init__(
        self, order: int = 256, steps: int = 128, padding: Literal[0, 1] = 1, batch: int = 8
    ) -> None:
        self.order = order
        self.steps = steps
        self.padding = padding
        self.batch = batch

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"form_error"}

    def run(self, trial: Trial) -> Outcome:
        memory = LegendreMemory(self.order, self.steps, self.steps)
        u = torch.randn(self.batch, self.steps)
        parallel = memory(u) if self.padding else self._wrapped(u)
        m, recurrent = torch.zeros(self.batch, self.order), []
        for now in u.unbind(1):
            m = memory.step(now, m)
            recurrent.append(m)
        expected = torch.stack(recurrent, dim=1)
        return Outcome(
            {"form_error": float((parallel - expected).abs().max() / expected.abs().max())}
        )

    def _wrapped(self, u: Tensor) -> Tensor:
        response = impulse_response(*held(*legendre_system(self.order, self.steps)), self.steps)
        spectrum = torch.fft.rfft(torch.from_numpy(response.T.copy()).float())
        product = torch.fft.rfft(u)[:, None] * spectrum
        states: Tensor = torch.fft.irfft(product, n=self.steps)
        return states.transpose(1, 2)


class DelayLine:
    """``delay_error`` over the order: what the memory still knows of its window.

    The signal is a sum of cosines of up to ``cycles`` periods a window. The error is the root mean
    square over all delays within the window, relative to the signal's; ``delay_error`` is that of
    the largest order.

    Args:
        orders: sizes of the memory.
        window: steps.
        mirrored: reads the window backwards (a control).
    """

    def __init__(
        self,
        orders: tuple[int, ...] = (4, 8, 16, 32),
        window: int = 128,
        cycles: float = 4.0,
        mirrored: bool = False,
    ) -> None:
        self.orders = orders
        self.window = window
        self.cycles = cycles
        self.mirrored = mirrored

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"delay_error", "delay_error_over_order"}

    def run(self, trial: Trial) -> Outcome:
        generator = np.random.default_rng(trial.seed)
        t = np.arange(6 * self.window) / self.window
        rates, phases = generator.uniform(0, self.cycles, 8), generator.uniform(0, 2 * np.pi, 8)
        signal = np.cos(2 * np.pi * rates[:, None] * t + phases[:, None]).sum(0)
        errors = [self._error(order, signal) for order in self.orders]
        series = Series(over="order", x=[float(order) for order in self.orders], y=errors)
        return Outcome({"delay_error": errors[-1]}, {"delay_error_over_order": series})

    def _error(self, order: int, signal: np.ndarray) -> float:
        a, b = held(*legendre_system(order, self.window))
        ages = np.arange(self.window)
        # A value is held for a step: the middle of what entered j steps ago is j + 1/2 old.
        readout = window_readout(order, (ages + 0.5) / self.window)
        if self.mirrored:
            readout = readout[::-1]
        m, squares = np.zeros(order), []
        for now, value in enumerate(signal):
            m = a @ m + b * value
            if now >= 2 * self.window and now % 16 == 0:
                squares.append(np.mean((readout @ m - signal[now - ages]) ** 2))
        return float(np.sqrt(np.mean(squares) / np.mean(signal**2)))
