"""Batched networks, their training, and the averages over them."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from experiments.exact_permutations import procedure
from experiments.exact_permutations.limit import moments
from experiments.exact_permutations.model import NetworkEnsemble, NotConverged, train
from experiments.exact_permutations.procedure import Ensembles, Widths
from experiments.exact_permutations.task import (
    Task,
    accuracy_curves,
    first_reached,
    inputs_with_several_ones,
    output_moments,
    pairs,
    permutations,
)
from harness.procedures.base import Progress, Trial
from harness.procedures.checkpoints import Checkpoints, Stopped

CPU = torch.device("cpu")


def trial(seed: int = 0) -> Trial:
    return Trial(seed, None, nn.Identity, CPU, Path())


def test_standard_members_are_the_torch_network_they_stand_for() -> None:
    torch.manual_seed(0)
    ensemble = NetworkEnsemble(3, 4, 16, "standard", bias=True)
    target = permutations(1, 4)[0]
    twin = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 4))
    with torch.no_grad():
        twin[0].weight.copy_(ensemble.first[1].T)
        twin[2].weight.copy_(ensemble.second[1].T)
        twin[0].bias.zero_()
        twin[2].bias.zero_()
    optimizer = torch.optim.SGD(twin.parameters(), lr=1e-3)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.mse_loss(twin(torch.eye(4)), target).backward()
        optimizer.step()
    with pytest.raises(NotConverged):  # 20 steps are not enough, but they have been taken
        train(ensemble, target, learning_rate=1e-3, max_steps=20, tolerance=1e-9)
    x = torch.rand(5, 4)
    assert torch.allclose(ensemble(x)[1], twin(x), atol=1e-6)
    assert not torch.allclose(ensemble(x)[0], twin(x), atol=1e-2)


def test_parametrisations_are_one_function_with_different_gradients() -> None:
    ntk, standard = NetworkEnsemble(2, 3, 50, "ntk"), NetworkEnsemble(2, 3, 50, "standard")
    with torch.no_grad():
        standard.first.copy_(ntk.first / 3**0.5)
        standard.second.copy_(ntk.second / 50**0.5)
    x = torch.rand(7, 3)
    assert torch.allclose(ntk(x), standard(x), atol=1e-6)
    for ensemble in (ntk, standard):
        ensemble(x).square().sum().backward()
    assert torch.allclose(ntk.second.grad * 50**0.5, standard.second.grad, rtol=1e-4)
    assert torch.allclose(ntk.first.grad * 3**0.5, standard.first.grad, rtol=1e-4)


@pytest.mark.parametrize("parametrization", ["ntk", "standard"])
def test_trained_members_fit_their_own_permutations(parametrization) -> None:
    torch.manual_seed(1)
    ensemble = NetworkEnsemble(4, 6, 256, parametrization)
    targets = permutations(4, 6)
    trained = train(ensemble, targets)
    assert trained.residual <= 1e-5 and 0 < trained.steps < 1000
    assert torch.allclose(ensemble(torch.eye(6)), targets, atol=1e-4)


@pytest.mark.parametrize(("parametrization", "bias"), [("ntk", False), ("standard", True)])
def test_outputs_on_the_basis_need_no_inputs(parametrization, bias) -> None:
    ensemble = NetworkEnsemble(3, 5, 40, parametrization, bias)
    for parameter in ensemble.parameters():
        nn.init.normal_(parameter)
    assert torch.allclose(ensemble.on_basis(), ensemble(torch.eye(5)), atol=1e-5)


def test_a_step_beyond_the_stable_size_is_an_error_not_a_result() -> None:
    torch.manual_seed(2)
    ensemble = NetworkEnsemble(2, 3, 4096, "standard")
    # Stable up to 9 * 3 / (rate * width * 0.818): a rate of 8e-3 here, of 1e-3 at 33,000 units.
    with pytest.raises(NotConverged):
        train(ensemble, torch.eye(3), learning_rate=2e-2, max_steps=50)


def test_biases_are_refused_in_the_theorys_parametrisation() -> None:
    with pytest.raises(ValueError, match="biases"):
        NetworkEnsemble(1, 3, 8, "ntk", bias=True)


@pytest.mark.parametrize("parametrization", ["ntk", "standard"])
def test_trained_outputs_have_their_limits_moments(parametrization) -> None:
    """Four standard errors, plus what is left at this width (it falls as one over its root)."""
    task, outputs = trained(parametrization, members=600, width=2048)
    found, at = output_moments(outputs, task), moments(4, 2, parametrization)
    for name, expected in (("mean_on", at.on), ("mean_off", at.off)):
        allowed = 4 * (found[name].stderr or 0) + 0.3 / np.sqrt(2048)
        assert abs(found[name].value - float(expected)) < allowed
    assert found["variance"].value == pytest.approx(float(at.variance), rel=0.1)
    other = moments(4, 2, "standard" if parametrization == "ntk" else "ntk")
    assert abs(found["mean_on"].value - float(other.on)) > 4 * (found["mean_on"].stderr or 0)


def trained(parametrization, members: int, width: int) -> tuple[Task, torch.Tensor]:
    torch.manual_seed(3)
    task = Task(4, True, 100, CPU)
    ensemble = NetworkEnsemble(members, 4, width, parametrization)
    train(ensemble, task.permutation)
    with torch.no_grad():
        return task, ensemble(task.inputs)


def test_inputs_are_all_unseen_ones_and_all_pairs() -> None:
    everything = inputs_with_several_ones(6)
    assert len(np.unique(everything, axis=0)) == 2**6 - 1 - 6
    assert everything.sum(axis=1).min() == 2
    assert len(np.unique(pairs(6), axis=0)) == 15
    assert (pairs(6).sum(axis=1) == 2).all()


def test_permutations_are_permutations_and_uniform() -> None:
    torch.manual_seed(4)
    drawn = permutations(6000, 3)
    assert (drawn.sum(dim=1) == 1).all() and (drawn.sum(dim=2) == 1).all()
    counts = torch.unique(drawn.flatten(1), dim=0, return_counts=True)[1]
    assert len(counts) == 6
    assert counts.min() > 850


def test_labels_are_the_permuted_inputs() -> None:
    torch.manual_seed(5)
    task = Task(5, True, 50, CPU)
    image = task.permutation.argmax(dim=1)
    for x, label in zip(task.inputs > 0, task.labels, strict=True):
        assert set(image[x].tolist()) == set(label.nonzero().squeeze(1).tolist())
    assert task.drawn.sum() == pytest.approx(1)
    assert (task.drawn[~task.pairs] == 0).all()


def test_accuracy_curve_is_that_of_running_means() -> None:
    torch.manual_seed(6)
    task = Task(3, True, 20, CPU)
    outputs = torch.randn(130, len(task.inputs), 3) + (task.labels.float() - 0.5)
    drawn, everywhere = accuracy_curves(outputs, task)
    for size in (1, 64, 65, 130):
        right = ((outputs[:size].double().mean(0) > 0) == task.labels).all(dim=1).double()
        assert everywhere[size - 1] == pytest.approx(float(right.mean()))
        assert drawn[size - 1] == pytest.approx(float(right @ task.drawn))


def test_output_moments_of_gaussians() -> None:
    torch.manual_seed(7)
    task = Task(4, False, 20, CPU)
    means = torch.where(task.labels, 0.6, -0.1)
    found = output_moments(means + 0.2 * torch.randn(20_000, *means.shape), task)
    assert found["mean_on"].value == pytest.approx(0.6, abs=4 * (found["mean_on"].stderr or 0))
    assert found["mean_off"].value == pytest.approx(-0.1, abs=4 * (found["mean_off"].stderr or 0))
    assert found["variance"].value == pytest.approx(0.04, rel=0.02)
    assert found["excess_kurtosis"].value == pytest.approx(0, abs=0.05)


def test_a_network_counts_once_in_the_error_of_a_mean() -> None:
    """Where all its outputs are alike there are as many independent ones as networks."""
    torch.manual_seed(8)
    task, each = Task(4, False, 20, CPU), torch.randn(400, 1, 1)
    found = output_moments(each.expand(-1, *task.labels.shape), task)
    for name in ("mean_on", "mean_off"):
        assert found[name].stderr == pytest.approx(float(each.double().std()) / 20)


def test_first_reached_counts_from_one_and_refuses_to_guess() -> None:
    assert first_reached(np.array([0.2, 0.9, 0.5, 1.0]), 0.9) == 2
    with pytest.raises(RuntimeError, match=r"0\.950"):
        first_reached(np.array([0.2, 0.95]), 0.999)


SMALL = {
    "parametrization": "ntk",
    "lengths": [3, 4],
    "members": [120, 120],
    "width": 64,
    "targets": {"ensemble_size": 0.3, "all_inputs_size": 0.3},
    "exhaustive": 3,
    "probe": 10,
}


def test_ensembles_report_what_they_say_and_repeat_themselves() -> None:
    first, again = (Ensembles(**SMALL).run(trial(5)) for _ in range(2))
    assert first == again
    assert {*first.metrics, *first.series} == Ensembles.produces(SMALL)
    assert Ensembles(**SMALL).run(trial(6)) != first


def test_the_size_for_all_inputs_is_where_the_curve_over_all_inputs_is(monkeypatch) -> None:
    steps = np.arange(1, 21)
    curves = (steps >= 3) * 1.0, (steps >= 7) * 1.0
    monkeypatch.setattr(procedure, "accuracy_curves", lambda outputs, task: curves)
    found = Ensembles(**SMALL | {"lengths": [3], "members": [20]}).run(trial()).metrics
    assert (found["ensemble_size_k3"], found["all_inputs_size_k3"]) == (3, 7)


def test_no_two_networks_of_an_ensemble_are_the_same(monkeypatch) -> None:
    seen: list[torch.Tensor] = []

    def watched(outputs: torch.Tensor, task: Task) -> tuple[np.ndarray, np.ndarray]:
        seen.append(outputs)
        return accuracy_curves(outputs, task)

    monkeypatch.setattr(procedure, "accuracy_curves", watched)
    Ensembles("ntk", [4], [40], 32, batch=16).run(trial())
    assert [len(outputs[:, 0, 0].unique()) for outputs in seen] == [40]


def test_an_interrupted_trial_goes_on_and_ends_in_the_same_figures(tmp_path) -> None:
    widths = Widths(4, [16, 32], members=100)
    asked = iter([False] * 20)  # 7 batches a width, and each asks twice
    kept = Checkpoints(tmp_path, every=0.0, stopping=lambda: next(asked, True))
    with pytest.raises(Stopped):
        widths.run(replace(trial(), checkpoints=kept))
    told: list[Progress] = []
    again = Checkpoints(tmp_path, every=0.0)
    resumed = widths.run(replace(trial(), checkpoints=again, report=told.append))
    assert len(told) < 7  # the first width is not trained again, nor what was done of the second
    assert resumed == widths.run(trial())
    assert resumed.samples > 10 * 4 * 200  # some 30 steps on 4 vectors, all 200 networks counted


def test_networks_with_their_own_permutations_do_not_average_to_one() -> None:
    arguments = {"parametrization": "ntk", "lengths": [5], "members": [300], "width": 128}
    shared = Ensembles(**arguments).run(trial()).metrics["accuracy_k5"]
    apart = Ensembles(**arguments, shared_permutation=False).run(trial()).metrics["accuracy_k5"]
    assert shared > apart + 0.5


def test_distance_to_the_limit_shrinks_with_width() -> None:
    arguments = {"length": 4, "widths": [16, 64, 1024], "members": 300}
    series = Widths(**arguments).run(trial()).series["distance_to_limit"]
    assert all(wide < narrow for narrow, wide in pairwise(series.y))


def test_ordinary_layers_stay_away_from_the_tangent_kernels_limit() -> None:
    widths = Widths(4, [64, 256], members=200, parametrization="standard")
    narrow, wide = widths.run(trial()).series["distance_to_limit"].y
    assert wide > 0.7 * narrow > 0.01


def test_members_must_cover_lengths_and_probe() -> None:
    with pytest.raises(ValueError, match="as many members"):
        Ensembles("ntk", [3, 4], [100], 8)
    with pytest.raises(ValueError, match="probe"):
        Ensembles("ntk", [3], [10], 8)
