import itertools

import numpy as np
import pytest
import torch

from experiments.pointer_networks.tours import (
    christofides,
    directed,
    greedy_edge,
    held_karp,
    nearest_neighbour,
    solve,
    subtour_elimination,
    tour_lengths,
    two_opt,
)

SOLVERS = [
    "exact",
    "greedy-edge",
    "nearest-neighbour",
    "2-opt",
    "christofides",
    "christofides-2opt",
]


def uniform(count: int, n: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, n, 2, generator=generator, dtype=torch.float64)


def shortest_by_enumeration(points: torch.Tensor) -> float:
    p = points.numpy()
    n = len(p)
    return min(
        float(np.linalg.norm(p[list(t)] - np.roll(p[list(t)], -1, axis=0), axis=1).sum())
        for t in ((0, *rest) for rest in itertools.permutations(range(1, n)))
    )


@pytest.mark.parametrize("n", [3, 5, 7])
def test_held_karp_finds_the_shortest_of_all_permutations(n: int) -> None:
    points = uniform(8, n)
    expected = [shortest_by_enumeration(p) for p in points]
    assert tour_lengths(points, held_karp(points)).tolist() == pytest.approx(expected)


def test_integer_programme_agrees_with_dynamic_programming() -> None:
    points = uniform(10, 9)
    # Two far clusters: without cuts, the programme would answer with a subtour in each.
    points[5:, ::2] += 10
    by_programme = tour_lengths(points, subtour_elimination(points))
    assert torch.allclose(by_programme, tour_lengths(points, held_karp(points)))


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_gives_directed_permutations_no_shorter_than_the_optimum(solver: str) -> None:
    points = uniform(40, 8)
    tours = solve(points, solver)  # type: ignore[arg-type]
    assert torch.equal(tours.sort(dim=1).values, torch.arange(8).expand(40, -1))
    assert (tours[:, 0] == 0).all()
    ratio = tour_lengths(points, tours) / tour_lengths(points, held_karp(points))
    assert ratio.min() >= 1 - 1e-9
    if solver == "exact":
        assert ratio.max() <= 1 + 1e-9
    else:
        assert ratio.max() > 1.001  # a heuristic that never errs would be no baseline


def test_christofides_keeps_its_guarantee() -> None:
    points = uniform(40, 10, seed=3)
    ratio = tour_lengths(points, christofides(points)) / tour_lengths(points, held_karp(points))
    assert ratio.min() >= 1 - 1e-9 and ratio.max() <= 1.5


def test_two_opt_leaves_no_reversal_that_shortens_the_tour() -> None:
    points = uniform(5, 12)
    tours = two_opt(points, nearest_neighbour(points))
    lengths = tour_lengths(points, tours)
    for i, j in itertools.combinations(range(1, 13), 2):
        reversed_ = torch.cat([tours[:, :i], tours[:, i:j].flip(1), tours[:, j:]], dim=1)
        assert (tour_lengths(points, reversed_) >= lengths - 1e-9).all()


def test_greedy_edge_agrees_with_sorting_the_edges_one_instance_at_a_time() -> None:
    points = uniform(20, 9, seed=5)
    lengths = [_greedy_length(p.numpy()) for p in points]
    assert tour_lengths(points, greedy_edge(points)).tolist() == pytest.approx(lengths)


def _greedy_length(p: np.ndarray) -> float:
    n = len(p)
    edges = sorted((float(np.linalg.norm(p[a] - p[b])), a, b) for a in range(n) for b in range(a))
    root, degree, total, taken = list(range(n)), [0] * n, 0.0, 0
    for length, a, b in edges * 2:  # the closing edge may be one that was refused before
        closes = root[a] == root[b]
        if degree[a] < 2 and degree[b] < 2 and (not closes or taken == n - 1):
            old, new = root[b], root[a]
            root = [new if r == old else r for r in root]
            degree[a], degree[b] = degree[a] + 1, degree[b] + 1
            total, taken = total + length, taken + 1
    assert taken == n
    return total


def test_direction_is_counter_clockwise_from_any_start_and_side() -> None:
    angles = torch.tensor([0.3, 2.0, 4.0, 1.0, 3.0, 5.5])
    circle = torch.stack([angles.cos(), angles.sin()], dim=1) / 2 + 0.5
    tour = angles.argsort()
    forms = [tour.roll(k) for k in range(6)] + [tour.flip(0).roll(k) for k in range(6)]
    found = directed(circle.expand(12, -1, -1), torch.stack(forms))
    assert found.unique(dim=0).tolist() == [[0, 3, 1, 4, 2, 5]]


def test_length_of_the_unit_square() -> None:
    square = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]])
    assert tour_lengths(square, torch.tensor([[0, 1, 2, 3]])).item() == pytest.approx(4)
    crossed = tour_lengths(square, torch.tensor([[0, 2, 1, 3]])).item()
    assert crossed == pytest.approx(2 + 2 * 2**0.5)
