"""Models of click-through rates: FM, DNN, DeepFM, DCN, DCNv2 and AutoInt+ over one embedding.

An example is a row of a table with F fields, the first ``numeric`` of which are numbers. Every
value of the other fields is a row of one embedding table; ``ids`` (B, F - numeric) are rows of
that table, so that no two fields share one. ``numbers`` is (B, numeric). All models return logits
(B,) of the click probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.dropout import dropout


class FeatureEmbedding(nn.Module):
    """``e_f = v[id]`` for a categorical field and ``e_f = x v_f`` for a numeric one.

    Rows 0 to ``numeric`` - 1 of the table are the vectors of the numeric fields. Vectors of
    categories start at N(0, 1e-4²); those of numbers like a linear layer, by Xavier.

    Args:
        rows: rows of the table: one for each numeric field and each value of the others.
        dimension: d, length of a vector.
        numeric: number of numeric fields.
    """

    def __init__(self, rows: int, dimension: int, numeric: int = 0) -> None:
        super().__init__()
        if numeric > rows:
            raise ValueError(f"{numeric} numeric fields need as many rows, not {rows}")
        self.numeric = numeric
        self.table = nn.Parameter(torch.empty(rows, dimension))
        nn.init.normal_(self.table, std=1e-4)
        nn.init.normal_(self.table.data[:numeric], std=(2 / (1 + dimension)) ** 0.5)

    def forward(self, ids: Tensor, numbers: Tensor | None = None) -> Tensor:
        """Vectors (B, F, d) of all fields, numeric ones first."""
        categories = F.embedding(ids, self.table)
        if not self.numeric:
            return categories
        if numbers is None:
            raise ValueError(f"the values of {self.numeric} numeric fields are missing")
        return torch.cat([numbers[:, :, None] * self.table[: self.numeric], categories], dim=1)


def penalised_squares(model: nn.Module) -> Tensor:
    """Sum of squares of what a click model's λ/2 is multiplied by.

    Every embedding table, all rows; and the bias of an :class:`FM`, of which the authors' library
    (FuxiCTR) penalises all parameters alike. A network's weights are not penalised.
    """
    penalised = [m.table for m in model.modules() if isinstance(m, FeatureEmbedding)]
    penalised += [m.bias for m in model.modules() if isinstance(m, FM)]
    return torch.stack([parameter.square().sum() for parameter in penalised]).sum()


class Dropout(nn.Module):
    """Dropout whose mask is cheap on a CPU."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        if not 0 <= probability < 1:
            raise ValueError(f"the probability must lie in [0, 1), not {probability}")
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.probability, self.training)


def linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """A linear layer that starts from Xavier's normal distribution and a bias of zero."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.xavier_normal_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def perceptron(
    inputs: int,
    hidden: Sequence[int],
    outputs: int | None = None,
    dropout: float = 0.0,
    batch_norm: bool = False,
) -> nn.Sequential:
    """Hidden layers of linear map, batch normalisation, ReLU and dropout; then a linear layer.

    Without ``outputs`` the last linear layer is left out.
    """
    layers: list[nn.Module] = []
    widths = [inputs, *hidden]
    for i, o in pairwise(widths):
        normal = [nn.BatchNorm1d(o)] if batch_norm else []
        noise = [Dropout(dropout)] if dropout else []
        layers += [linear(i, o), *normal, nn.ReLU(), *noise]
    if outputs is not None:
        layers.append(linear(widths[-1], outputs))
    return nn.Sequential(*layers)


class FM(nn.Module):
    """Factorisation machine: ``b + Σ_f w_f + Σ_{f<g} <e_f, e_g>`` (Rendle 2010, equation 1).

    Args:
        rows: of the embedding table.
        numeric: number of numeric fields.
        dimension: d of the embedding.
    """

    def __init__(self, rows: int, numeric: int = 0, dimension: int = 10) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))
        self.weights = FeatureEmbedding(rows, 1, numeric)
        self.embedding = FeatureEmbedding(rows, dimension, numeric)

    def forward(self, ids: Tensor, numbers: Tensor | None = None) -> Tensor:
        first: Tensor = self.weights(ids, numbers).sum((1, 2))
        return self.bias + first + second_order(self.embedding(ids, numbers))


def second_order(e: Tensor) -> Tensor:
    """``Σ_{f<g} <e_f, e_g>`` of vectors ``e`` (B, F, d) in time linear in F: (B,)."""
    return 0.5 * (e.sum(1).square() - e.square().sum(1)).sum(1)


class DNN(nn.Module):
    """One perceptron over the concatenated embeddings."""

    def __init__(
        self,
        rows: int,
        fields: int,
        numeric: int = 0,
        dimension: int = 10,
        hidden: Sequence[int] = (400, 400, 400),
        dropout: float = 0.0,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(rows, dimension, numeric)
        self.deep = perceptron(fields * dimension, hidden, 1, dropout, batch_norm)

    def forward(self, ids: Tensor, numbers: Tensor | None = None) -> Tensor:
        return self.deep(self.embedding(ids, numbers).flatten(1)).squeeze(1)  # type: ignore[no-any-return]


class DeepFM(DNN):
    """Factorisation machine and perceptron over the same embedding, logits added.

    The bias of the machine is that of the perceptron's last layer (Guo et al. 2017, equation 1).
    """

    def __init__(
        self,
        rows: int,
        fields: int,
        numeric: int = 0,
        dimension: int = 10,
        hidden: Sequence[int] = (400, 400, 400),
        dropout: float = 0.0,
        batch_norm: bool = True,
    ) -> None:
        super().__init__(rows, fields, numeric, dimension, hidden, dropout, batch_norm)
        self.weights = FeatureEmbedding(rows, 1, numeric)

    def forward(self, ids: Tensor, numbers: Tensor | None = None) -> Tensor:
        e = self.embedding(ids, numbers)
        first = self.weights(ids, numbers).sum((1, 2))
        return self.deep(e.flatten(1)).squeeze(1) + first + second_order(e)  # type: ignore[no-any-return]


class VectorCross(nn.Module):
    """``x_{l+1} = x_0 (w_l · x_l) + b_l + x_l`` (Wang et al. 2017, equation 3)."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.weights = nn.ModuleList(linear(width, 1, bias=False) for _ in range(layers))
        self.biases = nn.Parameter(torch.zeros(layers, width))

    def forward(self, x0: Tensor) -> Tensor:
        x = x0
        for weight, bias in zip(self.weights, self.biases, strict=True):
            x = x0 * weight(x) + bias + x
        return x


