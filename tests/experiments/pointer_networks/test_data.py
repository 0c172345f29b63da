import zipfile
from pathlib import Path

import pytest
import torch

from experiments.pointer_networks.data import (
    convex_hull,
    delaunay,
    official,
    read_instances,
    tsp,
    tsplib,
    with_end,
)
from experiments.pointer_networks.geometry import convex_hulls
from experiments.pointer_networks.metrics import measure
from experiments.pointer_networks.tours import solve, tour_lengths

HULL = "0.1 0.1 0.9 0.1 0.5 0.4 0.5 0.9 output 2 4 1 2\n"
TRIANGLE = "0 0 1 0 0 1 output 1 2 3 1\n"


def test_targets_end_once_and_are_padded() -> None:
    indices = torch.tensor([[0, 3, 1], [2, 1, -1]])
    assert with_end(indices).tolist() == [[1, 4, 2, 0], [3, 2, 0, -1]]


def test_numbers_of_points_are_spread_evenly_and_padded() -> None:
    split = convex_hull([5, 8], train_size=403, test_size=10).train
    batch = split[torch.arange(403)]
    assert batch["lengths"].bincount().tolist() == [0] * 5 + [101, 101, 101, 100]
    beyond = torch.arange(8) >= batch["lengths"].unsqueeze(1)
    assert not batch["points"][beyond].any()
    assert (batch["y"].amax(dim=1) <= batch["lengths"]).all()
    assert _right(batch).all()


def _right(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Whether each target is the hull of its own points."""
    out = []
    for p, n, y in zip(batch["points"], batch["lengths"].tolist(), batch["y"], strict=True):
        hull = with_end(convex_hulls(p[:n].unsqueeze(0)))
        out.append(measure("hull", {"points": p[None], "y": hull}, y[None])["accuracy"])
    return torch.cat(out)


def test_training_and_test_sets_and_seeds_differ() -> None:
    rows = torch.arange(20)
    first, second = (convex_hull([5], train_size=20, test_size=20, seed=s) for s in (0, 1))
    points = [p[rows]["points"] for p in (first.train, first.test, second.train, second.test)]
    for i, a in enumerate(points):
        assert not any(torch.isin(a, b).all() for b in points[:i])
    again = convex_hull([5], train_size=20, test_size=20)
    assert torch.equal(again.train[rows]["y"], first.train[rows]["y"])
    assert torch.equal(first.at(5)[rows]["points"], first.test[rows]["points"])


def test_shuffled_targets_belong_to_other_instances_with_as_many_points() -> None:
    problem = convex_hull([5, 9], train_size=500, test_size=100, shuffled=True)
    batch = problem.train[torch.arange(500)]
    assert (batch["y"].amax(dim=1) <= batch["lengths"]).all()
    assert _right(batch).double().mean() < 0.1
    test = problem.test[torch.arange(100)]
    assert _right(test | {"lengths": torch.full((100,), 9)}).all()


def test_teacher_and_test_labels_may_come_from_different_solvers() -> None:
    problem = tsp([9], labels="nearest-neighbour", train_size=50, test_size=50)
    train, test = problem.train[torch.arange(50)], problem.test[torch.arange(50)]
    taught, shown = (tour_lengths(s["points"], s["y"][:, :9] - 1) for s in (train, test))
    nearest, optimal = (
        tour_lengths(train["points"], solve(train["points"], name))
        for name in ("nearest-neighbour", "exact")
    )
    assert taught.tolist() == pytest.approx(nearest.tolist())
    assert taught.mean() > optimal.mean() + 0.1
    exact = tour_lengths(test["points"], solve(test["points"], "exact"))
    assert shown.tolist() == pytest.approx(exact.tolist())


def test_triangulations_are_flat_triples() -> None:
    batch = delaunay([6], train_size=10, test_size=10).train[torch.arange(10)]
    assert (((batch["y"] > 0).sum(dim=1)) % 3 == 0).all()


@pytest.mark.parametrize("points", [[2], [], [6, 5], [5, 6, 7]])
def test_a_range_of_points_needs_two_ends_in_order(points: list[int]) -> None:
    with pytest.raises((ValueError, IndexError)):
        convex_hull(points)


def test_the_paper_s_files_become_our_target_form(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(HULL + "\n" + TRIANGLE)
    with zipfile.ZipFile(tmp_path / "test.zip", "w") as archive:
        archive.writestr("b.txt", TRIANGLE)
        archive.writestr("a.txt", TRIANGLE)
    problem = official(tmp_path, "hull", ["train.txt"], {3: "test.zip"}, main=3)
    batch = problem.train[torch.arange(2)]
    assert batch["lengths"].tolist() == [4, 3]
    assert batch["y"].tolist() == [[1, 2, 4, 0], [1, 2, 3, 0]]
    assert batch["points"][0, 3].tolist() == pytest.approx([0.5, 0.9])
    assert len(problem.test) == 2 and problem.dims == {"points": 4}


def test_tours_of_the_paper_s_files_take_our_direction(tmp_path: Path) -> None:
    (tmp_path / "tsp.txt").write_text("0 0 1 0 1 1 0 1 output 1 4 3 2 1\n")
    problem = official(tmp_path, "tsp", ["tsp.txt"], {4: "tsp.txt"}, main=4)
    assert problem.train[torch.arange(1)]["y"].tolist() == [[1, 2, 3, 4, 0]]


@pytest.mark.parametrize(
    "line", ["0 0 1 1\n", "0 0 1 output 1 2\n", "0 0 1 1 output 1 3\n", "0 x output 1\n"]
)
def test_a_line_of_another_form_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "bad.txt").write_text(TRIANGLE + line)
    with pytest.raises(ValueError, match="line 2"):
        list(read_instances(tmp_path / "bad.txt"))


def test_tsplib_is_scaled_into_the_unit_square_without_geographical_instances(
    tmp_path: Path,
) -> None:
    header = "NAME : {}\nEDGE_WEIGHT_TYPE : {}\nNODE_COORD_SECTION\n"
    square = "1 10 10\n2 30 1.1e+01\n3 30 30\n4 10 30\nEOF\n"
    (tmp_path / "square4.tsp").write_text(header.format("square4", "EUC_2D") + square)
    (tmp_path / "globe4.tsp").write_text(header.format("globe4", "GEO") + square)
    (tmp_path / "solutions").write_text("globe4 : 9\nsquare4 : 80\n")
    test = tsplib(tmp_path, [5], train_size=4).test
    batch = test[torch.arange(len(test))]
    assert len(test) == 1
    assert batch["points"].amin() == 0 and batch["points"].amax() == 1
    assert batch["optimum"].tolist() == pytest.approx([4.0])
    assert measure("tsp", batch, batch["y"])["ratio"].item() == pytest.approx(1, abs=0.02)
