from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.pointer_networks.data import Problem, convex_hull, delaunay, tsp
from experiments.pointer_networks.model import PointerNetwork
from experiments.pointer_networks.procedure import Pointing, Solve, longest_output
from experiments.pointer_networks.search import beam_search
from experiments.pointer_networks.tours import tour_lengths
from harness.procedures.base import Outcome, Trial
from harness.procedures.recipe import At

SETTINGS: dict[str, Any] = {"batch_size": 32, "clip_norm": 2.0}


def trial(data: Problem, folder: Path) -> Trial:
    return Trial(
        seed=0,
        data=data,
        model=lambda: PointerNetwork(hidden=32),
        device=torch.device("cpu"),
        workdir=folder,
    )


def value(outcome: Outcome, name: str) -> float:
    found = outcome.metrics[name]
    return found if isinstance(found, float) else found.value  # type: ignore[union-attr]


def test_training_lowers_the_loss_and_every_named_metric_is_measured(tmp_path: Path) -> None:
    data = convex_hull([4, 5], train_size=1600, test_size=100)
    adam = lambda parameters: torch.optim.Adam(parameters, lr=0.02)  # noqa: E731
    arguments = {"task": "hull", "test_points": [4, 7], "constraint": "polygon"}
    procedure = Pointing(**arguments, optimizer=adam, epochs=2, **SETTINGS)
    outcome = procedure.run(trial(data, tmp_path))
    losses = outcome.series["train_loss"].y
    assert losses[-1] < losses[0]
    produced = Pointing.produces(arguments)
    assert produced == set(outcome.metrics) | set(outcome.series)
    assert outcome.series["area_by_points"].x == [4, 7]
    assert value(outcome, "area_at_7") == outcome.series["area_by_points"].y[1]


def test_metrics_come_from_the_trained_weights(tmp_path: Path) -> None:
    data = convex_hull([5], train_size=64, test_size=200)
    procedure = Pointing(task="hull", epochs=1, **SETTINGS)
    outcome = procedure.run(trial(data, tmp_path))
    # Without further beams, the last point of the greedy curve and the metric are one thing.
    assert value(outcome, "accuracy") == pytest.approx(outcome.series["accuracy"].y[-1])


def test_an_untrained_network_s_tours_are_valid_but_long(tmp_path: Path) -> None:
    data = tsp([7], train_size=32, test_size=200)
    procedure = Pointing(task="tsp", constraint="tour", beams=2, epochs=1, **SETTINGS)
    outcome = procedure.run(trial(data, tmp_path))
    assert value(outcome, "valid") == 1
    assert value(outcome, "ratio") > 1.15
    assert value(outcome, "excess") > 0.3


def test_every_test_set_is_its_own_and_decoded_by_beams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tsp([6], train_size=40, test_size=30)
    widths = []

    def noted(*args: Any, width: int, **settings: Any) -> torch.Tensor:
        widths.append(width)
        return beam_search(*args, width=width, **settings)

    monkeypatch.setattr("experiments.pointer_networks.procedure.beam_search", noted)
    arguments = {"task": "tsp", "constraint": "tour", "test_points": [5]}
    procedure = Pointing(**arguments, beams=3, epochs=1, **SETTINGS)  # type: ignore[arg-type]
    outcome = procedure.run(trial(data, tmp_path))
    for name, n, split in (
        ("teacher_length", 6, data.test),
        ("teacher_length_at_5", 5, data.at(5)),
    ):
        batch = split[torch.arange(30)]
        lengths = tour_lengths(batch["points"], batch["y"][:, :n] - 1)
        assert value(outcome, name) == pytest.approx(lengths.mean().item(), rel=1e-5)
    assert widths[-2:] == [3, 3] and 1 in widths, "greedy decoding is for the curve alone"


def test_other_searches_decode_the_same_network(tmp_path: Path) -> None:
    data = tsp([6], train_size=32, test_size=100)
    arguments = {"task": "tsp", "constraint": "tour", "searches": ["free", "renormalised"]}
    arguments |= {"test_points": [5]}
    procedure = Pointing(**arguments, beams=3, epochs=1, **SETTINGS)
    outcome = procedure.run(trial(data, tmp_path))
    assert value(outcome, "valid_renormalised") == 1 == value(outcome, "valid_renormalised_at_5")
    assert value(outcome, "valid_free") < 0.5, "an untrained network makes no tours by itself"
    found = set(outcome.metrics) | set(outcome.series)
    missing = Pointing.produces(arguments) - found
    assert missing <= Pointing.sometimes(arguments)
    assert found <= Pointing.produces(arguments)


def test_the_loss_of_an_unconditioned_network_is_that_of_guessing(tmp_path: Path) -> None:
    data = delaunay([5], train_size=8, test_size=8)
    network = PointerNetwork(hidden=4)
    torch.nn.init.zeros_(network.attention.v)
    at = At(seed=0, step=0, epoch=0, steps=1, epochs=1, device=torch.device("cpu"))
    loss = Pointing(task="delaunay").training_loss(network, data.train[torch.arange(8)], at)
    assert loss.item() == pytest.approx(torch.tensor(6.0).log().item(), rel=1e-5)


def test_exact_solutions_have_the_paper_s_mean_length(tmp_path: Path) -> None:
    outcome = Solve("exact").run(trial(tsp([5], test_size=4000), tmp_path))
    assert value(outcome, "length") == pytest.approx(2.12, abs=0.03)  # standard error 0.007
    assert value(outcome, "ratio") == pytest.approx(1)
    worse = Solve("nearest-neighbour").run(trial(tsp([5], test_size=400), tmp_path))
    assert value(worse, "ratio") > 1.03


def test_excess_is_over_greedy_edge_on_the_same_points(tmp_path: Path) -> None:
    data = tsp([8], test_size=200)
    found = {
        name: Solve(name).run(trial(data, tmp_path))  # type: ignore[arg-type]
        for name in ("greedy-edge", "exact")
    }
    assert value(found["greedy-edge"], "excess") == 0
    shorter = value(found["exact"], "length") - value(found["greedy-edge"], "length")
    assert value(found["exact"], "excess") == pytest.approx(shorter) and shorter < -0.05


def test_no_right_output_is_longer_than_decoding_goes_on() -> None:
    for n in (4, 5, 9):
        for task, problem in (("hull", convex_hull), ("delaunay", delaunay), ("tsp", tsp)):
            y = problem([n], train_size=300, test_size=1).train[torch.arange(300)]["y"]
            longest = int((y >= 0).sum(dim=1).max())
            assert longest <= longest_output(task, n)  # type: ignore[arg-type]
            if task != "hull":
                assert longest >= longest_output(task, n) - (3 if task == "delaunay" else 0)
