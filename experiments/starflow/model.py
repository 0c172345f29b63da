"""Transformer autoregressive flows: TARFlow's blocks and STARFlow's, and stacks of them.

A sequence is (B, N, D): N tokens of D numbers each (``data.patches`` makes one of an image).
Modules bear the names, and parameters the shapes, of ``transformer_flow.Model`` in the released
code (apple/ml-tarflow, apple/ml-starflow), so that weights can be exchanged: README.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.starflow.guidance import Rule, guided

UNIT = math.log(math.e - 1)  # softplus of it is 1
CLIP = 4.0  # bound on a STARFlow block's raw outputs
DROPPED = -1  # a label that is not told
Cache = dict[str, tuple[Tensor, Tensor]]


def rotations(rows: int, columns: int, size: int) -> Tensor:
    """Angles (rows · columns, size / 2) of rotary positions: half of them by row, half by column.

    Raises:
        ValueError: ``size`` is no multiple of 4.
    """
    if size % 4:
        raise ValueError(f"rotary positions on a grid need heads of 4, 8, … numbers, not {size}")
    rates = 10000.0 ** (-torch.arange(0, size // 2, 2) / (size // 2))
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.cat([row.reshape(-1, 1) * rates, column.reshape(-1, 1) * rates], dim=1)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn neighbouring pairs of (B, N, heads, size) by (N, size / 2) angles."""
    turns = torch.polar(torch.ones_like(angles), angles)[:, None]
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turns).flatten(-2)


