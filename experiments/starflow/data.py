"""Images as sequences of patches, and two data sets of which the density is known.

Every example is ``x`` (N, D) with ``label``; there is no ``y``, for a flow predicts nothing. To
validation and test examples noise has been added once; training examples are clean, and training
adds noise anew at every step (``procedure.noisy``).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.loading.readers import read_labelled_images
from harness.loading.splits import Splits, Tensors
from harness.seeding import derive

Noise = float | Literal["uniform"]


@dataclass(frozen=True)
class FlowSplits(Splits):
    """Splits that say what was added to validation and test examples.

    Attributes:
        noise: standard deviation, or ``uniform``: dequantisation of 256 levels.
        entropy: mean of -log p of the noisy test examples in nats per number, where p is known.
        bound: least mean of -log p in nats, over all flows whose blocks read in one order.
    """

    noise: Noise = 0.1
    entropy: float | None = None
    bound: float | None = None


def noisy(x: Tensor, noise: Noise, generator: torch.Generator) -> Tensor:
    """Add normal noise to x; or ``uniform`` noise that fills the 256 levels between -1 and 1.

    A level i lies at 2 i / 255 - 1 and becomes 2 (i + u) / 256 - 1 with u in [0, 1).
    """
    if noise == "uniform":
        u = torch.rand(x.shape, generator=generator, device=x.device)
        return ((x + 1) * 127.5 + u) / 128 - 1
    assert not isinstance(noise, str)
    return x + noise * torch.randn(x.shape, generator=generator, device=x.device)


def patches(images: Tensor, size: int) -> Tensor:
    """(n, channels, height, width) -> (n, patches, channels · size²), row by row.

    Within a patch: channel by channel, row by row (the layout of ``F.unfold``, as released).
    """
    return F.unfold(images, size, stride=size).transpose(1, 2)


def unpatched(x: Tensor, size: int, height: int, width: int) -> Tensor:
    """The inverse of :func:`patches`."""
    return F.fold(x.transpose(1, 2), (height, width), size, stride=size)


def finished(parts: Mapping[str, tuple[Tensor, Tensor]], noise: Noise, **dims: int) -> FlowSplits:
    """Splits of (x, label) pairs ``train``, ``val`` and ``test``, noise added to the latter two."""
    made = {}
    for name, (x, label) in parts.items():
        if name != "train":
            x = noisy(x, noise, torch.Generator().manual_seed(derive(0, "noise", name)))
        made[name] = Tensors(x=x, label=label)
    return FlowSplits(made["train"], made["test"], made["val"], dims=dims, noise=noise)


@functools.lru_cache(maxsize=2)
def mnist(
    root: Path,
    train: int = 55000,
    val: int = 5000,
    test: int = 10000,
    patch: int = 4,
    noise: Noise = 0.1,
    shuffled: bool = False,
) -> FlowSplits:
    """MNIST, grey levels in [-1, 1], in patches: the first ``train`` of the training images, its
    last ``val`` for validation, the first ``test`` of the test images.

    Args:
        shuffled: training labels belong to other images (a canary).

    Raises:
        ValueError: there are not as many images.
    """
    (x, y), (tx, ty) = (read_labelled_images(root, part) for part in ("train", "t10k"))
    if train + val > len(x) or test > len(tx):
        raise ValueError(f"{len(x)} and {len(tx)} images are fewer than {train} + {val} and {test}")
    cut = len(x) - val
    whole = {
        "train": (x[:train], y[:train]),
        "val": (x[cut:], y[cut:]),
        "test": (tx[:test], ty[:test]),
    }
    parts = {}
    for name, (images, labels) in whole.items():
        grey = torch.from_numpy(images)[:, None].float() / 127.5 - 1
        parts[name] = (patches(grey, patch), torch.from_numpy(labels).long())
    if shuffled:
        parts["train"] = (parts["train"][0], _dealt_out(parts["train"][1]))
    rows, columns = (n // patch for n in x.shape[1:])
    return finished(parts, noise, rows=rows, columns=columns, features=patch * patch, classes=10)


def _dealt_out(label: Tensor) -> Tensor:
    order = torch.randperm(len(label), generator=torch.Generator().manual_seed(derive(0, "labels")))
    return label[order]


@functools.lru_cache(maxsize=1)
def digits(patch: int = 2, noise: Noise = 0.1) -> FlowSplits:
    """scikit-learn's 1,797 digits of 8 x 8 pixels, 17 grey levels in [-1, 1], in patches: of every
    five images in turn one is for testing, and of every twenty one for validation."""
    from sklearn.datasets import load_digits

    found = load_digits()
    x = patches(torch.from_numpy(found.images)[:, None].float() / 8 - 1, patch)
    label, place = torch.from_numpy(found.target).long(), torch.arange(len(x)) % 20
    held_out = {"test": place % 5 == 0, "val": place == 1}
    where = {"train": ~(held_out["test"] | held_out["val"]), **held_out}
    parts = {name: (x[chosen], label[chosen]) for name, chosen in where.items()}
    side = 8 // patch
    return finished(parts, noise, rows=side, columns=side, features=patch * patch, classes=10)


# Chains: a hidden sign for each patch.

COLOURS = torch.tensor(
    [[1.0, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]
)  # of the classes
STAY = (0.6, 0.7, 0.8, 0.9)  # how often the sign is that of the patch before
BLUR = 0.3  # deviation of a clean patch from its colour


def chains(
    train: int = 4096,
    val: int = 512,
    test: int = 1024,
    noise: float = 0.1,
    shuffled: bool = False,
) -> FlowSplits:
    """16 patches of 2 x 2 pixels along a hidden chain of signs; the density is known.

    Patch n of class c is h_n · colour_c plus normal noise, where the sign h_n is that of the patch
    before with probability stay_c. Given all others a patch is still one of two, so that no
    flow whose patches are Gaussian given those before reaches the entropy, in either order.
    """
    generator = torch.Generator().manual_seed(derive(0, "chains"))
    parts = {}
    for name, count in {"train": train, "val": val, "test": test}.items():
        label = torch.randint(4, (count,), generator=generator)
        same = torch.rand(count, 16, generator=generator) < torch.tensor(STAY)[label][:, None]
        same[:, 0] = torch.rand(count, generator=generator) < 0.5
        signs = torch.where(same, 1.0, -1.0).cumprod(1)
        x = signs[..., None] * COLOURS[label][:, None]
        parts[name] = (x + BLUR * torch.randn(x.shape, generator=generator), label)
    if shuffled:
        parts["train"] = (parts["train"][0], _dealt_out(parts["train"][1]))
    made = finished(parts, noise, rows=4, columns=4, features=4, classes=4)
    held_out = made.test[torch.arange(test)]
    entropy = -chain_log_density(held_out["x"], held_out["label"], noise).mean() / 64
    return replace(made, entropy=float(entropy))


def chain_log_density(x: Tensor, label: Tensor, noise: float) -> Tensor:
    """log p(x | label) in nats, (n,), of noisy chains (n, 16, 4): the forward algorithm."""
    variance = BLUR**2 + noise**2
    colour = COLOURS.to(x)[label][:, None]
    squares = torch.stack([(x - s * colour).square().sum(-1) for s in (1, -1)], -1)
    emission = -0.5 * squares / variance - 2 * math.log(2 * math.pi * variance)
    stay = torch.tensor(STAY, dtype=x.dtype, device=x.device)[label]
    both = torch.stack([stay, 1 - stay, 1 - stay, stay], -1).view(-1, 2, 2).log()
    state = math.log(0.5) + emission[:, 0]
    for n in range(1, x.shape[1]):
        state = torch.logsumexp(state[:, :, None] + both, dim=1) + emission[:, n]
    return torch.logsumexp(state, dim=1)


# Two numbers, one of which is one of two.

APART, NARROW = 2.0, 0.1
BOUND = math.log(2 * math.pi * math.e) + 0.5 * math.log(APART**2 + NARROW**2)


def two_numbers(
    last: Literal["two-peaked", "normal"] = "two-peaked",
    train: int = 8192,
    val: int = 2048,
    test: int = 8192,
) -> FlowSplits:
    """A standard normal number, and an independent one near +2 or -2 (deviation 0.1).

    If each number is Gaussian given those before, the mean of -log p is at least ``BOUND``, the
    sum of the entropies of Gaussians of the same variances: 3.532 nats, in either order; the
    entropy is 1.229 nats. No noise is added.

    Args:
        last: which of them is the second token.
    """
    generator = torch.Generator().manual_seed(derive(0, "two numbers"))
    parts = {}
    for name, count in {"train": train, "val": val, "test": test}.items():
        normal = torch.randn(count, generator=generator)
        sign = torch.where(torch.rand(count, generator=generator) < 0.5, 1.0, -1.0)
        peaked = APART * sign + NARROW * torch.randn(count, generator=generator)
        pair = (normal, peaked) if last == "two-peaked" else (peaked, normal)
        parts[name] = (torch.stack(pair, -1)[..., None], torch.zeros(count).long())
    made = finished(parts, 0.0, rows=1, columns=2, features=1, classes=0)
    return replace(made, bound=BOUND)
