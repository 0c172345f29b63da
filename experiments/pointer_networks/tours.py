"""Travelling salesman tours, exact and approximate, over a batch.

Points are (N, n, 2); a tour is a row of n 0-based city indices. Solvers return tours in the form
of the training targets: from city 0, counter-clockwise.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Literal

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from experiments.pointer_networks.geometry import MAX_ELEMENTS, from_lowest_index

Solver = Literal[
    "exact", "greedy-edge", "nearest-neighbour", "2-opt", "christofides", "christofides-2opt"
]
HELD_KARP_CITIES = 12
HELD_KARP_ELEMENTS = 1 << 20


def solve(points: Tensor, solver: Solver) -> Tensor:
    """Tours (N, n) by the solver of that name."""
    solvers: dict[str, Callable[[Tensor], Tensor]] = {
        "exact": optimal_tours,
        "greedy-edge": greedy_edge,
        "nearest-neighbour": nearest_neighbour,
        "2-opt": lambda p: two_opt(p, nearest_neighbour(p)),
        "christofides": christofides,
        "christofides-2opt": lambda p: two_opt(p, christofides(p)),
    }
    chunk = max(1, MAX_ELEMENTS // (4 * points.shape[1] ** 2))
    return directed(
        points, torch.cat([solvers[solver](part) for part in torch.split(points, chunk)])
    )


def optimal_tours(points: Tensor) -> Tensor:
    """Shortest tours: Held-Karp for few cities, an integer programme beyond."""
    if points.shape[1] <= HELD_KARP_CITIES:
        return held_karp(points)
    return subtour_elimination(points)


def tour_lengths(points: Tensor, tours: Tensor) -> Tensor:
    """Euclidean lengths (N,) of the closed tours (N, n)."""
    ordered = points.gather(1, tours.unsqueeze(-1).expand(-1, -1, 2))
    edges = ordered - ordered.roll(-1, dims=1)
    lengths: Tensor = torch.linalg.vector_norm(edges, dim=-1).sum(dim=1)
    return lengths


def directed(points: Tensor, tours: Tensor) -> Tensor:
    """The same cycles from their lowest index, counter-clockwise (by the sign of their area)."""
    tours = from_lowest_index(tours)
    here = points.gather(1, tours.unsqueeze(-1).expand(-1, -1, 2)).double()
    there = here.roll(-1, dims=1)
    doubled = (here[..., 0] * there[..., 1] - here[..., 1] * there[..., 0]).sum(dim=1, keepdim=True)
    return torch.where(doubled >= 0, tours, from_lowest_index(tours.flip(1)))


def held_karp(points: Tensor) -> Tensor:
    """Dynamic programming over subsets (Held and Karp, 1962), O(2^n n^2) an instance."""
    chunk = max(1, HELD_KARP_ELEMENTS // (points.shape[1] << points.shape[1]))
    return torch.cat([_held_karp(part) for part in torch.split(points, chunk)])


def _held_karp(points: Tensor) -> Tensor:
    """``cost[s, j]``, (N,): the shortest path from city 0 through the set s that ends in j."""
    apart = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    distance = apart.permute(1, 2, 0).contiguous()  # instances last, side by side in memory
    others = points.shape[1] - 1
    cost = distance.new_full((1 << others, others, len(points)), float("inf"))
    for j in range(others):
        cost[1 << j, j] = distance[0, j + 1]
    sets = torch.arange(1 << others)
    sizes = sum((sets >> j) & 1 for j in range(others))
    for size in range(2, others + 1):
        for j in range(others):
            now = sets[(sizes == size) & ((sets >> j) & 1 == 1)]
            paths = cost[now ^ (1 << j)] + distance[1:, j + 1]
            cost[now, j] = paths.amin(dim=1)
    return _trace_back(cost, distance)


def _trace_back(cost: Tensor, distance: Tensor) -> Tensor:
    """Tours (N, n) from the table of path costs: each step redoes the minimum it came from."""
    rows = torch.arange(cost.shape[2])
    others = cost.shape[1]
    chosen = torch.full_like(rows, (1 << others) - 1)
    follower = torch.zeros_like(rows)
    tour = []
    for _ in range(others):
        last = (cost[chosen, :, rows] + distance[follower, 1:, rows]).argmin(dim=1)
        tour.append(last + 1)
        chosen, follower = chosen ^ (1 << last), last + 1
    return torch.stack([torch.zeros_like(rows), *reversed(tour)], dim=1)


def subtour_elimination(points: Tensor) -> Tensor:
    """Shortest tours by integer programming, cutting off subtours until none is left
    (Dantzig, Fulkerson and Johnson, 1954)."""
    return torch.stack([_branch_and_cut(p) for p in points.double().numpy()])


def _branch_and_cut(points: np.ndarray) -> Tensor:
    n = len(points)
    edges = np.array(list(combinations(range(n), 2)))
    length = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    columns = np.tile(np.arange(len(edges)), 2)
    incidence = coo_array((np.ones(2 * len(edges)), (edges.T.ravel(), columns))).tocsr()
    constraints = [LinearConstraint(incidence, 2, 2)]
    while True:
        found = milp(length, constraints=constraints, integrality=1, bounds=Bounds(0, 1))
        if found.x is None:
            raise RuntimeError(f"the integer programme of a tour failed: {found.message}")
        used = edges[found.x > 0.5]
        graph = coo_array((np.ones(n), used.T), shape=(n, n))
        parts, part = connected_components(graph, directed=False)
        if parts == 1:
            return _walk(torch.from_numpy(used).unsqueeze(0), n)[0]
        for k in range(parts):
            inside = (part[edges] == k).all(axis=1)
            constraints.append(LinearConstraint(inside.astype(float), 0, (part == k).sum() - 1))


def _walk(edges: Tensor, n: int) -> Tensor:
    """Tours (N, n) from their n undirected edges (N, n, 2)."""
    rows = torch.arange(len(edges))
    linked = torch.zeros(len(edges), n, n, dtype=torch.bool)
    batch = rows.unsqueeze(1)
    linked[batch, edges[..., 0], edges[..., 1]] = True
    linked[batch, edges[..., 1], edges[..., 0]] = True
    here = torch.zeros_like(rows)
    tour = []
    for _ in range(n):
        tour.append(here)
        following = linked[rows, here].int().argmax(dim=1)
        linked[rows, here, following] = False
        linked[rows, following, here] = False
        here = following
    return torch.stack(tour, dim=1)


def nearest_neighbour(points: Tensor) -> Tensor:
    """Always on to the nearest city not yet visited, from city 0."""
    distance = torch.cdist(points, points)
    rows = torch.arange(len(points))
    here = torch.zeros_like(rows)
    tour = []
    for _ in range(points.shape[1]):
        tour.append(here)
        distance[rows, :, here] = float("inf")
        here = distance[rows, here].argmin(dim=1)
    return torch.stack(tour, dim=1)


def greedy_edge(points: Tensor) -> Tensor:
    """The shortest edge that neither closes a cycle too early nor gives a city a third edge,
    until the tour is closed."""
    count, n, _ = points.shape
    rows = torch.arange(count)
    distance = torch.cdist(points, points)
    fragment = torch.arange(n).expand(count, n).clone()
    degree = torch.zeros(count, n, dtype=torch.int64)
    edges = []
    for step in range(n):
        full = degree >= 2
        barred = full.unsqueeze(1) | full.unsqueeze(2)
        if step < n - 1:
            barred |= fragment.unsqueeze(1) == fragment.unsqueeze(2)
        else:  # the two ends of the one path left
            barred |= torch.eye(n, dtype=torch.bool)
        best = distance.masked_fill(barred, float("inf")).flatten(1).argmin(dim=1)
        a, b = best // n, best % n
        edges.append(torch.stack([a, b], dim=1))
        degree[rows, a] += 1
        degree[rows, b] += 1
        merged = fragment == fragment[rows, b].unsqueeze(1)
        fragment = torch.where(merged, fragment[rows, a].unsqueeze(1), fragment)
    return _walk(torch.stack(edges, dim=1), n)


def christofides(points: Tensor) -> Tensor:
    """Spanning tree plus matching of its odd nodes (Christofides, 1976), by networkx."""
    import networkx as nx

    tours = []
    for distance in torch.cdist(points.double(), points.double()):
        graph = nx.from_numpy_array(distance.numpy())
        tours.append(nx.approximation.christofides(graph)[:-1])
    return torch.tensor(tours)


def two_opt(points: Tensor, tours: Tensor) -> Tensor:
    """Reverse the segment that shortens the tour most, until none does."""
    distance = torch.cdist(points.double(), points.double())
    tours = tours.clone()
    active = torch.arange(len(tours))
    while len(active):
        changed, shorter = _best_reversal(distance[active], tours[active])
        active = active[shorter]
        tours[active] = changed[shorter]
    return tours


def _best_reversal(distance: Tensor, tours: Tensor) -> tuple[Tensor, Tensor]:
    """Tours after their best segment reversal, and whether it made each shorter."""
    n = tours.shape[1]
    batch = torch.arange(len(tours)).view(-1, 1, 1)
    ahead = tours.roll(-1, dims=1)
    apart = distance[batch, tours.unsqueeze(2), tours.unsqueeze(1)]
    apart_ahead = distance[batch, ahead.unsqueeze(2), ahead.unsqueeze(1)]
    edge = distance[batch[..., 0], tours, ahead]
    gain = edge.unsqueeze(2) + edge.unsqueeze(1) - apart - apart_ahead
    gain = gain.masked_fill(~torch.ones(n, n, dtype=torch.bool).triu(1), 0.0)
    best, place = gain.flatten(1).max(dim=1)
    i, j = (place // n).unsqueeze(1), (place % n).unsqueeze(1)
    position = torch.arange(n).unsqueeze(0)
    inside = (position > i) & (position <= j)
    return tours.gather(1, torch.where(inside, i + 1 + j - position, position)), best > 1e-9
