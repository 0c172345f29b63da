"""A decoder of the Llama family: RMSNorm, rotary positions, grouped-query attention, SwiGLU.

With ``qk_norm`` it computes what ``transformers``' Qwen3 does. A layer's output at some rows needs
only these rows of its input and the keys and values before them, which is what streaming uses.
Shapes: B sequences, T tokens, d width, H query heads, G key-value heads of size s, C vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Attend = Callable[[Tensor, Tensor, Tensor, int, "Tensor | None"], Tensor]


class RMSNorm(nn.Module):
    """``x / rms(x) * weight``, reckoned in float32 where x is coarser."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        fine = x.to(torch.promote_types(x.dtype, torch.float32))
        scaled = fine * torch.rsqrt(fine.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * scaled.to(x.dtype)


def rotate(x: Tensor, start: int, base: float = 1e6) -> Tensor:
    """Rotary position encoding of (B, H, T, s) whose first row is position ``start``."""
    half = x.shape[-1] // 2
    rates = base ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    places = torch.arange(start, start + x.shape[-2], device=x.device, dtype=torch.float32)
    angles = places[:, None] * rates
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def allowed(rows: int, start: int, columns: int, valid: Tensor | None, device: object) -> Tensor:
    """Where a query may look: (1 or B, 1, rows, columns), the query at row 0 being ``start``.

    ``valid`` (B, T) is false at padding. A padded query looks at itself, so that no row is empty.
    """
    queries = torch.arange(start, start + rows, device=device)[:, None]  # type: ignore[call-overload]
    keys = torch.arange(columns, device=device)  # type: ignore[call-overload]
    causal: Tensor = queries >= keys
    if valid is None:
        return causal[None, None]
    seen: Tensor = causal & (valid[:, None, None, :columns] | (queries == keys))
    return seen


def fused(q: Tensor, k: Tensor, v: Tensor, start: int, valid: Tensor | None) -> Tensor:
    """Attention through torch's fused kernels, which keep no T × T scores.

    Keys and values are repeated for their groups, as ``transformers`` does. On the meta device,
    where torch would fall back to the written-out form, these are the kernels that it takes on a
    GPU: flash attention for the causal square, memory-efficient attention otherwise.
    """
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    whole = start == 0 and valid is None and q.shape[-2] == k.shape[-2]
    if whole and q.is_meta:
        return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, True)[0]  # type: ignore[no-any-return]
    if whole:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    mask = allowed(q.shape[-2], start, k.shape[-2], valid, q.device)
    if q.is_meta:
        bias = torch.where(mask, 0.0, float("-inf")).to(q.dtype)
        return torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, bias, True)[0]  # type: ignore[no-any-return]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def plain(q: Tensor, k: Tensor, v: Tensor, start: int, valid: Tensor | None) -> Tensor:
    """Attention written out: scores and weights of (rows × keys) exist, keys once a group."""
    batch, groups, columns, size = k.shape
    rows = q.shape[-2]
    grouped = q.reshape(batch, groups, -1, size)  # H/G * t rows a group
    scores = grouped @ k.transpose(-1, -2) / size**0.5
    scores = scores.view(batch, groups, -1, rows, columns)
    mask = allowed(rows, start, columns, valid, q.device)[:, :, None]
    weights = torch.softmax(scores.masked_fill(~mask, float("-inf")), -1)
    return (weights.flatten(2, 3) @ v).reshape(q.shape)


ATTENTION: dict[str, Attend] = {"fused": fused, "plain": plain}


class Layer(nn.Module):
    """One pre-norm layer: attention, then a gated MLP, each added to its input."""

    def __init__(
        self,
        width: int,
        hidden: int,
        heads: int,
        kv_heads: int,
        head_size: int,
        qk_norm: bool,
        attention: str,
    ) -> None:
        super().__init__()
        if heads % kv_heads:
            raise ValueError(f"{heads} query heads are no multiple of {kv_heads} key-value heads")
        self.head_size = head_size
        self.attend = ATTENTION[attention]
        self.attention_norm, self.mlp_norm = RMSNorm(width), RMSNorm(width)
        self.q = nn.Linear(width, heads * head_size, bias=False)
        self.k = nn.Linear(width, kv_heads * head_size, bias=False)
        self.v = nn.Linear(width, kv_heads * head_size, bias=False)
        self.o = nn.Linear(heads * head_size, width, bias=False)
        self.q_norm = RMSNorm(head_size) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(head_size) if qk_norm else nn.Identity()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], -1, self.head_size).transpose(1, 2)

    def keys_values(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, G, T, s) of the inputs (B, T, d) from the first token on."""
        x = self.attention_norm(h)
        return rotate(self.k_norm(self._heads(self.k(x))), 0), self._heads(self.v(x))

    def mixed(
        self,
        h: Tensor,
        keys: Tensor,
        values: Tensor,
        start: int,
        valid: Tensor | None = None,
        offset: int | None = None,
    ) -> Tensor:
        """Attention added to the rows h (B, t, d), which begin at token ``start``.

        ``offset`` is where the causal mask takes the first row to be; by default at ``start``.
        """
        q = rotate(self.q_norm(self._heads(self.q(self.attention_norm(h)))), start)
        found = self.attend(q, keys, values, start if offset is None else offset, valid)
        output: Tensor = h + self.o(found.transpose(1, 2).flatten(2))
        return output

    def rows(self, h: Tensor, keys: Tensor, values: Tensor, start: int, *mask: Any) -> Tensor:
        """The layer's outputs (B, t, d) at the rows h; arguments as for :meth:`mixed`."""
        h = self.mixed(h, keys, values, start, *mask)
        return h + self.mlp(h)

    def mlp(self, h: Tensor) -> Tensor:
        x = self.mlp_norm(h)
        output: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return output

    def forward(self, h: Tensor, valid: Tensor | None = None) -> Tensor:
        return self.rows(h, *self.keys_values(h), 0, valid)


class Decoder(nn.Module):
    """Embedding, layers, final norm and head (``tied``: the embedding's own matrix).

    Args:
        vocabulary: C.
        width: d.
        layers: number of layers.
        heads: query heads H.
        kv_heads: key-value heads G, a divisor of H.
        hidden: width of the MLP.
        head_size: s, by default d / H.
        qk_norm: normalise queries and keys of every head, as Qwen3 does.
        tied: the head uses the embedding's matrix.
        attention: ``fused`` or ``plain``.
    """

    def __init__(
        self,
        vocabulary: int,
        width: int,
        layers: int,
        heads: int,
        kv_heads: int,
        hidden: int,
        head_size: int | None = None,
        qk_norm: bool = True,
        tied: bool = False,
        attention: str = "fused",
    ) -> None:
        super().__init__()
        size = head_size or width // heads
        self.embedding = nn.Embedding(vocabulary, width, _weight=_normal(vocabulary, width))
        self.layers = nn.ModuleList(
            Layer(width, hidden, heads, kv_heads, size, qk_norm, attention) for _ in range(layers)
        )
        self.norm = RMSNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = (
            self.embedding.weight if tied else nn.Parameter(_normal(vocabulary, width))
        )

    def logits(self, h: Tensor) -> Tensor:
        """Next-token logits (B, t, C) of the last layer's outputs (B, t, d)."""
        found: Tensor = self.head(self.norm(h))
        return found

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        h = self.embedding(x)
        for layer in self.layers:
            h = layer(h, valid)
        return self.logits(h)


def _normal(*shape: int) -> Tensor:
    weight = torch.empty(*shape)
    return weight if weight.is_meta else weight.normal_(std=0.02)
