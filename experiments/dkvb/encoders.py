"""Frozen encoders that saw no label of the stream: pixels, patches, a network trained elsewhere.

Each is fitted once, on what is not labelled by the stream, and gives features (n, ``features``).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.vision import VGG
from harness.loading.splits import Tensors
from harness.procedures.base import Trial
from harness.procedures.recipe import Recipe
from harness.procedures.training import train

Images = Mapping[str, Tensor]


class Positional(Recipe):
    """The one input of a batch has another name in every model."""

    def predict(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        (x,) = (column for name, column in batch.items() if name != "y")
        output: Tensor = model(x)
        return output


class Encoder(Protocol):
    features: int

    def fitted(self, trial: Trial, images: Images) -> nn.Module:
        """A module from inputs to features, fitted to ``images`` of other than the stream."""
        ...


class Given:
    """Pixels, points or embeddings as they are, in a row.

    Args:
        centred: subtract the mean of the unlabelled ones; divide by their deviation, all by one.
    """

    def __init__(self, features: int, centred: bool = True) -> None:
        self.features, self.centred = features, centred

    def fitted(self, trial: Trial, images: Images) -> nn.Module:
        flat = nn.Flatten()
        return standardised(flat, unlabelled(images)) if self.centred else flat


class Patches:
    """Coates, Ng, Lee, 2011: whitened patches, their distances to K-means centroids, pooled.

    Centroids, whitening and mean come from the unlabelled images alone. Features are the
    activations max(0, mean distance - distance), summed over quarters of the image.

    Args:
        centroids: K; there are 4 K features.
        side: of a patch.
        stride: between patches.
        drawn: patches that K-means sees.
    """

    def __init__(self, centroids: int, side: int = 6, stride: int = 2, drawn: int = 20000) -> None:
        self.features = 4 * centroids
        self.centroids, self.side, self.stride, self.drawn = centroids, side, stride, drawn

    def fitted(self, trial: Trial, images: Images) -> nn.Module:
        from sklearn.cluster import MiniBatchKMeans

        x = unlabelled(images)
        generator = torch.Generator().manual_seed(torch.initial_seed() % 2**63)
        patches = patches_of(x[:2000], self.side, self.stride).flatten(0, 1)
        rows = torch.randperm(len(patches), generator=generator)[: self.drawn]
        patches = normalised(patches[rows])
        mean = patches.mean(0)
        variance, axes = torch.linalg.eigh(torch.cov(patches.T))
        whitening = axes @ torch.diag((variance + 0.1).rsqrt()) @ axes.T
        clusters = MiniBatchKMeans(
            self.centroids, n_init=1, batch_size=2048, max_iter=20, random_state=0
        )
        found = clusters.fit(((patches - mean) @ whitening).numpy()).cluster_centers_
        module = PatchFeatures(self.side, self.stride, mean, whitening, torch.as_tensor(found))
        return standardised(module, x[:500])


class PatchFeatures(nn.Module):
    """Images (n, channels, height, width) -> (n, 4 K)."""

    mean: Tensor
    whitening: Tensor
    centroids: Tensor

    def __init__(
        self, side: int, stride: int, mean: Tensor, whitening: Tensor, centroids: Tensor
    ) -> None:
        super().__init__()
        self.side, self.stride = side, stride
        for name, value in (("mean", mean), ("whitening", whitening), ("centroids", centroids)):
            self.register_buffer(name, value.float())

    def forward(self, x: Tensor) -> Tensor:
        patches = normalised(patches_of(x, self.side, self.stride)) - self.mean
        patches = patches @ self.whitening
        away = torch.cdist(patches, self.centroids.expand(len(x), -1, -1))
        active = F.relu(away.mean(2, keepdim=True) - away).transpose(1, 2).contiguous()
        side = int(active.shape[2] ** 0.5)
        return F.adaptive_avg_pool2d(active.view(*active.shape[:2], side, side), 2).flatten(1)


class Network:
    """The body of a convolutional network that learned to classify other images.

    Args:
        widths: of its convolutions, each followed by pooling; the last one are the features.
        epochs: of Adam, batches of 64.
    """

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64), epochs: int = 3) -> None:
        self.features, self.widths, self.epochs = widths[-1], widths, epochs

    def fitted(self, trial: Trial, images: Images) -> nn.Module:
        x, y = images["elsewhere_x"], images["elsewhere_y"]
        recipe = Positional(
            loss=nn.CrossEntropyLoss(),
            optimizer=partial(torch.optim.Adam, lr=3e-3),
            epochs=self.epochs,
        )
        vgg = partial(VGG, x.shape[1], int(y.max()) + 1, [(width,) for width in self.widths])
        network = train(vgg, Tensors(x=x, y=y), recipe, trial, "encoder").model
        assert isinstance(network, nn.Sequential)
        body = nn.Sequential(*list(network)[:-1], nn.Flatten())
        return standardised(body, unlabelled(images)[:500])


class Standardised(nn.Module):
    """Features less their mean, over the root of their mean variance."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, body: nn.Module, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.body(x)
        return (features - self.mean) / self.deviation


@torch.no_grad()
def standardised(body: nn.Module, x: Tensor) -> nn.Module:
    """By the features of these images."""
    features = encoded(body, x)
    deviation = features.var(0).mean().sqrt()
    return Standardised(body, features.mean(0), deviation).eval()


@torch.no_grad()
def encoded(body: nn.Module, x: Tensor) -> Tensor:
    """Features of many images, in evaluation mode."""
    return torch.cat([body.eval()(part) for part in torch.split(x, 200)])


def unlabelled(images: Images) -> Tensor:
    """The images that keys may be initialised with, of the first kind there is."""
    return next(x for name, x in images.items() if name.startswith("keys_"))


def patches_of(x: Tensor, side: int, stride: int) -> Tensor:
    """(n, channels, height, width) -> (n, places, channels side²)."""
    return F.unfold(x, side, stride=stride).transpose(1, 2)


def normalised(patches: Tensor) -> Tensor:
    """Each patch less its mean, over its deviation."""
    centred = patches - patches.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    return centred / (variance + 0.01).sqrt()
