"""Similarities of images, by the layers of a network or by features of the images themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from experiments.image_triplets.search import Floats

Bytes = NDArray[np.uint8]


def pearson(features: NDArray[np.floating]) -> Floats:
    """Correlations (n, n) of the features (n, d) of each two images.

    Constant features correlate with nothing: their rows are 0, their diagonal 1.
    """
    centred = features - features.mean(1, keepdims=True)
    length = np.sqrt((centred**2).sum(1, keepdims=True, dtype=np.float64))
    unit = centred / np.where(length > 0, length, 1)
    similarity = np.asarray(unit @ unit.T, np.float64)
    np.fill_diagonal(similarity, 1)
    return np.clip(similarity, -1, 1)


def relabelled(matrix: Floats, order: NDArray[np.int64]) -> Floats:
    """The matrix (…, n, n) that other images would have: rows and columns in another order."""
    return matrix[..., order[:, None], order]


def pixels(images: Bytes) -> Floats:
    """Images (n, h, w, 3) as numbers, side by side."""
    return images.reshape(len(images), -1).astype(np.float64)


def colours(images: Bytes, levels: int = 4) -> Floats:
    """Square roots of the shares of pixels in each of ``levels``³ cells of RGB."""
    cells = (images.astype(np.int64) * levels) // 256
    index = (cells[..., 0] * levels + cells[..., 1]) * levels + cells[..., 2]
    flat = index.reshape(len(images), -1) + levels**3 * np.arange(len(images))[:, None]
    counts = np.bincount(flat.ravel(), minlength=levels**3 * len(images))
    shares: Floats = np.sqrt(counts.reshape(len(images), -1) / flat.shape[1])
    return shares


def gradients(images: Bytes, grid: int = 5, orientations: int = 8) -> Floats:
    """Histograms of oriented gradients (Dalal and Triggs, 2005) of the luminance.

    The magnitudes of gradients, by orientation, summed in ``grid`` x ``grid`` regions, each of
    which is scaled to length 1.
    """
    grey = images.astype(np.float64) @ [0.299, 0.587, 0.114]
    down, right = ndimage.sobel(grey, 1), ndimage.sobel(grey, 2)
    size = np.hypot(down, right)
    angle = np.mod(np.arctan2(down, right), np.pi)
    bins = np.minimum((angle / np.pi * orientations).astype(np.int64), orientations - 1)
    height, width = (np.arange(side) * grid // side for side in grey.shape[1:])
    region = height[:, None] * grid + width
    cells = (np.arange(len(grey))[:, None, None] * grid**2 + region) * orientations + bins
    total = np.bincount(cells.ravel(), size.ravel(), len(grey) * grid**2 * orientations)
    regions = total.reshape(-1, orientations)
    scaled: Floats = regions / (np.linalg.norm(regions, axis=1, keepdims=True) + 1e-9)
    return scaled.reshape(len(images), -1)


IMAGE_FEATURES = {"pixels": pixels, "colours": colours, "gradients": gradients}


def image_similarities(images: Bytes) -> dict[str, Floats]:
    """Similarities (n, n) of low-level features that need nothing but the images."""
    return {name: pearson(features(images)) for name, features in IMAGE_FEATURES.items()}
