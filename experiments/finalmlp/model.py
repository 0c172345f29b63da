"""FinalMLP and DualMLP: two perceptrons over one feature embedding.

``ids`` (B, F - numeric) and ``numbers`` (B, numeric) are as :mod:`baselines.ctr` has them; the
models return logits (B,).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from baselines.ctr import FeatureEmbedding, linear, perceptron

Fusion = Literal["bilinear", "concat", "sum", "product"]
Part = Literal["context", "stream"]


@dataclass(frozen=True)
class Context:
    """Neighbouring fields on which a gate depends, all numeric or all categorical.

    Attributes:
        first_field: position of the first of them among all fields.
        fields: how many.
        first_row: first row of the embedding table that belongs to them.
        rows: how many rows do.
    """

    first_field: int
    fields: int
    first_row: int
    rows: int


class FeatureGate(nn.Module):
    """``2 sigmoid(MLP(x))``: a factor between 0 and 2 for each element of the embedding.

    ``x`` are the context's vectors from an embedding table of the gate's own, or, without a
    context, a learnable vector (from zero), so that the gate is the same for all examples.

    Args:
        width: elements of the embedding, F · d.
        hidden: widths of the hidden layers.
        context: the fields it depends on.
        numeric: numeric fields of the data.
        dimension: d.
        mismatched: give each example the context of the one before it in the batch, so that the
            gate has its parameters and learns nothing about its own example (a control).
    """

    def __init__(
        self,
        width: int,
        hidden: Sequence[int],
        context: Context | None,
        numeric: int,
        dimension: int,
        mismatched: bool = False,
    ) -> None:
        super().__init__()
        self.context, self.numeric, self.mismatched = context, numeric, mismatched
        fields = 1
        if context is None:
            self.constant = nn.Parameter(torch.zeros(1, dimension))
        else:
            fields = context.fields
            self.of_numbers = context.first_field + fields <= numeric
            if not self.of_numbers and context.first_field < numeric:
                raise ValueError("a context is of numeric or of categorical fields, not of both")
            self.embedding = FeatureEmbedding(
                context.rows, dimension, fields if self.of_numbers else 0
            )
        self.gate = perceptron(fields * dimension, hidden, width)

    def forward(self, ids: Tensor, numbers: Tensor | None = None) -> Tensor:
        """Factors (B, width), or (1, width) without a context."""
        x = self.constant if self.context is None else self._embedded(ids, numbers).flatten(1)
        if self.mismatched:
            x = x.roll(1, 0)
        return 2 * torch.sigmoid(self.gate(x))

    def _embedded(self, ids: Tensor, numbers: Tensor | None) -> Tensor:
        assert self.context is not None
        first, count = self.context.first_field, self.context.fields
        if not self.of_numbers:
            start = first - self.numeric
            return self.embedding(ids[:, start : start + count] - self.context.first_row)  # type: ignore[no-any-return]
        assert numbers is not None
        return self.embedding(ids[:, :0], numbers[:, first : first + count])  # type: ignore[no-any-return]


class BilinearFusion(nn.Module):
    """``b + w1·o1 + w2·o2 + Σ_j o1_j^T W_j o2_j`` over k heads.

    Each part of the linear term has a bias, as in the authors' code. With k = 1 the form is a
    full bilinear one; with W = 0 it is the linear layer over the concatenation.

    Args:
        first: width of o1.
        second: width of o2.
        heads: k, a divisor of both.
        mismatched: let the bilinear term read the o2 of the example before it in the batch, so
            that it has its parameters and relates nothing (a control).
    """

    def __init__(self, first: int, second: int, heads: int, mismatched: bool = False) -> None:
        super().__init__()
        if first % heads or second % heads:
            raise ValueError(f"{heads} heads must divide both widths, {first} and {second}")
        self.heads, self.mismatched = heads, mismatched
        self.linear1, self.linear2 = linear(first, 1), linear(second, 1)
        self.weight = nn.Parameter(torch.empty(heads, first // heads, second // heads))
        # Xavier's normal distribution of one column with all the weights
        nn.init.normal_(self.weight, std=(2 / (1 + self.weight.numel())) ** 0.5)

    def forward(self, o1: Tensor, o2: Tensor) -> Tensor:
        """Logits (B,) of streams (B, first) and (B, second)."""
        partner = o2.roll(1, 0) if self.mismatched else o2
        heads = o1.reshape(len(o1), self.heads, -1).transpose(0, 1)
        parts = heads @ self.weight  # (k, B, second / k)
        bilinear = (parts.transpose(0, 1).flatten(1) * partner).sum(1)
        return bilinear + (self.linear1(o1) + self.linear2(o2)).squeeze(1)  # type: ignore[no-any-return]


class PlainFusion(nn.Module):
    """The fusions that the bilinear one is compared with.

    ``concat``: ``b + w·[o1; o2]``. ``sum`` and ``product``: ``b + w·(o1 + P o2)`` and
    ``b + w·(o1 ∗ P o2)``, where P is the identity, or a linear map if the widths differ.
    """

    def __init__(self, first: int, second: int, kind: Fusion) -> None:
        super().__init__()
        self.kind = kind
        concat = kind == "concat"
        self.linear = linear(first + second if concat else first, 1)
        mapped = not concat and first != second
        self.map = linear(second, first, bias=False) if mapped else nn.Identity()

    def forward(self, o1: Tensor, o2: Tensor) -> Tensor:
        """Logits (B,) of streams (B, first) and (B, second)."""
        o2 = self.map(o2)
        if self.kind == "concat":
            joined = torch.cat([o1, o2], dim=1)
        else:
            joined = o1 + o2 if self.kind == "sum" else o1 * o2
        return self.linear(joined).squeeze(1)  # type: ignore[no-any-return]


class FinalMLP(nn.Module):
    """Gated features, two perceptrons without output layers, and their fusion.

    Args:
        rows: rows of the embedding table.
        fields: F, of which the first ``numeric`` are numeric.
        numeric: number of numeric fields.
        dimension: d of the embedding.
        hidden1: widths of the first stream.
        hidden2: widths of the second stream.
        dropout1: probability after each layer of the first stream.
        dropout2: the same for the second.
        batch_norm: whether the streams' layers are normalised.
        gates: hidden widths of both gates; ``None`` for no feature selection.
        context1: what the first gate depends on.
        context2: what the second gate depends on.
        fusion: how the streams are joined.
        heads: k of the bilinear fusion.
        mismatched: which part is made useless while all parameters stay (a control).
    """

    def __init__(
        self,
        rows: int,
        fields: int,
        numeric: int = 0,
        dimension: int = 10,
        hidden1: Sequence[int] = (400,),
        hidden2: Sequence[int] = (400,),
        dropout1: float = 0.0,
        dropout2: float = 0.0,
        batch_norm: bool = True,
        gates: Sequence[int] | None = (400,),
        context1: Context | None = None,
        context2: Context | None = None,
        fusion: Fusion = "bilinear",
        heads: int = 1,
        mismatched: Part | None = None,
    ) -> None:
        super().__init__()
        width = fields * dimension
        self.embedding = FeatureEmbedding(rows, dimension, numeric)
        self.gates = None
        if gates is not None:
            self.gates = nn.ModuleList(
                FeatureGate(width, gates, context, numeric, dimension, mismatched == "context")
                for context in (context1, context2)
            )
        self.stream1 = perceptron(width, hidden1, None, dropout1, batch_norm)
        self.stream2 = perceptron(width, hidden2, None, dropout2, batch_norm)
        self.fusion: nn.Module
        if fusion == "bilinear":
            self.fusion = BilinearFusion(hidden1[-1], hidden2[-1], heads, mismatched == "stream")
        else:
            self.fusion = PlainFusion(hidden1[-1], hidden2[-1], fusion)

    def forward(self, ids: Tensor, numbers: Tensor | None = None) -> Tensor:
        e = self.embedding(ids, numbers).flatten(1)
        h1 = h2 = e
        if self.gates is not None:
            h1, h2 = (e * gate(ids, numbers) for gate in self.gates)
        return self.fusion(self.stream1(h1), self.stream2(h2))  # type: ignore[no-any-return]


class DualMLP(nn.Module):
    """Two perceptrons over the same embedding, each with an output, logits added."""

    def __init__(
        self,
        rows: int,
        fields: int,
        numeric: int = 0,
        dimension: int = 10,
        hidden1: Sequence[int] = (400, 400, 400),
        hidden2: Sequence[int] = (400, 400, 400),
        dropout1: float = 0.0,
        dropout2: float = 0.0,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        width = fields * dimension
        self.embedding = FeatureEmbedding(rows, dimension, numeric)
        self.stream1 = perceptron(width, hidden1, 1, dropout1, batch_norm)
        self.stream2 = perceptron(width, hidden2, 1, dropout2, batch_norm)

    def forward(self, ids: Tensor, numbers: Tensor | None = None) -> Tensor:
        e = self.embedding(ids, numbers).flatten(1)
        return (self.stream1(e) + self.stream2(e)).squeeze(1)  # type: ignore[no-any-return]
