"""What can be said without data: the reach of zero padding, and the error of shifted pooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.streaminnc.model import StreamableNet
from experiments.streaminnc.streaming import Stage, stages
from harness.procedures.base import Outcome, Trial, exact
from harness.records import Measured, Series

Pool = Literal["max", "average", "subsample"]
Floats = npt.NDArray[np.float64]
SECONDS = 8


class PaddingEffect:
    """Share of a convolution's outputs below 1 on a constant input of 1 (Figure 5).

    All kernels are moving averages, activations and normalisations the identity.

    Args:
        history: real samples before the window, of which no output is counted (0 in the paper).
        layers: convolutions reported as ``effect_conv<i>``, counted from 1; the last one always
            is ``effect_last``.
    """

    def __init__(self, history: int = 0, layers: Sequence[int] = ()) -> None:
        self.history = history
        self.layers = list(layers)

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        named = {f"effect_conv{layer}" for layer in init_args.get("layers", ())}
        return named | {"effect_last", "effect"}

    def run(self, trial: Trial) -> Outcome:
        net = trial.model()
        assert isinstance(net, StreamableNet)
        shares = padding_effect(stages(net.features), net.window, self.history)
        metrics = {f"effect_conv{layer}": exact(shares[layer - 1]) for layer in self.layers}
        metrics["effect_last"] = exact(shares[-1])
        depths = [float(depth) for depth in range(1, len(shares) + 1)]
        return Outcome(metrics, {"effect": Series(over="layer", x=depths, y=shares)})


def padding_effect(parts: Sequence[Stage], window: int, history: int = 0) -> list[float]:
    """Share of each convolution's outputs within the window that are below 1.

    Averages of ones and zeros are below 1 exactly if a zero (or a value below 1) is among them,
    the maximum if all are: so it is enough to know which columns are, and nothing is rounded.
    """
    below = torch.zeros(1, 1, history + window)
    shares, columns = [], window
    for stage in parts:
        below, columns = _below_one(stage, below), columns // stage.stride
        if isinstance(stage.layer, nn.Conv1d):
            shares.append(float(below[..., -columns:].double().mean()))
    return shares


def _below_one(stage: Stage, below: Tensor) -> Tensor:
    """Which output columns are below 1, as 0 or 1 like ``below`` (1, 1, T)."""
    padded = F.pad(below, (stage.left, stage.right), value=1.0)
    if isinstance(stage.layer, nn.MaxPool1d):
        return -F.max_pool1d(-padded, stage.reach, stage.stride)
    if isinstance(stage.layer, nn.Conv1d):
        taps = torch.ones(1, 1, stage.layer.kernel_size[0])
        hits = F.conv1d(padded, taps, stride=stage.stride, dilation=stage.layer.dilation)
        return (hits > 0).to(below.dtype)
    return F.max_pool1d(padded, stage.reach, stage.stride)


class PoolingError:
    """Error of reusing pooled values when the window moved by less than a pooling length.

    x(t) = cos(2 pi f t) summed over f = f0, 2 f0, … (``harmonics`` of them), f0 = 1 Hz. The
    signal's pooled values (pooling length Lp = stride) are compared with those of the signal
    moved by S = 1 … Lp samples, relative to sup |x|, over 8 s; the largest S counts. The bound
    on the relative error is (Lp - 1) 2 pi fmax / fs (eq. 4 to 6).

    Args:
        pool: maximum (eq. 5), average (eq. 6) or first sample (eq. 4).
        beyond: the signal's frequencies are this factor above those that the bound is told.
        rates: sampling frequencies fs in Hz, at ``length``.
        lengths: pooling lengths, at ``rate``.
    """

    def __init__(
        self,
        pool: Pool = "max",
        harmonics: int = 1,
        beyond: float = 1.0,
        rates: Sequence[int] = (64, 128, 256, 512, 1024),
        length: int = 8,
        lengths: Sequence[int] = (2, 4, 8, 16),
        rate: int = 256,
    ) -> None:
        self.pool: Pool = pool
        self.harmonics = harmonics
        self.beyond = beyond
        self.rates, self.length = list(rates), length
        self.lengths, self.rate = list(lengths), rate

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {
            "largest_over_bound",
            "smallest_over_bound",
            "mean_over_bound",
            "error_over_rate",
            "error_over_length",
        }

    def run(self, trial: Trial) -> Outcome:
        by_rate = [self._errors(self.length, rate) for rate in self.rates]
        by_length = [self._errors(length, self.rate) for length in self.lengths]
        every = np.array(by_rate + by_length)
        largest, mean, bound = every.T
        metrics: dict[str, float | Measured] = {
            "largest_over_bound": exact(np.max(largest / bound)),
            "smallest_over_bound": exact(np.min(largest / bound)),
            "mean_over_bound": exact(np.max(mean / bound)),
        }
        return Outcome(
            metrics,
            {
                "error_over_rate": _series("fs", self.rates, by_rate),
                "error_over_length": _series("Lp - 1", [n - 1 for n in self.lengths], by_length),
            },
        )

    def _errors(self, length: int, rate: int) -> tuple[float, float, float]:
        """Largest error, largest mean error over S, and the bound, all relative to sup |x|."""
        samples = SECONDS * rate
        t = np.arange(samples + length) / rate
        frequencies = self.beyond * np.arange(1, self.harmonics + 1)
        x = np.cos(2 * np.pi * frequencies[:, None] * t).sum(0) / self.harmonics
        largest, mean = shifted_pooling_errors(x, samples, length, self.pool)
        return largest, mean, float(pooling_bound(length, self.harmonics / rate))


def pooling_bound(length: int, fmax_over_fs: float) -> float:
    """Bound on the relative error of a misaligned pooling (eq. 4 to 6)."""
    return (length - 1) * 2 * np.pi * fmax_over_fs


def shifted_pooling_errors(x: Floats, samples: int, length: int, pool: Pool) -> tuple[float, float]:
    """Over all shifts 1 … length: the largest error, and the largest mean error.

    A shift by the whole length is aligned: the value is then found one column further.
    """
    reference = pooled(x[:samples], length, pool)
    largest, mean = 0.0, 0.0
    for shift in range(1, length + 1):
        moved = pooled(x[shift : samples + shift], length, pool)
        columns = shift // length
        error = np.abs(reference[columns:] - moved[: len(moved) - columns])
        largest, mean = max(largest, float(error.max())), max(mean, float(error.mean()))
    return largest, mean


def pooled(x: Floats, length: int, pool: Pool) -> Floats:
    """Pool without overlap; an incomplete last piece is left out."""
    pieces = x[: len(x) // length * length].reshape(-1, length)
    if pool == "max":
        return np.asarray(pieces.max(1))
    return np.asarray(pieces.mean(1) if pool == "average" else pieces[:, 0])


def _series(over: str, x: Sequence[int], errors: Sequence[tuple[float, float, float]]) -> Series:
    return Series(over=over, x=[float(v) for v in x], y=[largest for largest, _, _ in errors])
