"""Planar geometry over a batch: convex hulls, polygons, Delaunay triangulations.

Points are (N, n, 2), coordinates in the unit square. A polygon or point sequence is a row of
0-based indices, padded with -1.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.spatial import Delaunay
from torch import Tensor

MAX_ELEMENTS = 20_000_000


def convex_hulls(points: Tensor) -> Tensor:
    """Hull vertices, counter-clockwise from the one with the lowest index (section 4.2).

    Gift wrapping, one vertex of all instances at a time: the next vertex is the one at the
    smallest counter-clockwise turn from the last edge.

    Args:
        points: (N, n, 2), n >= 3, in general position.

    Returns:
        Indices (N, w), padded with -1; w is the largest hull's size.
    """
    points = points.double()
    count, n, _ = points.shape
    rows = torch.arange(count)
    start = points[:, :, 1].argmin(dim=1)
    heading = torch.zeros(count, dtype=torch.float64)
    current, open_ = start, torch.ones(count, dtype=torch.bool)
    vertices = []
    for _ in range(n):
        vertices.append(torch.where(open_, current, -1))
        step = points - points[rows, current].unsqueeze(1)
        angle = torch.atan2(step[..., 1], step[..., 0])
        turn = torch.remainder(angle - heading.unsqueeze(1), 2 * math.pi)
        turn[rows, current] = math.inf
        following = turn.argmin(dim=1)
        heading = angle[rows, following]
        current = following
        open_ = open_ & (current != start)
        if not open_.any():
            break
    return from_lowest_index(torch.stack(vertices, dim=1))


def from_lowest_index(cycles: Tensor) -> Tensor:
    """Rotate each cycle (N, w; padded with -1) so that its lowest index comes first."""
    size = (cycles >= 0).sum(dim=1, keepdim=True).clamp(min=1)
    first = cycles.masked_fill(cycles < 0, torch.iinfo(torch.int64).max).argmin(dim=1, keepdim=True)
    position = torch.arange(cycles.shape[1], device=cycles.device).unsqueeze(0)
    rotated = cycles.gather(1, (position + first) % size)
    return torch.where(position < size, rotated, -1)


def triangulations(points: Tensor) -> Tensor:
    """Delaunay triangles, sorted by incenter (x, then y), each with increasing indices.

    Returns:
        Indices (N, w, 3), padded with -1.
    """
    found = [_ordered_triangles(p) for p in points.double().numpy()]
    out = np.full((len(found), max(map(len, found)), 3), -1, dtype=np.int64)
    for row, triangles in zip(out, found, strict=True):
        row[: len(triangles)] = triangles
    return torch.from_numpy(out)


def _ordered_triangles(points: np.ndarray) -> np.ndarray:
    triangles = np.sort(Delaunay(points).simplices, axis=1)
    corner = points[triangles]
    opposite = np.linalg.norm(corner[:, [1, 2, 0]] - corner[:, [2, 0, 1]], axis=-1)
    incenter = (opposite[..., None] * corner).sum(1) / opposite.sum(1, keepdims=True)
    ordered: np.ndarray = triangles[np.lexsort((incenter[:, 1], incenter[:, 0]))]
    return ordered


def polygon_areas(points: Tensor, polygons: Tensor) -> Tensor:
    """Areas (N,) by the shoelace formula, whatever the orientation."""
    here, there = _edges(points.double(), polygons)
    return 0.5 * _cross(here, there).sum(dim=1).abs()


def are_simple(points: Tensor, polygons: Tensor) -> Tensor:
    """Whether each polygon (N, w) has three vertices or more, none twice, and no crossing edges.

    Returns:
        (N,) bool.
    """
    chunk = max(1, MAX_ELEMENTS // (8 * polygons.shape[1] ** 2 + 1))
    parts = zip(torch.split(points, chunk), torch.split(polygons, chunk), strict=True)
    return torch.cat([_are_simple(p.double(), polygon) for p, polygon in parts])


def _are_simple(points: Tensor, polygons: Tensor) -> Tensor:
    valid = polygons >= 0
    size = valid.sum(dim=1)
    same = (polygons.unsqueeze(1) == polygons.unsqueeze(2)) & valid.unsqueeze(1)
    repeats = (same.sum(dim=2) > 1).any(dim=1)
    a, b = _edges(points, polygons)
    edge = b - a
    # Edge i separates the ends of edge j where its two cross products have opposite signs.
    start_side = _cross(edge.unsqueeze(2), a.unsqueeze(1) - a.unsqueeze(2))
    end_side = _cross(edge.unsqueeze(2), b.unsqueeze(1) - a.unsqueeze(2))
    separates = start_side * end_side < 0
    crossing = separates & separates.transpose(1, 2)
    position = torch.arange(polygons.shape[1], device=polygons.device)
    gap = (position.unsqueeze(1) - position.unsqueeze(0)).abs()
    neighbours = (gap <= 1) | (gap == (size.view(-1, 1, 1) - 1))
    crossing = crossing & ~neighbours & valid.unsqueeze(1) & valid.unsqueeze(2)
    return (size >= 3) & ~repeats & ~crossing.flatten(1).any(dim=1)


def _edges(points: Tensor, polygons: Tensor) -> tuple[Tensor, Tensor]:
    """Both ends of each edge, (N, w, 2); padding becomes edges of no length at the origin."""
    valid = (polygons >= 0).unsqueeze(-1)
    size = (polygons >= 0).sum(dim=1, keepdim=True).clamp(min=1)
    index = polygons.clamp(min=0)
    here = points.gather(1, index.unsqueeze(-1).expand(-1, -1, 2))
    position = torch.arange(polygons.shape[1], device=polygons.device).unsqueeze(0)
    following = ((position + 1) % size).unsqueeze(-1).expand(-1, -1, 2)
    there = here.gather(1, following)
    return here * valid, there * valid


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
