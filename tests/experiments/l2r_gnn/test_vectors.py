"""Drawn representations: what clusters and functions are for, and operations counted by hand."""

import pytest
import torch

pytest.importorskip("torch_geometric")

from experiments.l2r_gnn.vectors import Cost, Decorrelated, biased
from harness.procedures.base import Trial


def outcome(procedure, tmp_path, seed=50):
    found = procedure.run(Trial(seed, None, lambda: None, torch.device("cpu"), tmp_path))
    assert {*found.metrics, *found.series} == type(procedure).produces({})
    return found


def metrics(tmp_path, seed=50, **settings):
    found = outcome(Decorrelated(rows=150, rounds=25, **settings), tmp_path, seed).metrics
    return {name: float(value) for name, value in found.items()}


def test_v_goes_with_s_by_its_share_and_not_with_the_target_given_s():
    g = torch.Generator().manual_seed(0)
    z, y, of_v = biased(g, torch.tensor([0.0, 0.9]), 20_000)
    for share, part, target in zip((0.0, 0.9), z, y, strict=True):
        s, v = part[:, ~of_v], part[:, of_v]
        corr = torch.corrcoef(torch.cat([s, v], 1).T)
        assert float(corr[0, 1]) == pytest.approx(0.5, abs=0.03)
        assert float(corr[5, 6]) == pytest.approx(0.5, abs=0.05)
        assert float(corr[1, 6]) == pytest.approx(share / 8**0.5, abs=0.04)
        noise = target - s.sum(1) - 2 * (s[:, 0].square() - 1)
        assert float(torch.corrcoef(torch.stack([noise, v[:, 0]]))[0, 1].abs()) < 0.03


def test_stable_clusters_find_s_and_v_and_keep_the_sample(tmp_path):
    """Under the weights dependence goes; across clusters alone it costs far fewer examples."""
    kinds = ("stable", "all", "random")
    found = {kind: metrics(tmp_path, grouping=kind, covariance="weighted") for kind in kinds}
    assert found["stable"]["cluster_purity"] == 1 > found["random"]["cluster_purity"]
    assert found["stable"]["ess"] > found["all"]["ess"] + 0.1
    assert found["stable"]["dependence_left"] < 0.3


def test_linear_weights_leave_what_is_not_linear(tmp_path):
    found = {n: metrics(tmp_path, functions=n, covariance="weighted") for n in (0, 5)}
    assert found[5]["dependence_left"] < found[0]["dependence_left"]


def test_weights_of_other_rows_remove_nothing(tmp_path):
    own, other = (metrics(tmp_path, covariance="weighted", shuffled=s) for s in (False, True))
    assert own["ess"] == pytest.approx(other["ess"], rel=1e-4)
    assert other["dependence_left"] > own["dependence_left"] + 0.3


def test_equal_weights_change_nothing(tmp_path):
    found = metrics(tmp_path, equal=True)
    assert found["ess"] == 1 and found["dependence_left"] == pytest.approx(1)


def test_operations_are_counted_by_hand(tmp_path):
    """A step: one product of (rows, d n_f) by itself forward, two backward; and L_dec(1)."""
    found = outcome(Cost(sizes=(40, 80), width=4, batch=10, groups=2, repeats=1), tmp_path)
    rows = {"memory": [30, 30], "whole": [40, 80]}
    for name, count in rows.items():
        product = [2 * n * (4 * 5) ** 2 for n in count]
        correlation = [2 * (10 if name == "memory" else n) * 4**2 for n in count]
        expected = [(1 + 5 * 3) * p + c for p, c in zip(product, correlation, strict=True)]
        assert found.series[f"{name}_flops"].y == expected
    assert found.metrics["memory_exponent"].value == pytest.approx(0, abs=1e-9)
    assert found.metrics["whole_exponent"].value == pytest.approx(1)
