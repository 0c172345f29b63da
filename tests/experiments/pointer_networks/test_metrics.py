import pytest
import torch

from experiments.pointer_networks.data import draw, with_end
from experiments.pointer_networks.geometry import convex_hulls, triangulations
from experiments.pointer_networks.metrics import (
    ExactlyRight,
    are_tours,
    measure,
    same_cycle,
    same_triangulation,
    triangle_coverage,
)


def tokens(rows: list[list[int]], width: int = 8) -> torch.Tensor:
    return torch.tensor([row + [-1] * (width - len(row)) for row in rows])


@pytest.mark.parametrize(
    ("predicted", "same"),
    [
        ([2, 3, 5, 4], True),
        ([5, 4, 2, 3], True),  # from another start
        ([4, 5, 3, 2], True),  # the other way round
        ([2, 5, 3, 4], False),  # the same points, crossing
        ([2, 3, 5], False),
        ([2, 3, 5, 4, 1], False),
        ([2, 3, 5, 4, 2, 3, 5, 4], False),  # twice around
        ([], False),
    ],
)
def test_polygons_are_equal_whatever_their_start_and_direction(
    predicted: list[int], same: bool
) -> None:
    assert same_cycle(tokens([predicted]), tokens([[2, 3, 5, 4, 0]])).tolist() == [same]


def test_coverage_is_the_share_of_triangles_found() -> None:
    target = tokens([[1, 2, 3, 2, 3, 4, 1, 3, 5, 0]], width=10)
    cases = {
        (3, 1, 2, 5, 3, 1, 4, 3, 2): (1.0, True),  # in any order
        (1, 2, 3, 2, 3, 4): (2 / 3, False),
        (1, 2, 3, 1, 2, 3, 1, 2, 3): (1 / 3, False),  # one triangle three times
        (1, 2, 3, 2, 3, 4, 1, 3, 5, 1, 2, 5): (1.0, False),  # one too many
        (1, 2, 3, 2, 3, 4, 1, 3, 5, 1): (1.0, False),
        (1, 1, 3): (0.0, False),
        (): (0.0, False),
    }
    for predicted, (share, right) in cases.items():
        row = tokens([list(predicted)], width=12)
        assert triangle_coverage(row, target).item() == pytest.approx(share)
        assert same_triangulation(row, target).item() is right


def test_a_tour_visits_every_point_of_its_instance_once() -> None:
    predicted = tokens([[1, 3, 2], [1, 3, 2, 4], [1, 2, 2], [1, 2], [3, 2, 1, 4, 4]])
    lengths = torch.tensor([3, 3, 3, 3, 4])
    assert are_tours(predicted, lengths).tolist() == [True, False, False, False, False]


def test_right_answers_are_perfect_and_answers_to_other_instances_are_not() -> None:
    for task, label in (("hull", convex_hulls), ("delaunay", _flat)):
        split = draw([8], 300, label, seed=0)
        y = split.columns["y"]
        right = measure(task, split.columns, y)  # type: ignore[arg-type]
        wrong = measure(task, split.columns, y.roll(1, 0))  # type: ignore[arg-type]
        assert right["accuracy"].all()
        assert wrong["accuracy"].double().mean() < 0.1
        shares = {"hull": "area", "delaunay": "coverage"}[task]
        assert right[shares].double().mean().item() == pytest.approx(1.0)
        assert wrong[shares].double().mean() < 0.95
        if task == "hull":
            assert not right["not_simple"].any() and wrong["not_simple"].any()


def _flat(points: torch.Tensor) -> torch.Tensor:
    return triangulations(points).flatten(1)


def test_area_leaves_out_what_is_no_simple_polygon() -> None:
    square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    y = tokens([[1, 2, 3, 4, 0]] * 3)
    predicted = tokens([[1, 2, 3, 4], [1, 2, 3], [1, 3, 2, 4]])
    found = measure("hull", {"points": square.expand(3, -1, -1), "y": y}, predicted)
    assert found["area"].tolist() == pytest.approx([1.0, 0.5])
    assert found["not_simple"].tolist() == [False, False, True]


def test_accuracy_apart_for_hulls_that_come_early_and_late() -> None:
    points = torch.rand(2, 6, 2)
    y = tokens([[1, 2, 3, 0], [4, 5, 6, 0]])
    found = measure("hull", {"points": points, "y": y}, tokens([[1, 2, 3], [4, 5, 3]]))
    assert found["accuracy_early"].tolist() == [True]
    assert found["accuracy_late"].tolist() == [False]


def test_tour_lengths_leave_out_what_is_no_tour() -> None:
    square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    y = with_end(torch.tensor([[0, 1, 2, 3]] * 3))
    predicted = tokens([[2, 1, 4, 3], [1, 3, 2, 4], [1, 2, 3]])
    found = measure("tsp", {"points": square.expand(3, -1, -1), "y": y}, predicted)
    assert found["valid"].tolist() == [True, True, False]
    assert found["length"].tolist() == pytest.approx([4, 2 + 2 * 2**0.5])
    assert found["ratio"].tolist() == pytest.approx([1, (1 + 2**0.5) / 2])
    assert found["accuracy"].tolist() == [True, False, False]
    assert found["teacher_length"].tolist() == pytest.approx([4, 4, 4])


def test_share_of_right_answers_accumulates_over_batches() -> None:
    metric = ExactlyRight("hull")
    y = tokens([[1, 2, 3, 0]])
    metric.update(tokens([[2, 3, 1]]), y)
    metric.update(tokens([[1, 2, 4]] * 3), y.expand(3, -1))
    assert metric.compute().item() == pytest.approx(0.25)