class Attention(nn.Module):
    """Causal attention with a norm before it; with a cache, over what went through before, too."""

    def __init__(self, width: int, head: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.heads = width // head

    def forward(self, x: Tensor, angles: Tensor | None, cache: Cache | None, key: str) -> Tensor:
        """(B, n, width) -> (B, n, width); ``key`` is the layer's place in the cache.

        Several tokens at once are only taken by an empty cache.
        """
        split = self.qkv(self.norm(x)).unflatten(-1, (3 * self.heads, -1))
        if angles is not None:
            pairs, rest = split.split([2 * self.heads, self.heads], dim=2)
            split = torch.cat([rotate(pairs, angles), rest], dim=2)
        q, k, v = split.transpose(1, 2).chunk(3, dim=1)
        if cache is not None:
            if key in cache:
                k, v = torch.cat([cache[key][0], k], dim=2), torch.cat([cache[key][1], v], dim=2)
            cache[key] = (k, v)
        causal = q.shape[2] > 1
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        found: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return found


class MLP(nn.Module):
    """A hidden layer of four times the width, with a norm before it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.main = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.main(self.norm(x))
        return found


class Layer(nn.Module):
    """A layer of the Transformer."""

    def __init__(self, width: int, head: int) -> None:
        super().__init__()
        self.attention = Attention(width, head)
        self.mlp = MLP(width)

    def forward(self, x: Tensor, angles: Tensor | None, cache: Cache | None, key: str) -> Tensor:
        x = x + self.attention(x, angles, cache, key)
        found: Tensor = x + self.mlp(x)
        return found


class RMSNorm(nn.Module):
    """Division by the root mean square, times 1 + weight."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * (1 + self.weight)


class Block(nn.Module):
    """One autoregressive flow: z_n = (x_n - μ_n) / σ_n, where (μ_n, σ_n) see x_<n alone (eq. 2).

    The output layer begins at zero, but for its bias: the block begins near the identity.

    Args:
        grid: rows and columns of tokens.
        features: D.
        width: of the Transformer.
        layers: of the Transformer.
        head: width of an attention head.
        flipped: whether the last token comes first.
        classes: that the block is told of; 0 for none.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        features: int,
        width: int,
        layers: int,
        head: int,
        flipped: bool,
        classes: int,
    ) -> None:
        super().__init__()
        self.tokens, self.flipped, self.classes = math.prod(grid), flipped, classes
        self.proj_in = nn.Linear(features, width)
        self.attn_blocks = nn.ModuleList(Layer(width, head) for _ in range(layers))
        self.proj_out = nn.Linear(width, 2 * features)
        nn.init.zeros_(self.proj_out.weight)

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, N, D) -> z (B, N, D), and log |det dz/dx| (B,)."""
        x = self.ordered(x)
        mean, scale = self.conditionals(x, label)
        return self.ordered((x - mean) / scale), -scale.log().sum((1, 2))

    def decode(
        self, z: Tensor, label: Tensor | None, weight: float = 0.0, rule: Rule = "product"
    ) -> Tensor:
        """The inverse, token by token, with keys and values of earlier tokens kept.

        A block that is told the class is guided where ``weight`` is not 0: it then reads every
        token twice, with the class and without.
        """
        z = self.ordered(z)
        guide = weight != 0 and self.classes > 0 and label is not None
        if guide:
            assert label is not None
            label = torch.cat([label, torch.full_like(label, DROPPED)])
        x = torch.zeros_like(z)
        cache: Cache = {}
        for n in range(self.tokens):
            before = torch.cat([x, x]) if guide else x
            mean, scale = self.conditional(before, n, label, cache)
            if guide:
                (mean, free), (scale, free_scale) = mean.chunk(2), scale.chunk(2)
                mean, scale = guided((mean, scale), (free, free_scale), weight, rule)
            x[:, n : n + 1] = mean + scale * z[:, n : n + 1]
        return self.ordered(x)

    def ordered(self, x: Tensor) -> Tensor:
        """Into the order in which the block reads, and back."""
        return x.flip(1) if self.flipped else x

    def conditionals(self, x: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and deviation (B, N, D) of all tokens, from those before each in (B, N, D)."""
        raise NotImplementedError

    def conditional(
        self, x: Tensor, n: int, label: Tensor | None, cache: Cache
    ) -> tuple[Tensor, Tensor]:
        """Those of token n, (B, 1, D); ``cache`` has seen what was said of tokens before n."""
        raise NotImplementedError


class TARFlowBlock(Block):
    """σ = exp(s); outputs are shifted by one, the first token stays; positions are learned, the
    class is added to every token, and a class that is not told is the mean of all."""

    def __init__(self, grid: tuple[int, int], features: int, width: int, layers: int, head: int,
                 flipped: bool, classes: int) -> None:  # fmt: skip
        super().__init__(grid, features, width, layers, head, flipped, classes)
        self.pos_embed = nn.Parameter(0.01 * torch.randn(self.tokens, width))
        if classes:
            self.class_embed = nn.Parameter(0.01 * torch.randn(classes, 1, width))

    def conditionals(self, x: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        raw = self._raw(x[:, :-1], slice(0, self.tokens - 1), label, None)
        s, mean = F.pad(raw, (0, 0, 1, 0)).chunk(2, dim=-1)
        return mean, s.exp()

    def conditional(
        self, x: Tensor, n: int, label: Tensor | None, cache: Cache
    ) -> tuple[Tensor, Tensor]:
        if n == 0:
            return torch.zeros_like(x[:, :1]), torch.ones_like(x[:, :1])
        s, mean = self._raw(x[:, n - 1 : n], slice(n - 1, n), label, cache).chunk(2, dim=-1)
        return mean, s.exp()

    def _raw(self, x: Tensor, place: slice, label: Tensor | None, cache: Cache | None) -> Tensor:
        positions = self.pos_embed.flip(0) if self.flipped else self.pos_embed
        x = self.proj_in(x) + positions[place]
        if self.classes and label is not None:
            known = one_hot(label, self.classes, x)
            share = torch.where(label[:, None] == DROPPED, 1 / self.classes, known)
            x = x + torch.einsum("bc,cow->bow", share, self.class_embed)
        for i, layer in enumerate(self.attn_blocks):
            x = layer(x, None, cache, str(i))
        found: Tensor = self.proj_out(x)
        return found


class STARFlowBlock(Block):
    """σ = softplus(s + 0.54), raw outputs bounded by a soft clip; a learned token comes first, so
    that the first token is transformed as well; rotary positions on the grid; the class is a token
    before all others, from a linear layer of its indicator (zero where the class is not told)."""

    angles: Tensor

    def __init__(self, grid: tuple[int, int], features: int, width: int, layers: int, head: int,
                 flipped: bool, classes: int) -> None:  # fmt: skip
        super().__init__(grid, features, width, layers, head, flipped, classes)
        self.sos_embed = nn.Parameter(torch.randn(1, 1, features))
        self.final_norm = RMSNorm(width)
        if classes:
            self.proj_txt = nn.Linear(classes, width)
        angles = rotations(*grid, head)
        self.register_buffer("angles", angles.flip(0) if flipped else angles, persistent=False)

    def conditionals(self, x: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        return self._gaussians(self._before(x), slice(0, self.tokens), label, None)

    def conditional(
        self, x: Tensor, n: int, label: Tensor | None, cache: Cache
    ) -> tuple[Tensor, Tensor]:
        before = x[:, n - 1 : n] if n else self.sos_embed.expand(len(x), -1, -1)
        return self._gaussians(before, slice(n, n + 1), label, cache)

    def _before(self, x: Tensor) -> Tensor:
        """What is read when token n is asked for: token n - 1, and the learned token at first."""
        return torch.cat([self.sos_embed.expand(len(x), -1, -1), x[:, :-1]], dim=1)

    def _gaussians(
        self, x: Tensor, place: slice, label: Tensor | None, cache: Cache | None
    ) -> tuple[Tensor, Tensor]:
        x, angles, first = self.proj_in(x), self.angles[place], place.start == 0
        if first and self.classes and label is not None:
            prefix = self.proj_txt(one_hot(label, self.classes, x))
            x = torch.cat([prefix[:, None], x], dim=1)
            angles = torch.cat([torch.zeros_like(angles[:1]), angles])
        for i, layer in enumerate(self.attn_blocks):
            x = layer(x, angles, cache, str(i))
        raw = self.proj_out(self.final_norm(x[:, -(place.stop - place.start) :]))
        s, mean = (CLIP * torch.tanh(raw / CLIP)).chunk(2, dim=-1)
        return mean, F.softplus(s + UNIT)


def one_hot(label: Tensor, classes: int, like: Tensor) -> Tensor:
    """(B,) -> indicators (B, classes); all zero for a class that is not told."""
    return (label[:, None] == torch.arange(classes, device=label.device)).to(like.dtype)


class Flow(nn.Module):
    """A stack of blocks from data to noise, z = block_T(… block_1(x)) ~ N(0, 1).

    The block next to the noise is the last one; a deep-shallow flow has its depth there. Blocks
    read in turns from either end, so that the last one of ``starflow``, and the first one of
    ``tarflow``, begins with the first token (as released).

    Args:
        rows, columns: of the grid of tokens.
        features: numbers in a token.
        classes: of labels.
        width: of all Transformers.
        layers: of each block's Transformer.
        head: width of an attention head.
        kind: of the blocks.
        told: which blocks are told the class: the last one (``deep``), ``all`` or ``none``.
        alternate: whether blocks read in turns from either end; else all from the first token.
    """

    kinds: ClassVar[dict[str, type[Block]]] = {"tarflow": TARFlowBlock, "starflow": STARFlowBlock}

    def __init__(
        self,
        rows: int,
        columns: int,
        features: int,
        classes: int = 0,
        width: int = 64,
        layers: Sequence[int] = (2, 2, 4),
        head: int = 64,
        kind: Literal["tarflow", "starflow"] = "starflow",
        told: Literal["deep", "all", "none"] = "deep",
        alternate: bool = True,
    ) -> None:
        super().__init__()
        self.shape, self.classes = (rows * columns, features), 0 if told == "none" else classes
        last = len(layers) - 1
        self.blocks = nn.ModuleList(
            self.kinds[kind](
                (rows, columns),
                features,
                width,
                depth,
                head,
                alternate and (i if kind == "tarflow" else last - i) % 2 == 1,
                self.classes if told == "all" or i == last else 0,
            )
            for i, depth in enumerate(layers)
        )

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Negative log-likelihood in nats per number, (B,), of (B, N, D) with labels (B,)."""
        z, logdet = self.encode(x, label)
        size = math.prod(self.shape)
        return 0.5 * (z.square().mean((1, 2)) + math.log(2 * math.pi)) - logdet / size

    def encode(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, N, D) -> z (B, N, D), and log |det dz/dx| (B,)."""
        total = x.new_zeros(len(x))
        for block in self.blocks:
            x, logdet = block(x, label)
            total = total + logdet
        return x, total

    @torch.no_grad()
    def decode(
        self, z: Tensor, label: Tensor | None = None, weight: float = 0.0, rule: Rule = "product"
    ) -> Tensor:
        """The inverse of :meth:`encode`; of noise, a sample, guided by ``weight`` (not 0)."""
        for block in reversed(self.blocks):
            assert isinstance(block, Block)
            z = block.decode(z, label, weight, rule)
        return z
