"""The procedures without training: the limit's figures and the authors' logs."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from experiments.exact_permutations.data import Curve, OfficialLogs, official_logs
from experiments.exact_permutations.limit import moments, required_size
from experiments.exact_permutations.theory import (
    Limit,
    OfficialRuns,
    expected_error,
    geometric_mean,
    size_series,
)
from harness.judging.quantities import fit_slope
from harness.procedures.base import Trial


def trial(data: object = None) -> Trial:
    return Trial(0, data, nn.Identity, torch.device("cpu"), Path())


def test_limit_reports_what_it_says() -> None:
    for arguments in ({}, {"missing": 1}, {"parametrization": "standard", "lengths": [5, 6]}):
        outcome = Limit(**arguments, exhaustive=5).run(trial())
        assert {*outcome.metrics, *outcome.series} == Limit.produces(arguments)


def test_signs_are_lost_only_when_a_basis_vector_is_missing() -> None:
    def share(**arguments) -> float:
        return Limit(**arguments, exhaustive=8).run(trial()).metrics["sign_agreement"].value

    assert share() == share(parametrization="standard") == 1
    # An input is right when it does not contain the missing vector and nothing else is wrong.
    assert share(missing=1) < 0.5


def test_bounds_grow_as_stated_only_when_rounded_at_zero() -> None:
    at_zero, midpoint = (Limit(threshold=t).run(trial()).series for t in ("zero", "midpoint"))
    assert fit_slope(at_zero["bound_all"], "log-log").value == pytest.approx(2, abs=0.1)
    assert fit_slope(midpoint["bound_all"], "log-log").value == pytest.approx(1, abs=0.1)


def test_a_bound_for_all_inputs_is_not_linearithmic() -> None:
    one, every = (Limit(all_inputs=a).run(trial()).series for a in (False, True))
    assert fit_slope(one["bound_one_per_klogk"], "log-log").value < 0
    assert fit_slope(every["bound_one_per_klogk"], "log-log").value > 0.5


def test_figure_bound_is_the_tangent_kernels_not_the_random_features() -> None:
    assert Limit().run(trial()).metrics["bound_deviation"].value < 0.01
    assert Limit("standard").run(trial()).metrics["bound_deviation"].value > 0.5


def made_logs(parametrization: str) -> OfficialLogs:
    """What the logs would hold if sizes and errors were exactly the limit's."""
    to_90 = {}
    for k in range(2, 20):
        size = required_size(k, 0.9, parametrization) if k > 2 else 1
        at = moments(k, 2, parametrization)
        draws = np.random.default_rng(k).normal(size=(400, k)) * math.sqrt(at.variance / size)
        means = np.where(np.arange(k) < 2, at.on, at.off)
        target = np.where(np.arange(k) < 2, 1 / math.sqrt(2), 0)
        error = float(((means + draws - target) ** 2).mean())
        to_90[k] = Curve(np.full(size, error), np.linspace(0, 0.9, size))
    to_999 = {k: Curve(np.zeros(300), np.linspace(0, 1, 300) / k) for k in (2, 5, 10, 15)}
    return OfficialLogs(to_90, to_999)


@pytest.mark.parametrize(
    ("parametrization", "name"), [("ntk", "ntk"), ("standard", "random_features")]
)
def test_logs_are_told_apart_by_size_and_error(parametrization, name) -> None:
    outcome = OfficialRuns().run(trial(made_logs(parametrization)))
    assert {*outcome.metrics, *outcome.series} == OfficialRuns.produces({})
    other = {"ntk": "random_features", "random_features": "ntk"}[name]
    assert outcome.metrics[f"size_over_{name}"].value == pytest.approx(1)
    assert outcome.metrics[f"error_over_{name}"].value == pytest.approx(1, abs=0.03)
    for measured in ("size", "error"):
        assert not 0.67 < outcome.metrics[f"{measured}_over_{other}"].value < 1.5


def test_lengths_below_the_shortest_have_no_say_in_the_ratios() -> None:
    logs = made_logs("ntk")
    spoilt = {k: logs.to_90[19] if k < 6 else curve for k, curve in logs.to_90.items()}
    found = OfficialRuns(shortest=6).run(trial(OfficialLogs(spoilt, logs.to_999)))
    assert found.metrics["size_over_ntk"].value == pytest.approx(1)
    assert found.series["ensemble_size"].x == list(range(6, 20))


def test_expected_error_of_a_hand_computed_case() -> None:
    at = moments(3, 2)
    bias = (2 * (float(at.on) - 0.5**0.5) ** 2 + float(at.off) ** 2) / 3
    found = expected_error(3, Curve(np.zeros(7), np.zeros(7)), "ntk")
    assert found == pytest.approx(bias + float(at.variance) / 7)


def test_geometric_mean_and_its_error() -> None:
    found = geometric_mean([0.5, 2.0, 1.0])
    assert found.value == pytest.approx(1)
    assert found.stderr == pytest.approx(math.log(2) / math.sqrt(3))
    assert geometric_mean([3.0]).stderr is None


def test_linearithmic_sizes_are_flat_per_k_log_k() -> None:
    series = size_series("n", {k: 3 * k * math.log(k) for k in (5, 10, 20)})
    assert series["n_per_klogk"].y == pytest.approx([3, 3, 3])


def write(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_logs_are_read_by_length(tmp_path: Path) -> None:
    write(tmp_path / "experiment_1", "k10.csv", "1,0.5,0.25\n2,0.25,0.95\n")
    write(tmp_path / "experiment_1", "k9.csv", "1,0.5,1.0\n")
    write(tmp_path / "experiment_2", "k9.csv", "1,0.5,1.0\n")
    logs = official_logs(tmp_path)
    assert list(logs.to_90) == [9, 10]
    assert logs.to_90[10].size == 2
    assert logs.to_90[10].error.tolist() == [0.5, 0.25]


def test_what_is_not_a_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        official_logs(tmp_path)
    write(tmp_path / "experiment_1", "k9.csv", "2,0.5,1.0\n")
    with pytest.raises(ValueError, match=r"k9\.csv"):
        official_logs(tmp_path)
