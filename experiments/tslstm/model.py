"""TS-LSTM, the temporal convolution networks and their baselines (arXiv 1703.10667).

Every model maps ``x`` of shape (batch, steps, features), with the features of the spatial and
the temporal stream side by side, to log-probabilities of shape (batch, classes). The loss is
``torch.nn.NLLLoss``, as in the authors' code.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.tslstm.lstm import PeepholeLSTM

Pool = Literal["max", "mean"]
Init = Literal["default", "torch7_uniform"]


def torch7_uniform(module: nn.Module) -> None:
    """Draw ALL parameters from U(-0.1, 0.1), the scales of batch normalisation included.

    This is what the authors' script does. A scale near 0 shrinks the normalised features about
    20-fold at the start of training.
    """
    for parameter in module.parameters():
        nn.init.uniform_(parameter, -0.1, 0.1)


class StepNorm(nn.BatchNorm1d):
    """Batch normalisation of each time step on its own, with shared parameters.

    The statistics of a step are taken over the batch only. The running statistics, which
    evaluation uses, are updated once a step and so are common to the steps.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(batch, steps, features) -> the same shape."""
        if not self.training:
            return super().forward(x.flatten(0, 1)).view_as(x)
        steps = x.shape[1]
        weight, bias = self.weight.repeat(steps), self.bias.repeat(steps)
        normal = F.batch_norm(x.flatten(1), None, None, weight, bias, True, eps=self.eps)
        self._track(x)
        return normal.view_as(x)

    @torch.no_grad()
    def _track(self, x: Tensor) -> None:
        """Update the running statistics by one step after the other, in closed form."""
        steps = x.shape[1]
        assert self.momentum is not None and self.num_batches_tracked is not None
        kept = (1 - self.momentum) ** torch.arange(steps - 1, -1, -1, device=x.device)
        share = self.momentum * kept[:, None]
        for running, now in ((self.running_mean, x.mean(0)), (self.running_var, x.var(0))):
            assert running is not None
            running.mul_((1 - self.momentum) ** steps).add_((share * now).sum(0))
        self.num_batches_tracked += steps


def pool_steps(x: Tensor, pool: Pool) -> Tensor:
    """(batch, steps, features) -> (batch, features): elementwise maximum or mean over steps."""
    return x.amax(1) if pool == "max" else x.mean(1)


class AvgScore(nn.Module):
    """The two-stream baseline: class scores averaged over the steps, then over the streams.

    A linear classifier per stream scores every step. In training the output is the mean of the
    log-probabilities, so that ``NLLLoss`` is the loss per frame with which the stream networks
    are fine-tuned; in evaluation it is the logarithm of the mean probability.

    Args:
        features: features of both streams together.
        spatial: how many of them belong to the spatial stream (0 or ``features``: one stream).
    """

    def __init__(self, features: int, spatial: int, classes: int) -> None:
        super().__init__()
        self.widths = [width for width in (spatial, features - spatial) if width > 0]
        self.norms = nn.ModuleList(StepNorm(width) for width in self.widths)
        self.heads = nn.ModuleList(nn.Linear(width, classes) for width in self.widths)

    def forward(self, x: Tensor) -> Tensor:
        streams = torch.split(x, self.widths, dim=-1)
        scores = torch.stack(
            [
                head(norm(stream)).log_softmax(-1)
                for stream, norm, head in zip(streams, self.norms, self.heads, strict=True)
            ]
        )  # (streams, batch, steps, classes)
        if self.training:
            return scores.mean((0, 2))
        return scores.exp().mean((0, 2)).log()


class Pooled(nn.Module):
    """Pooling over the whole video, then a linear classifier: blind to the order of the steps."""

    def __init__(self, features: int, classes: int, pool: Pool = "max") -> None:
        super().__init__()
        self.pool: Pool = pool
        self.norm = StepNorm(features)
        self.head = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(pool_steps(self.norm(x), self.pool))
        return logits.log_softmax(-1)


class TSLSTM(nn.Module):
    """Temporal Segment LSTM.

    The video is cut into K segments of ``L = floor(T/K)`` steps (the last T - KL steps are
    dropped). For segment k, with its own batch normalisation::

        z_{k,t} = BN_k(x_{(k-1)L+t})        each step normalised over the batch
        s_k     = max_t z_{k,t}             elementwise; or the mean
        h_k     = LSTM(s_k, h_{k-1})        h_0 = 0
        output  = log_softmax(W BN(h_K) + b)

    With ``pool=None`` every step goes into the LSTM: one segment then gives the plain LSTM over
    the whole video that the paper compares with.

    Args:
        features: features of both streams together.
        hidden: width of the LSTM (512 in the paper).
        segments: K (3 in the paper).
        pool: how a segment becomes one vector.
        peepholes: gates that see the cell, as in the authors' Torch7 package; or PyTorch's LSTM.
        dropout: on the LSTM's output (0 in the paper).
        init: ``torch7_uniform`` as in the authors' script, or PyTorch's defaults.

    Raises:
        ValueError: in ``forward``, when there are fewer steps than segments.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        hidden: int = 512,
        segments: int = 3,
        pool: Pool | None = "max",
        peepholes: bool = True,
        dropout: float = 0.0,
        init: Init = "default",
    ) -> None:
        super().__init__()
        self.pool: Pool | None = pool
        self.segment_norms = nn.ModuleList(StepNorm(features) for _ in range(segments))
        self.lstm: nn.Module
        if peepholes:
            self.lstm = PeepholeLSTM(features, hidden)
        else:
            self.lstm = nn.LSTM(features, hidden, batch_first=True)
        self.norm = nn.BatchNorm1d(hidden)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, classes)
        if init == "torch7_uniform":
            torch7_uniform(self)

    def segments(self, x: Tensor) -> Tensor:
        """(batch, T, features) -> what the LSTM reads: (batch, K or KL, features)."""
        length = x.shape[1] // len(self.segment_norms)
        if length == 0:
            raise ValueError(f"{x.shape[1]} steps cannot be cut into {len(self.segment_norms)}")
        parts = []
        for k, norm in enumerate(self.segment_norms):
            z = norm(x[:, k * length : (k + 1) * length])
            parts.append(z if self.pool is None else pool_steps(z, self.pool).unsqueeze(1))
        return torch.cat(parts, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(self.segments(x))
        logits: Tensor = self.head(self.dropout(self.norm(states[:, -1])))
        return logits.log_softmax(-1)


def _conv(inputs: int, outputs: int, width: int) -> list[nn.Module]:
    """Convolution along time only, one kernel for all feature rows; batch norm and ReLU."""
    conv = nn.Conv2d(inputs, outputs, (1, width), padding=(0, width // 2))
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]


class InceptionModule(nn.Module):
    """Parallel convolutions of several widths along time, each pooled, joined by channels."""

    def __init__(self, inputs: int, outputs: int, widths: tuple[int, ...], pool: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*_conv(inputs, outputs, width), nn.MaxPool2d((1, pool)))
            for width in widths
        )

    def forward(self, image: Tensor) -> Tensor:
        """(batch, inputs, features, T) -> (batch, branches * outputs, features, T // pool)."""
        return torch.cat([branch(image) for branch in self.branches], dim=1)


POOLS = (2, 2, 2, 3)
"""Pooling over time after each of the four convolutions: 25 -> 12 -> 6 -> 3 -> 1 steps."""


class _TemporalConvolution(nn.Module):
    """A video as an image of one channel, ``features`` rows and ``steps`` columns."""

    def __init__(
        self,
        convolutions: nn.Module,
        features: int,
        classes: int,
        steps: int,
        hidden: int,
        dropout: float,
    ) -> None:
        super().__init__()
        for pool in POOLS:
            steps //= pool
        if steps == 0:
            raise ValueError("four poolings of 2, 2, 2 and 3 steps need at least 24 steps")
        self.convolutions = convolutions
        self.classifier = nn.Sequential(
            nn.Linear(features * steps, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        image = x.transpose(1, 2).unsqueeze(1)  # (batch, 1, features, steps)
        logits: Tensor = self.classifier(self.convolutions(image).flatten(1))
        return F.log_softmax(logits, dim=-1)


class TemporalConvNet(_TemporalConvolution):
    """The VGG-style network: four times [1 x 5 convolution, BN, ReLU, pooling], one channel.

    ``dropout`` is spatial and blanks a whole video, as in :class:`TemporalInception`.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        steps: int = 25,
        hidden: int = 1024,
        dropout: float = 0.2,
    ) -> None:
        blocks: list[nn.Module] = []
        for pool in POOLS:
            blocks += [*_conv(1, 1, 5), nn.MaxPool2d((1, pool))]
        blocks.append(nn.Dropout2d(dropout))
        super().__init__(nn.Sequential(*blocks), features, classes, steps, hidden, 0.0)


class TemporalInception(_TemporalConvolution):
    """Temporal-Inception: four modules of widths 5 and 7, then 1 x 1 reductions to one channel.

    The modules give 2, 4, 8 and 16 channels; the reductions 16 -> 4 -> 2 -> 1. The spatial
    dropout after them drops whole channels, so with the one channel left it blanks a whole
    video's features, as in the authors' code.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        steps: int = 25,
        hidden: int = 1024,
        dropout: float = 0.2,
    ) -> None:
        blocks: list[nn.Module] = []
        channels = 1
        for outputs, pool in zip((1, 2, 4, 8), POOLS, strict=True):
            blocks.append(InceptionModule(channels, outputs, (5, 7), pool))
            channels = 2 * outputs
        for outputs in (4, 2, 1):
            blocks += _conv(channels, outputs, 1)
            channels = outputs
        blocks.append(nn.Dropout2d(dropout))
        super().__init__(nn.Sequential(*blocks), features, classes, steps, hidden, dropout)
