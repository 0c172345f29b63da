"""Log-mel features of speech, as Kaldi computes them, on batches of waveforms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FLOOR = torch.finfo(torch.float32).eps
LOWEST = 20.0  # Hz, where the first filter begins


class FilterBank(nn.Module):
    """Log energies of triangular mel filters, a frame every ``shift`` samples.

    Each frame loses its mean, is pre-emphasised (0.97), weighed by a symmetric Hann window and
    zero-padded to a power of two; the filters lie between 20 Hz and half the rate, evenly and
    with triangles in mel = 1127 ln(1 + f / 700).

    Args:
        rate: samples/s.
        bins: filters.
        length: samples of a frame.
        shift: samples from a frame to the next.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, rate: int = 16000, bins: int = 128, length: int = 400, shift: int = 160):
        super().__init__()
        self.bins = bins
        self.length = length
        self.shift = shift
        self.padded = 1 << (length - 1).bit_length()
        self.register_buffer("window", torch.hann_window(length, periodic=False), False)
        self.register_buffer("filters", mel_filters(rate, bins, self.padded), False)

    def frames(self, samples: int) -> int:
        """Whole frames in a waveform."""
        return max(0, 1 + (samples - self.length) // self.shift)

    def forward(self, x: Tensor) -> Tensor:
        """Waveforms (batch, samples) -> (batch, frames, bins)."""
        frames = x.unfold(-1, self.length, self.shift)
        frames = frames - frames.mean(-1, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
        windowed = (frames - 0.97 * before) * self.window
        power = torch.fft.rfft(windowed, n=self.padded).abs().square()
        energies: Tensor = power @ self.filters
        return energies.clamp_min(FLOOR).log()


def mel_filters(rate: int, bins: int, length: int) -> Tensor:
    """Weights of a power spectrum's lines, (length // 2 + 1, bins)."""
    lines = _mel(torch.arange(length // 2 + 1, dtype=torch.float64) * rate / length)
    edges = _mel(torch.tensor([LOWEST, rate / 2], dtype=torch.float64))
    corners = torch.linspace(float(edges[0]), float(edges[1]), bins + 2, dtype=torch.float64)
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    rising = (lines[:, None] - left) / (centre - left)
    falling = (right - lines[:, None]) / (right - centre)
    return torch.minimum(rising, falling).clamp_min(0).float()


def _mel(frequency: Tensor) -> Tensor:
    return 1127.0 * torch.log1p(frequency / 700.0)


def mask_band(
    x: Tensor, widest: int, dim: int, generator: torch.Generator, value: float = 0.0
) -> Tensor:
    """SpecAugment: blank a band of each example along ``dim``, of random width below ``widest``.

    Args:
        x: (batch, frames, bins).
        dim: 1 masks frames, 2 masks bins.
        value: what stands in the band.
    """
    size = x.shape[dim]
    draws = torch.rand(2, len(x), 1, generator=generator, device=x.device)
    width = draws[0] * min(widest, size)
    start = (draws[1] * (size - width)).floor()
    place = torch.arange(size, device=x.device)
    inside = (place >= start) & (place < start + width.floor())
    return x.masked_fill(inside.unsqueeze(3 - dim), value)


def add_noise(x: Tensor, decibels: Tensor, generator: torch.Generator) -> Tensor:
    """White noise at a ratio to each waveform's own mean power.

    Args:
        x: (batch, samples), zero where a waveform is padded.
        decibels: signal-to-noise ratio of each, (batch,), over its samples that are not zero.
    """
    voiced = (x != 0).sum(-1).clamp_min(1)
    power = x.square().sum(-1) / voiced
    level = (power / 10 ** (decibels / 10)).sqrt()
    return x + level[:, None] * torch.randn(x.shape, generator=generator)