class MatrixCross(nn.Module):
    """``x_{l+1} = x_0 ∗ (W_l x_l + b_l) + x_l`` (Wang et al. 2021, equation 1)."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(linear(width, width) for _ in range(layers))

    def forward(self, x0: Tensor) -> Tensor:
        x = x0
        for layer in self.maps:
            x = x0 * layer(x) + x
        return x


class DCN(nn.Module):
    """Cross network beside a perceptron; a linear layer over both.

    Args:
        rows: of the embedding table.
        fields: F.
        numeric: number of numeric fields.
        dimension: d of the embedding.
        cross_layers: layers of the cross network.
        hidden: widths of the perceptron, which has no layer of its own for the logit.
        dropout: probability after each of its layers.
        batch_norm: whether they are normalised.
    """

    cross: nn.Module

    def __init__(
        self,
        rows: int,
        fields: int,
        numeric: int = 0,
        dimension: int = 10,
        cross_layers: int = 3,
        hidden: Sequence[int] = (400, 400, 400),
        dropout: float = 0.0,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        width = fields * dimension
        self.embedding = FeatureEmbedding(rows, dimension, numeric)
        self.cross = VectorCross(width, cross_layers)
        self.deep = perceptron(width, hidden, None, dropout, batch_norm)
        self.output = linear(width + hidden[-1], 1)

    def forward(self, ids: Tensor, numbers: Tensor | None = None) -> Tensor:
        x = self.embedding(ids, numbers).flatten(1)
        both = torch.cat([self.cross(x), self.deep(x)], dim=1)
        return self.output(both).squeeze(1)  # type: ignore[no-any-return]


class DCNv2(DCN):
    """DCN with full matrices in the cross network ('parallel' structure); same arguments."""

    def __init__(
        self,
        rows: int,
        fields: int,
        numeric: int = 0,
        dimension: int = 10,
        cross_layers: int = 3,
        hidden: Sequence[int] = (400, 400, 400),
        dropout: float = 0.0,
        batch_norm: bool = True,
    ) -> None:
        super().__init__(
            rows, fields, numeric, dimension, cross_layers, hidden, dropout, batch_norm
        )
        self.cross = MatrixCross(fields * dimension, cross_layers)


class FieldAttention(nn.Module):
    """Self-attention over fields with residual, layer normalisation and ReLU (Song et al. 2019).

    The residual is mapped to the new width where it differs.

    Args:
        inputs: length of a field's vector.
        width: of all heads together.
        heads: number of heads, a divisor of ``width``.
        scale: whether scores are divided by the root of a head's width.
        dropout: probability for each attention weight.
    """

    def __init__(self, inputs: int, width: int, heads: int, scale: bool, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide a width of {width}")
        self.heads, self.scale, self.dropout = heads, scale, dropout
        self.queries = linear(inputs, width, bias=False)
        self.keys = linear(inputs, width, bias=False)
        self.values = linear(inputs, width, bias=False)
        same = inputs == width
        self.residual = nn.Identity() if same else linear(inputs, width, bias=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, inputs) to (B, F, width)."""
        q, k, v = (
            m(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for m in (self.queries, self.keys, self.values)
        )
        attended = F.scaled_dot_product_attention(
            q,
            k,
            v,
            dropout_p=self.dropout if self.training else 0.0,
            scale=None if self.scale else 1.0,
        )
        joined = attended.transpose(1, 2).flatten(2) + self.residual(x)
        return self.norm(joined).relu()  # type: ignore[no-any-return]


class AutoIntPlus(DNN):
    """Self-attention over fields beside a perceptron, logits added; ``wide`` adds ``Σ_f w_f``.

    Args:
        rows: of the embedding table.
        fields: F.
        numeric: number of numeric fields.
        dimension: d of the embedding.
        attention: width of each attention layer.
        attention_layers: how many.
        heads: of each.
        scale: whether attention scores are scaled.
        wide: whether first-order weights are added.
        hidden: widths of the perceptron.
        dropout: probability after each of its layers.
        batch_norm: whether the perceptron's layers are normalised.
        attention_dropout: probability for each attention weight.
    """

    def __init__(
        self,
        rows: int,
        fields: int,
        numeric: int = 0,
        dimension: int = 10,
        attention: int = 128,
        attention_layers: int = 2,
        heads: int = 4,
        scale: bool = True,
        wide: bool = False,
        hidden: Sequence[int] = (400, 400, 400),
        dropout: float = 0.0,
        batch_norm: bool = True,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__(rows, fields, numeric, dimension, hidden, dropout, batch_norm)
        widths = [dimension, *[attention] * attention_layers]
        self.attention = nn.Sequential(
            *(FieldAttention(i, o, heads, scale, attention_dropout) for i, o in pairwise(widths))
        )
        self.output = linear(fields * widths[-1], 1)
        self.weights = FeatureEmbedding(rows, 1, numeric) if wide else None

    def forward(self, ids: Tensor, numbers: Tensor | None = None) -> Tensor:
        e = self.embedding(ids, numbers)
        logits: Tensor = self.deep(e.flatten(1)) + self.output(self.attention(e).flatten(1))
        if self.weights is not None:
            logits = logits + self.weights(ids, numbers).sum(1)
        return logits.squeeze(1)
