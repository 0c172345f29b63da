"""Heart rate from wrist photoplethysmography: recordings, cut into windows of 8 s every 2 s.

Two public data sets and a simulation. All recordings are brought to 32 Hz and to zero mean and
unit variance *as a whole*: a window must not be scaled on its own, for then overlapping windows
would not share their samples, and nothing could be streamed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import io, signal
from torch import Tensor

from harness.loading.pickles import load_arrays
from harness.loading.splits import Splits, Tensors
from harness.seeding import derive

Floats = npt.NDArray[np.float64]
RATE = 32
WINDOW = 256
STEP = 64
LEAD = 5  # windows at a recording's begin that are never used: they lack 320 samples of history


@dataclass(frozen=True)
class Recording:
    """One uninterrupted recording.

    Attributes:
        subject: recordings of one subject are held out together.
        x: the signal at 32 Hz, float32 (n,), zero mean, unit variance.
        rate: heart rate in beats/min of the window that begins at sample ``64 k``, float32 (m,).
    """

    subject: str
    x: Tensor
    rate: Tensor

    def windows(self, starts: Tensor, history: int = 0) -> Tensor:
        """(len(starts), 1, history + 256): windows with the samples before them.

        Raises:
            ValueError: a window reaches beyond the recording.
        """
        if len(starts) and (starts.min() < history or starts.max() + WINDOW > len(self.x)):
            raise ValueError("a window reaches beyond the recording")
        offsets = torch.arange(-history, WINDOW)
        return self.x[starts[:, None] + offsets][:, None]

    def starts(self, step: int = STEP) -> Tensor:
        """First samples of the windows at multiples of ``step`` that have a history and a rate."""
        last = min(len(self.x) - WINDOW, STEP * (len(self.rate) - 1))
        first = -(-LEAD * STEP // step) * step
        return torch.arange(first, last + 1, step)

    def rate_at(self, starts: Tensor) -> Tensor:
        """Heart rate of windows that begin at any sample, interpolated between the known ones."""
        known = STEP * np.arange(len(self.rate))
        values = np.interp(starts.numpy(), known, self.rate.numpy())
        return torch.as_tensor(values, dtype=torch.float32)


@dataclass(frozen=True)
class HeartRates(Splits):
    """Windows for training and testing; and the recordings under test, uncut."""

    recordings: tuple[Recording, ...] = ()
    history: int = 0


def leave_out(recordings: Sequence[Recording], held_out: set[str], history: int) -> HeartRates:
    """Train on all subjects but those held out.

    Raises:
        ValueError: no recording is left on one of the two sides; or ``history`` is negative or
            longer than what is left out at the begin of recordings.
    """
    if not 0 <= history <= LEAD * STEP:
        raise ValueError(f"history: 0 to {LEAD * STEP} samples, got {history}")
    train = [r for r in recordings if r.subject not in held_out]
    test = [r for r in recordings if r.subject in held_out]
    if not train or not test:
        raise ValueError(f"no recordings to train or to test on when {held_out} are held out")
    return HeartRates(
        _cut(train, history), _cut(test, history), recordings=tuple(test), history=history
    )


def _cut(recordings: Iterable[Recording], history: int) -> Tensors:
    cut = [(r.windows(r.starts(), history), r.rate_at(r.starts())) for r in recordings]
    return Tensors(x=torch.cat([x for x, _ in cut]), y=torch.cat([y for _, y in cut]))


def group(subjects: Iterable[str], index: int, groups: int) -> set[str]:
    """Every ``groups``-th subject, beginning with ``index`` (modulo ``groups``)."""
    return set(sorted(set(subjects))[index % groups :: groups])


def condition(x: Floats, rate: int) -> Tensor:
    """Band-pass 0.5 to 4 Hz, resample to 32 Hz, zero mean and unit variance: float32 (n,)."""
    band = signal.butter(4, (0.5, 4.0), "bandpass", fs=rate, output="sos")
    resampled = signal.resample_poly(signal.sosfiltfilt(band, x), RATE, rate)
    standard = (resampled - resampled.mean()) / resampled.std()
    return torch.as_tensor(standard, dtype=torch.float32)


def ieee_spc(root: Path, seed: int = 0, history: int = 0, groups: int = 5) -> HeartRates:
    """Signal Processing Cup 2015: 23 recordings, 125 Hz, treadmill and arm exercise.

    Subjects are dealt to ``groups``; the seed says which group is tested.

    Args:
        history: samples before each window that belong to the input (signal padding).

    Raises:
        FileNotFoundError: a recording or its heart rate is missing.
    """
    recordings = [
        Recording(
            subject,
            condition(_matrix(root / file, "sig")[row], 125),
            torch.as_tensor(_matrix(root / rates, "BPM0")[:, 0], dtype=torch.float32),
        )
        for subject, file, rates, row in _spc_files(root)
    ]
    return leave_out(recordings, group((r.subject for r in recordings), seed, groups), history)


def _spc_files(root: Path) -> list[tuple[str, str, str, int]]:
    """Subject, signal file, heart-rate file and row of the first photoplethysmogram.

    The test recordings have no electrocardiogram in row 0, so that all rows are shifted. The
    subjects of the additional and of the test recordings share their numbering.
    """
    training = sorted(p.stem for p in root.glob("Training_data/DATA_??_TYPE0?.mat"))
    test = sorted(p.stem for p in root.glob("TestData/TEST_S??_T0?.mat"))
    if not training or not test:
        raise FileNotFoundError("no Training_data/DATA_*.mat or no TestData/TEST_*.mat")
    files = [
        (stem[5:7], f"Training_data/{stem}.mat", f"Training_data/{stem}_BPMtrace.mat", 1)
        for stem in training
    ]
    files += [
        (stem[5:8], f"TestData/{stem}.mat", f"TrueBPM/True_{stem[5:]}.mat", 0) for stem in test
    ]
    extra = "Extra_TrainingData"
    return [*files, ("S04", f"{extra}/DATA_S04_T01.mat", f"{extra}/BPM_S04_T01.mat", 1)]


def _matrix(path: Path, name: str) -> Floats:
    return np.asarray(io.loadmat(path)[name], dtype=np.float64)


def ppg_dalia(root: Path, subject: int = 1, history: int = 0) -> HeartRates:
    """PPG-DaLiA: 15 subjects in daily life, the wrist signal at 64 Hz; one subject is tested.

    Files ``S<i>.pkl`` lie anywhere below the root: ``signal.wrist.BVP`` (n, 1) and ``label``
    (heart rate of the 8 s that begin every 2 s).

    Raises:
        FileNotFoundError: there are no such files.
        ValueError: there is no such subject.
    """
    files = sorted(root.rglob("S*.pkl"))
    if not files:
        raise FileNotFoundError("no S*.pkl")
    recordings = [_dalia_recording(path.stem, load_arrays(path)) for path in files]
    return leave_out(recordings, {f"S{subject}"}, history)


def _dalia_recording(subject: str, content: Mapping[str, Mapping[str, object]]) -> Recording:
    wrist = content["signal"]["wrist"]
    assert isinstance(wrist, Mapping)
    x = np.asarray(wrist["BVP"], dtype=np.float64).ravel()
    rate = np.asarray(content["label"], dtype=np.float32).ravel()
    return Recording(subject, condition(x, 64), torch.as_tensor(rate))


def simulated(
    seed: int = 0, history: int = 0, subjects: int = 20, windows: int = 120, groups: int = 5
) -> HeartRates:
    """Pulses whose rate wanders, under drift and bursts of motion: a stand-in made from a seed.

    The rate is a smoothed random walk between 60 and 170 beats/min; the label is its mean over
    the window, so that a network has to measure a frequency along time.
    """
    generator = np.random.default_rng(derive(seed, "simulated pulses"))
    recordings = [_simulate(generator, f"{i:02d}", windows) for i in range(subjects)]
    return leave_out(recordings, group((r.subject for r in recordings), seed, groups), history)


def _simulate(generator: np.random.Generator, subject: str, windows: int) -> Recording:
    n = STEP * (windows - 1) + WINDOW
    t = np.arange(n) / RATE
    knots = np.arange(0, t[-1] + 10, 10.0)
    walk = generator.uniform(80, 140) + np.cumsum(generator.normal(0, 6, len(knots)))
    rate = np.clip(np.interp(t, knots, walk), 60, 170)
    phase = 2 * np.pi * np.cumsum(rate) / 60 / RATE + generator.uniform(0, 2 * np.pi)
    pulse = np.cos(phase) + 0.5 * np.cos(2 * phase + generator.uniform(0, 2 * np.pi))
    drift = 0.3 * np.cos(2 * np.pi * 0.2 * t + generator.uniform(0, 2 * np.pi))
    x = pulse + drift + _motion(generator, t) + generator.normal(0, 0.1, n)
    starts = STEP * np.arange(windows)
    labels = np.array([rate[a : a + WINDOW].mean() for a in starts])
    return Recording(subject, condition(x, RATE), torch.as_tensor(labels, dtype=torch.float32))


def _motion(generator: np.random.Generator, t: Floats) -> Floats:
    """Narrow-band bursts of 5 s at 0.5 to 3 Hz, on average one every 30 s."""
    total = np.zeros_like(t)
    for _ in range(generator.poisson(t[-1] / 30)):
        centre, frequency = generator.uniform(0, t[-1]), generator.uniform(0.5, 3)
        envelope = np.exp(-0.5 * ((t - centre) / 2.5) ** 2)
        strength = generator.uniform(0.5, 3)  # of the pulse
        total += (
            strength
            * envelope
            * np.cos(2 * np.pi * frequency * t + generator.uniform(0, 2 * np.pi))
        )
    return total
