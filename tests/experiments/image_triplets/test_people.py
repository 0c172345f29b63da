"""What of people's choices is explained by either level, on objects whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from experiments.image_triplets import people
from experiments.image_triplets.data import Objects, factor_objects
from experiments.image_triplets.people import Effects, People, _effect_figures
from experiments.image_triplets.similarity import relabelled
from harness.procedures.base import Trial

SETTINGS = {"searches": 1, "tables": 6, "draws": 40, "natural": 4000, "permutations": 3}


def trial(data, tmp_path, seed=0):
    return Trial(seed, data, torch.nn.Identity, torch.device("cpu"), tmp_path)


def known(high_weight=1.0, low_weight=0.0, seed=0, count=70, people=8):
    """People who weigh the two levels as told; the levels share half of their features."""
    generator = np.random.default_rng(seed)
    both, one, other = generator.standard_normal((3, count, 10))
    high, low = (np.corrcoef(both + own) for own in (one, other))
    noise = generator.standard_normal((people, count, count))
    judged = -high_weight * high - low_weight * low + 0.2 * (noise + noise.swapaxes(1, 2))
    return Objects(np.zeros((count, 2, 2, 3), np.uint8), judged, {"it": high}, {"pixels": low})


def measured(data, tmp_path, **settings):
    return People(**(SETTINGS | settings)).run(trial(data, tmp_path)).metrics


def test_people_who_heed_one_level_are_told_from_those_who_heed_the_other(tmp_path):
    only_high = measured(known(1, 0), tmp_path)
    only_low = measured(known(0, 1), tmp_path)
    assert only_high["high"].value > 0.5 and only_low["low_pixels"].value > 0.5
    assert abs(only_high["low_pixels"].value) < 0.15 and abs(only_low["high"].value) < 0.15
    assert only_high["significant_images"].value == 0 and only_low["significant_images"].value == 1
    assert only_high["natural_correlation"].value > 0.2
    assert abs(only_high["balanced_correlation"].value) < 0.02


def test_people_who_shun_what_looks_alike_do_not_count_as_significant(tmp_path):
    found = measured(known(1, -1), tmp_path)
    assert found["low_pixels"].value < -0.5
    assert found["significant"].value == found["significant_images"].value == 0


@pytest.mark.parametrize("permuted", ["lows", "people"])
def test_shuffled_images_leave_no_effect_of_the_low_level(tmp_path, permuted):
    found = measured(known(1, 1), tmp_path, permuted=permuted, permutations=8)
    low, high = found["low_pixels"], found["high"]
    assert low.df == 7 and abs(low.value) < 3 * low.stderr < 0.5
    assert (high.value > 0.3) == (permuted == "lows")


def test_everybody_and_every_model_is_shuffled_alike(tmp_path, monkeypatch):
    orders = []

    def noted(matrix, order):
        orders.append((matrix.ndim, order.tolist()))
        return relabelled(matrix, order)

    monkeypatch.setattr(people, "relabelled", noted)
    data = known()
    data = replace(data, lows={"pixels": data.lows["pixels"], "colours": data.lows["pixels"]})
    found = measured(data, tmp_path, permuted="lows", permutations=2)
    assert [ndim for ndim, _ in orders] == [2] * 4
    assert orders[0] == orders[1] != orders[2] == orders[3]
    assert set(found) <= People.produces({"permuted": "lows"}) < People.produces({})


def test_errors_over_images_are_larger_and_counted_from_people(tmp_path):
    found = measured(known(1, 1), tmp_path)
    assert found["low_pixels"].value == found["low_pixels_images"].value
    assert found["low_pixels_images"].stderr > found["low_pixels"].stderr > 0
    assert found["low_pixels"].df == 7
    effects = Effects(np.array([[1.0, 2], [3, 2], [2, 2]]), np.array([3.0, 0.5]), 1.0)
    assert effects.stderr(images=False) == pytest.approx([1 / np.sqrt(3), 0])
    assert effects.stderr(images=True) == pytest.approx([np.sqrt(9 + 1 / 3), 0.5])


def test_the_image_error_is_the_spread_over_other_images(tmp_path):
    """Drawn anew, the images give low-level coefficients that spread as the bootstrap says.

    Weights that are products of three counts spread more than new images would: at most twofold.
    """
    values = [measured(known(1, 1, seed), tmp_path) for seed in range(12)]
    spread = np.std([v["low_pixels"].value for v in values], ddof=1)
    said = np.mean([v["low_pixels_images"].stderr for v in values])
    assert 0.7 * spread < said < 3 * spread


def test_several_models_are_held_to_more_than_one():
    """p = 0.03 is significant for one model alone, and not for one of two."""
    spread = np.linspace(-1, 1, 16)
    clear = Effects(np.stack([spread, spread + 0.37], 1), np.zeros(2), 1.0)
    none = Effects(np.stack([spread, spread + 0.01], 1), np.zeros(2), 1.0)
    assert _effect_figures({"a": clear})["significant"].value == 1
    assert _effect_figures({"a": clear, "b": none})["significant"].value == 0


def test_measures_what_it_says_it_does(tmp_path):
    found = set(measured(factor_objects(0), tmp_path))
    produced, sometimes = People.produces({}), People.sometimes({})
    assert found == produced - sometimes
    assert {"low_hmax", "low_hmax_images"} <= sometimes
    again = measured(factor_objects(0), tmp_path)
    assert again == measured(factor_objects(0), tmp_path)
    assert (
        again["low_pixels"]
        != People(**SETTINGS).run(trial(factor_objects(0), tmp_path, seed=1)).metrics["low_pixels"]
    )
