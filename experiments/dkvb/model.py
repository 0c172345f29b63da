"""The discrete key-value bottleneck, with its keys frozen, moving, or fetched softly.

Equations are those of Section 2 of the paper; what it leaves open is as in the released code
(`ftraeuble/discrete_key_value_bottleneck`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST = 2**24  # distances that are held at once


class Values(nn.Module):
    """The value codes of all codebooks, read by votes: all that is trained.

    Args:
        scale: deviation of the first values; zero in the main runs, 0.001 in Figure 2.
    """

    def __init__(self, codebooks: int, pairs: int, classes: int, scale: float = 0.0) -> None:
        super().__init__()
        self.codes = nn.Parameter(scale * torch.randn(codebooks, pairs, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes): the mean of the codes fetched.

        Args:
            x: which pair each codebook fetches, int64 (batch, codebooks).
        """
        codebooks, pairs, classes = self.codes.shape
        first = pairs * torch.arange(codebooks, device=x.device)
        return F.embedding_bag(x + first, self.codes.view(-1, classes), mode="mean")


class Bottleneck(nn.Module):
    """Features -> heads -> nearest keys -> their values -> mean (Section 2).

    Once the keys are frozen, a step changes only the values that its batch has fetched. In
    evaluation only pairs are fetched that training has fetched before.

    Args:
        features: of the encoder's output.
        classes: also the length of a value code.
        codebooks: C.
        pairs: in each codebook, J.
        key_dim: numbers in a head and a key, for random projections.
        heads: ``random`` projections with columns of length one, or ``chunk`` the features.
        scale: deviation of the first values.
        decay, eps: of the moving averages that keys are initialised by.

    Raises:
        ValueError: features cannot be cut into ``codebooks`` equal chunks.
    """

    frozen = True
    projections: Tensor
    keys: Tensor
    counts: Tensor
    sums: Tensor
    fetched: Tensor

    def __init__(
        self,
        features: int,
        classes: int,
        codebooks: int = 256,
        pairs: int = 4096,
        key_dim: int = 14,
        heads: str = "random",
        scale: float = 0.0,
        decay: float = 0.95,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if heads == "chunk":
            if features % codebooks:
                raise ValueError(f"{features} features are not {codebooks} equal chunks")
            key_dim = features // codebooks
            projections = torch.eye(features).view(features, codebooks, key_dim).transpose(0, 1)
        else:
            projections = F.normalize(torch.randn(codebooks, features, key_dim), dim=1)
        keys = torch.randn(codebooks, pairs, key_dim)
        self.register_buffer("projections", projections.contiguous())
        self.register_buffer("keys", keys)
        self.register_buffer("counts", torch.zeros(codebooks, pairs))
        self.register_buffer("sums", keys.clone())
        self.register_buffer("fetched", torch.zeros(codebooks, pairs, dtype=torch.bool))
        self.values = Values(codebooks, pairs, classes, scale)
        self.decay, self.eps = decay, eps

    def forward(self, z: Tensor) -> Tensor:
        """Logits (batch, classes) of features (batch, features)."""
        pairs = self.snap(z, known=not self.training)
        if self.training:
            self.note(pairs)
        logits: Tensor = self.values(pairs)
        return logits

    def heads(self, z: Tensor) -> Tensor:
        """h_c = P_c^T z: (codebooks, batch, key_dim)."""
        return torch.einsum("bm,cmd->cbd", z, self.projections)

    def distances(self, heads: Tensor) -> Tensor:
        """Squared Euclidean distances of heads to keys: (codebooks, batch, pairs)."""
        products = torch.einsum("cbd,cjd->cbj", heads, self.keys)
        lengths = heads.square().sum(2)[:, :, None] + self.keys.square().sum(2)[:, None]
        return lengths - 2 * products

    def snap(self, z: Tensor, known: bool = False) -> Tensor:
        """The pair nearest to each head, int64 (batch, codebooks).

        Args:
            known: only of the pairs that training has fetched.
        """
        size = max(1, LARGEST // self.counts.numel())
        found = []
        for part in torch.split(z, size):
            distances = self.distances(self.heads(part))
            if known:
                distances = distances.masked_fill(~self.fetched[:, None], torch.inf)
            found.append(distances.argmin(2).T)
        return torch.cat(found)

    def note(self, pairs: Tensor) -> None:
        """Remember that training has fetched these, int64 (batch, codebooks)."""
        self.fetched.scatter_(1, pairs.T, True)

    @torch.no_grad()
    def follow(self, z: Tensor, threshold: float = 0.0, decay: float | None = None) -> None:
        """Move keys towards the heads of a batch, by moving averages as in a VQ-VAE.

        Args:
            z: (batch, features).
            threshold: keys with a smaller mean count are put on a random head of the batch.
            decay: in place of the model's own.
        """
        heads = self.heads(z)
        weight = 1 - (self.decay if decay is None else decay)
        nearest = self.distances(heads).argmin(2)
        counts = torch.zeros_like(self.counts).scatter_add_(
            1, nearest, torch.ones_like(heads[..., 0])
        )
        places = nearest[..., None].expand_as(heads)
        sums = torch.zeros_like(self.sums).scatter_add_(1, places, heads)
        self.counts.lerp_(counts, weight)
        self.sums.lerp_(sums, weight)
        total = self.counts.sum(1, keepdim=True)
        pairs = self.counts.shape[1]
        smooth = (self.counts + self.eps) / (total + pairs * self.eps) * total
        self.keys.copy_(self.sums / smooth[..., None])
        dead = self.counts < threshold
        if dead.any():
            drawn = torch.randint(heads.shape[1], dead.shape, device=dead.device)
            others = heads.gather(1, drawn[..., None].expand_as(self.keys))
            self.keys.copy_(torch.where(dead[..., None], others, self.keys))


class MovingKeys(Bottleneck):
    """Keys go on following the stream: what a value belongs to changes after it was learned.

    Args:
        threshold: of :meth:`Bottleneck.follow`.
        pace: decay of the moving averages in the stream.
    """

    frozen = False

    def __init__(
        self,
        features: int,
        classes: int,
        threshold: float = 0.0,
        pace: float = 0.95,
        **settings: object,
    ) -> None:
        super().__init__(features, classes, **settings)  # type: ignore[arg-type]
        self.threshold, self.pace = threshold, pace

    def forward(self, z: Tensor) -> Tensor:
        if self.training:
            self.follow(z, self.threshold, self.pace)
        return super().forward(z)


class SoftFetch(Bottleneck):
    """Each value counts by exp(-distance / temperature): every step changes all of them."""

    frozen = False

    def __init__(
        self, features: int, classes: int, temperature: float = 1.0, **settings: object
    ) -> None:
        super().__init__(features, classes, **settings)  # type: ignore[arg-type]
        self.temperature = temperature

    def forward(self, z: Tensor) -> Tensor:
        weights = torch.softmax(-self.distances(self.heads(z)) / self.temperature, 2)
        return torch.einsum("cbj,cjk->bk", weights, self.values.codes) / len(self.keys)
