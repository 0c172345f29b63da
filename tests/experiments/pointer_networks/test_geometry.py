import itertools

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull

from experiments.pointer_networks.geometry import (
    are_simple,
    convex_hulls,
    from_lowest_index,
    polygon_areas,
    triangulations,
)

SQUARE = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.5, 0.25]]])


def uniform(count: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, n, 2, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("n", [3, 5, 10, 60])
def test_hulls_are_those_of_qhull_from_the_lowest_index(n: int) -> None:
    points = uniform(200, n)
    for p, found in zip(points.double().numpy(), convex_hulls(points).tolist(), strict=True):
        vertices = ConvexHull(p).vertices  # counter-clockwise in two dimensions
        expected = np.roll(vertices, -vertices.argmin()).tolist()
        assert [v for v in found if v >= 0] == expected


def test_areas_of_hulls_are_those_of_qhull() -> None:
    points = uniform(100, 12)
    areas = polygon_areas(points, convex_hulls(points))
    expected = [ConvexHull(p).volume for p in points.double().numpy()]
    assert areas.tolist() == pytest.approx(expected)


def test_area_ignores_orientation_and_start() -> None:
    polygons = torch.tensor([[0, 1, 2, 3], [2, 1, 0, 3], [3, 2, 1, 0], [0, 1, 2, -1]])
    areas = polygon_areas(SQUARE.expand(4, -1, -1), polygons)
    assert areas.tolist() == pytest.approx([1, 1, 1, 0.5])


@pytest.mark.parametrize(
    ("polygon", "simple"),
    [
        ([0, 1, 2, 3], True),
        ([0, 1, 4, 2, 3], True),
        ([0, 2, 1, 3], False),  # a bow tie
        ([0, 1, 2, 3, 0], False),  # a vertex twice
        ([0, 1], False),
        ([], False),
        ([1, 2, 3], True),
    ],
)
def test_simple_polygons(polygon: list[int], simple: bool) -> None:
    row = torch.tensor([polygon + [-1] * (7 - len(polygon))])
    assert are_simple(SQUARE, row).tolist() == [simple]


def test_simple_polygons_agree_with_pairwise_segment_intersection() -> None:
    points = uniform(300, 6, seed=1)
    polygons = torch.stack([torch.randperm(6) for _ in range(300)])
    polygons[::3, 5] = -1
    found = are_simple(points, polygons).tolist()
    assert 0 < sum(found) < 300
    for p, polygon, simple in zip(points.double().numpy(), polygons.tolist(), found, strict=True):
        assert simple == (not _crosses([p[v] for v in polygon if v >= 0]))


def _crosses(corners: list[np.ndarray]) -> bool:
    """Solve a + s (b - a) = c + t (d - c) for each pair of edges without a common corner."""
    n = len(corners)
    for i, j in itertools.combinations(range(n), 2):
        if j - i in (1, n - 1):
            continue
        a, b, c, d = corners[i], corners[(i + 1) % n], corners[j], corners[(j + 1) % n]
        s, t = np.linalg.solve(np.column_stack([b - a, c - d]), c - a)
        if 0 < s < 1 and 0 < t < 1:
            return True
    return False


def test_triangulations_have_empty_circumcircles_and_cover_the_hull() -> None:
    points = uniform(50, 9).double()
    hulls = convex_hulls(points)
    for p, hull, rows in zip(points, hulls, triangulations(points), strict=True):
        triangles = rows[rows[:, 0] >= 0]
        assert len(triangles) == 2 * 9 - 2 - int((hull >= 0).sum())  # Euler's formula
        for triangle in triangles:
            centre, radius = _circumcircle(p[triangle].numpy())
            inside = np.linalg.norm(p.numpy() - centre, axis=1) < radius - 1e-9
            assert not inside.any()


def _circumcircle(corner: np.ndarray) -> tuple[np.ndarray, float]:
    left = 2 * (corner[1:] - corner[0])
    right = (corner[1:] ** 2).sum(1) - (corner[0] ** 2).sum()
    centre = np.linalg.solve(left, right)
    return centre, float(np.linalg.norm(corner[0] - centre))


def test_triangles_are_ordered_by_incenter_with_increasing_corners() -> None:
    # A kite whose short diagonal is vertical: one triangle to its left, one to its right.
    kite = torch.tensor([[[2.0, 0.0], [0.0, 0.4], [0.0, -0.4], [-2.0, 0.1]]])
    assert triangulations(kite).tolist() == [[[1, 2, 3], [0, 1, 2]]]


def test_rotation_to_the_lowest_index_keeps_padding_at_the_end() -> None:
    cycles = torch.tensor([[3, 1, 4, -1], [2, 0, 5, 7]])
    assert from_lowest_index(cycles).tolist() == [[1, 4, 3, -1], [0, 5, 7, 2]]
