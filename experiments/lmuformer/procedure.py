"""Training of keyword models, and their accuracy after a part of each sequence.

Waveforms become log-mel features on the way to the model; mixup, masks, noise and shifts are
applied in training only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.lmuformer.data import WORD_RATE, Sequences
from experiments.lmuformer.features import FilterBank, mask_band
from experiments.lmuformer.model import running_mean
from harness.loading.splits import Batch
from harness.procedures.base import Outcome, Trial
from harness.procedures.fit import Fit
from harness.procedures.recipe import At
from harness.records import Series

MEAN, STD = -6.845978, 5.5654526  # of Speech Commands' log-mel features, in the authors' settings
SILENCE = -MEAN / (2 * STD)  # padding and masks are zeros before features are scaled
FRAMES = 128
PREFIXES = (28, 49, 68, 100)  # percent of a sequence: 36, 63, 87 and 128 of 128 frames
GRID = [k / 20 for k in range(1, 21)]


class ClassBinaryCrossEntropy(nn.Module):
    """Binary cross-entropy of every class on its own, as in the authors' script.

    Logits (batch, classes), and the class of each example (batch,) or shares of classes
    (batch, classes) where examples are mixed.
    """

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        shares = F.one_hot(y, logits.shape[1]) if y.ndim == 1 else y
        return F.binary_cross_entropy_with_logits(logits, shares.to(logits.dtype))


class KeywordFit(Fit):
    """Fit for sequences with a label, given as frames or as waveforms.

    Besides what Fit reports, with ``prefixes``: ``accuracy_at_28``, ``_49``, ``_68``, ``_100``
    (after so many percent of each test sequence), ``shortening`` (the share of a sequence that
    can be left out with 99 % of the accuracy), and the series ``prefix_accuracy``.

    Args:
        mixup: share of the training waveforms that are mixed with another one.
        mask: frames and bins in the widest blanked band of training features.
        jitter: uniform noise and a shift in time in training.
        prefixes: measure the accuracy after a part of each sequence. The model has ``features``
            and ``head``.
        classes: of mixed examples.
    """

    def __init__(
        self,
        mixup: float = 0.0,
        mask: int = 0,
        jitter: bool = False,
        prefixes: bool = False,
        classes: int = 35,
        **fit: Any,
    ) -> None:
        super().__init__(**fit)
        self.mixup = mixup
        self.mask = mask
        self.jitter = jitter
        self.prefixes = prefixes
        self.classes = classes
        self.front_end = FilterBank(WORD_RATE)

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        names = super().produces(init_args)
        if init_args.get("prefixes"):
            names |= {f"accuracy_at_{percent}" for percent in PREFIXES}
            names |= {"shortening", "prefix_accuracy"}
        return names

    def augment(self, batch: Batch, at: At) -> Batch:
        """Waveforms are mixed, then features of them masked, disturbed and shifted."""
        x, y = batch["x"], batch["y"]
        if self.mixup:
            x, y = mixed(x, F.one_hot(y, self.classes).float(), self.mixup, at.generator)
        x = self.spectrogram(x)
        if self.mask:
            for dim in (2, 1):
                x = mask_band(x, self.mask, dim, at.generator, SILENCE)
        return {"x": jittered(x, at.generator) if self.jitter else x, "y": y}

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        logits: Tensor = model(self.spectrogram(batch["x"]))
        return logits

    def spectrogram(self, x: Tensor) -> Tensor:
        """Frames as they are; waveforms (batch, samples) as scaled features (batch, 128, 128)."""
        if x.ndim == 3:
            return x
        frames = self.front_end.to(x.device)(x - x.mean(-1, keepdim=True))
        padded = F.pad(frames, (0, 0, 0, FRAMES - frames.shape[1]))
        return (padded - MEAN) / (2 * STD)

    @torch.no_grad()
    def measure(self, model: nn.Module, trial: Trial) -> Outcome:
        if not self.prefixes:
            return Outcome({})
        data: Sequences = trial.data
        assert data.lengths is not None
        right = []
        for indices in torch.split(torch.arange(len(data.test)), self.eval_batch_size):
            batch = data.test[indices]
            x = self.spectrogram(batch["x"].to(trial.device))
            scores = model.head(running_mean(model.features(x)))  # type: ignore[operator]
            right.append(scores.argmax(-1).cpu() == batch["y"][:, None])
        return prefix_figures(torch.cat(right), data.lengths)


def prefix_figures(right: Tensor, lengths: Tensor) -> Outcome:
    """Accuracy after a share of each sequence.

    Args:
        right: whether the class is right after each frame, (sequences, frames).
        lengths: frames of each sequence.
    """

    def accuracy(share: float) -> float:
        last = (share * lengths).ceil().long().clamp_min(1) - 1
        return float(right.gather(1, last[:, None]).double().mean())

    metrics = {f"accuracy_at_{percent}": accuracy(percent / 100) for percent in PREFIXES}
    curve = [accuracy(share) for share in GRID]
    enough = next(share for share, y in zip(GRID, curve, strict=True) if y >= 0.99 * curve[-1])
    series = Series(over="share of the sequence", x=GRID, y=curve)
    return Outcome({**metrics, "shortening": 1 - enough}, {"prefix_accuracy": series})


def mixed(x: Tensor, y: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mixup with another example of the batch: lambda of one and 1 - lambda of the other.

    lambda ~ Beta(10, 10), for a random ``share`` of the examples. Waveforms lose their mean first.

    Args:
        x: (batch, samples).
        y: shares of classes, (batch, classes).
    """
    x = x - x.mean(-1, keepdim=True)
    order = torch.randperm(len(x), generator=generator, device=x.device)
    # Beta(10, 10) is the 10th of 19 uniform numbers in order.
    draws = torch.rand(len(x), 19, generator=generator, device=x.device)
    weight = draws.sort(dim=1).values[:, 9:10]
    alone = torch.rand(len(x), 1, generator=generator, device=x.device) >= share
    weight = weight.masked_fill(alone, 1.0)
    return weight * x + (1 - weight) * x[order], weight * y + (1 - weight) * y[order]


def jittered(x: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform noise of up to 0.1, as loud as is drawn for each, and a roll by -10 to 9 frames."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=x.device)

    x = x + uniform(*x.shape) * uniform(len(x), 1, 1) / 10
    shift = (20 * uniform(len(x), 1)).long() - 10
    source = (torch.arange(x.shape[1], device=x.device) - shift) % x.shape[1]
    return x.gather(1, source[..., None].expand_as(x))
