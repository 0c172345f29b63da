"""Text as windows of tokens, the target of each being the next; and Qwen3's published sizes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from harness.loading.splits import Splits, Tensors

# As the models' cards publish them; all have 8 key-value heads of size 128, and normalise queries
# and keys.
QWEN3 = {
    "4B": {"width": 2560, "hidden": 9728, "layers": 36, "heads": 32, "tied": 1},
    "8B": {"width": 4096, "hidden": 12288, "layers": 36, "heads": 32},
    "14B": {"width": 5120, "hidden": 17408, "layers": 40, "heads": 40},
    "32B": {"width": 5120, "hidden": 25600, "layers": 64, "heads": 64},
}
QWEN3_SHARED = {"vocabulary": 151936, "kv_heads": 8, "head_size": 128, "qk_norm": 1}
TRAINING_SHARE = 0.9  # the file's beginning; the rest is the test set


@dataclass(frozen=True)
class Configuration:
    """Arguments of :class:`experiments.streambp.model.Decoder`; what it is given are zeros."""

    dims: dict[str, int]


def qwen3(size: str) -> Configuration:
    """A published size of Qwen3.

    Raises:
        ValueError: for another one.
    """
    if size not in QWEN3:
        raise ValueError(f"no size {size!r} of Qwen3; known: {', '.join(QWEN3)}")
    return Configuration({**QWEN3_SHARED, **QWEN3[size]})


def tiny_shakespeare(root: Path, length: int = 256) -> Splits:
    """Characters of the file ``input.txt``: the first 90 % for training, the rest for testing.

    Args:
        root: the folder with the file.
        length: T, tokens of a window; windows do not overlap.

    Returns:
        Splits of ``x`` and ``y``, int64 (n, T); ``dims["vocabulary"]`` characters.
    """
    text = (root / "input.txt").read_text(encoding="utf-8")
    kinds = sorted(set(text))
    places = {kind: place for place, kind in enumerate(kinds)}
    tokens = torch.tensor([places[character] for character in text])
    return windows(tokens, length, len(kinds))


def generated_text(seed: int, length: int = 256, tokens: int = 200_000, words: int = 200) -> Splits:
    """Text of a random vocabulary of words, drawn by a chain in which each word has few followers.

    Args:
        seed: of words and chain.
        length: T.
        tokens: characters in all.
        words: size of the vocabulary of words.
    """
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 8, (words,), generator=generator)
    spelt = [torch.randint(1, 27, (int(n),), generator=generator) for n in lengths]
    followers = torch.randint(words, (words, 4), generator=generator)
    choices = torch.randint(4, (tokens,), generator=generator).tolist()
    pieces, found, word = [], 0, 0
    for choice in choices:
        pieces += [spelt[word], torch.zeros(1, dtype=torch.long)]  # 0 is the space
        found += len(spelt[word]) + 1
        word = int(followers[word, choice])
        if found >= tokens:
            break
    return windows(torch.cat(pieces)[:tokens], length, 27)


def windows(tokens: Tensor, length: int, vocabulary: int) -> Splits:
    """Cut tokens (n,) into a training part and a test part, each into windows of ``length``."""
    cut = int(TRAINING_SHARE * len(tokens))

    def split(part: Tensor) -> Tensors:
        count = (len(part) - 1) // length
        x, y = (part[shift : shift + count * length].view(count, length) for shift in (0, 1))
        return Tensors(x=x, y=y)

    return Splits(split(tokens[:cut]), split(tokens[cut:]), dims={"vocabulary": vocabulary})
