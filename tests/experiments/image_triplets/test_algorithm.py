"""The released search on random features, and sizes."""

import numpy as np
import pytest
import torch

from experiments.image_triplets.algorithm import Search, Size, used_again
from experiments.image_triplets.search import Triplets
from harness.procedures.base import Trial


def measured(tmp_path, seed=0, **settings):
    nothing = torch.nn.Identity
    return Search(**settings).run(Trial(seed, None, nothing, torch.device("cpu"), tmp_path)).metrics


def test_invariants_hold_and_levels_are_as_correlated_as_told(tmp_path):
    found = measured(tmp_path, images=500, tables=1)
    assert found["off_target"] <= 0.01 and found["used_again"] == 0
    assert found["natural_correlation"] == pytest.approx(0.5, abs=0.08)  # (s² / (1 + s²))²
    assert set(found) == Search.produces({})
    assert 0.05 < found["filled"] < 1
    apart = measured(tmp_path, images=500, tables=1, shared=0.0)
    assert abs(apart["natural_correlation"]) < 0.06 and abs(apart["searched_correlation"]) < 0.3


def test_signs_that_are_the_same_leave_levels_correlated(tmp_path):
    settings = {"images": 500, "tables": 1, "shared": 0.0}
    same = measured(tmp_path, **settings, signs="same")
    assert same["positive"] == 1
    assert same["searched_correlation"] > 0.5
    assert abs(measured(tmp_path, **settings)["positive"] - 0.5) < 0.25


def test_balanced_triplets_are_uncorrelated_where_the_found_ones_are_not(tmp_path):
    found = measured(tmp_path, images=1500, tables=2)
    assert abs(found["balanced_correlation"]) < 0.05 < found["searched_correlation"]


def test_images_that_come_again_are_counted():
    rows = np.array([[0, 1, 2], [3, 4, 5], [6, 1, 0]])
    assert used_again(Triplets(*rows.T, np.ones((3, 2), int))) == 2


def test_size_counts_the_models_weights(tmp_path):
    model = lambda: torch.nn.Linear(3, 4)  # noqa: E731
    outcome = Size().run(Trial(0, None, model, torch.device("cpu"), tmp_path))
    assert outcome.metrics["parameters"].value == 16 and outcome.metrics["parameters"].exact
