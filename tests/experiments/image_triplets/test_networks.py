"""Levels of networks: triplets, people, brains; observers whose weights are known."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from experiments.image_triplets import networks
from experiments.image_triplets.choice import upper
from experiments.image_triplets.data import factor_images, factor_objects, factor_photographs
from experiments.image_triplets.model import CORnetS, LayeredVGG
from experiments.image_triplets.networks import (
    Confound,
    Layers,
    Levels,
    everything,
    preference,
    ranks,
)
from experiments.image_triplets.search import random_triplets
from experiments.image_triplets.similarity import relabelled
from harness.procedures.base import Trial

VGG = partial(LayeredVGG, 3, 8, stages=[[8], [16], [32]])
SETTINGS = {"epochs": 1, "tables": 2, "bins": 4, "tolerance": 0.05, "natural": 3000}


def fit(**settings):
    accuracy = MulticlassAccuracy(num_classes=8, average="micro")
    defaults = {"loss": nn.CrossEntropyLoss(), "metrics": {"accuracy": accuracy}, "batch_size": 50}
    optimizer = partial(torch.optim.Adam, lr=3e-3)
    return defaults | {"optimizer": optimizer} | SETTINGS | settings


def trial(data, tmp_path, model=VGG):
    return Trial(0, data, model, torch.device("cpu"), tmp_path)


class Known(nn.Module):
    """A network whose layers are told."""

    low, high = "low", "high"

    def __init__(self, low, high):
        super().__init__()
        self.found = {"low": low, "high": high}

    def layers(self, x):
        return {name: values[: len(x)] for name, values in self.found.items()}


def factor_features(factors):
    """Features whose correlations are similarities of outlines (with some noise) and textures."""
    generator = torch.Generator().manual_seed(0)
    category = torch.as_tensor(factors.category)
    lobes, holes = nn.functional.one_hot(category // 2, 4), nn.functional.one_hot(category % 2, 2)
    outline = torch.cat([lobes, holes], 1).float()
    outline += 0.05 * torch.randn(outline.shape, generator=generator)
    waves = 0.5 * torch.randn(3, 400, generator=generator)
    phases = 6.3 * torch.rand(400, generator=generator)
    texture = torch.cos(torch.as_tensor(factors.texture).float() @ waves + phases)
    return texture, outline


def test_ranks_multiply_to_rank_correlations_and_move_with_images():
    one, other = (np.corrcoef(np.random.default_rng(k).standard_normal((9, 20))) for k in (0, 1))
    order = np.random.default_rng(2).permutation(9)
    found = upper(ranks(one)) @ upper(relabelled(ranks(other), order))
    assert found == pytest.approx(spearmanr(upper(one), upper(relabelled(other, order))).statistic)


@pytest.mark.parametrize(
    "model",
    [
        VGG,
        partial(CORnetS, 8, widths=(4, 6, 8, 10), times=(1, 2, 1), scale=1, kernel=3, pool=False),
    ],
)
def test_layers_report_all_they_promise(tmp_path, model):
    data = factor_photographs(0, train=100, val=40, test=120)
    procedure = Layers(**fit(object_tables=3, permutations=10))
    outcome = procedure.run(trial(data, tmp_path, model))
    assert {*outcome.metrics, *outcome.series} - {"val_accuracy", "train_loss"} <= Layers.produces(
        {"metrics": {"accuracy": {"class_path": "torchmetrics.classification.MulticlassAccuracy"}}}
    ) | {"loss", "val_loss"}
    curves = [outcome.series[name].y for name in ("choice_accuracy", "it", "early")]
    layers = model().eval().layers(torch.zeros(1, 3, 32, 32))
    assert [len(curve) for curve in curves] == [len(layers)] * 3
    assert outcome.metrics["agreement_it"] == pytest.approx(spearmanr(*curves[:2]).statistic)
    assert outcome.metrics["agreement_early"] == pytest.approx(
        spearmanr(curves[0], curves[2]).statistic
    )
    assert outcome.metrics["depth_it"] == np.argmax(curves[1]) / (len(layers) - 1)


def test_a_layer_that_sees_what_people_see_foretells_their_choices(tmp_path):
    """High: what people judge by; low: noise. Shuffled brains agree with nothing."""
    data = factor_photographs(0, train=60, val=20, test=60, low_weight=0.0)
    objects = data.objects
    high = 1 - objects.judgements.mean(0)
    noise = np.random.default_rng(0).standard_normal(high.shape)
    procedure = Layers(**fit(object_tables=10, permutations=300))
    generator = np.random.default_rng(0)
    found = procedure._explained(high, np.corrcoef(noise), objects, generator)
    assert found["high_accuracy"] > 0.75 and abs(found["low_accuracy"] - 0.5) < 0.06
    brain = objects.brain["it"]
    mixed = {str(k): (1 - k) * brain + k * np.corrcoef(noise) for k in (0.0, 0.3, 0.6, 0.9)}
    curves = procedure._curves(mixed, objects, generator)
    agreements = procedure._agreements(curves, mixed, objects, generator)
    assert curves["choice_accuracy"][0] > curves["choice_accuracy"][-1]
    assert curves["it"][0] == pytest.approx(1) and agreements["agreement_it"] > 0.7
    assert abs(agreements["agreement_shuffled"]) < 0.2
    assert agreements["depth_it"] == 0


def test_searched_images_are_those_of_the_test_set(tmp_path, monkeypatch):
    data = factor_images(0, train=100, val=40, test=70)
    asked = []

    def noted(high, low, *rest):
        asked.append((len(high), rest))
        return random_triplets(70, 30, np.random.default_rng(0))

    monkeypatch.setattr(networks, "search", noted)
    Levels(**fit(signs="same", tries=3, repeats=True)).run(trial(data, tmp_path))
    ((images, (_, grid, tables, *rest)),) = asked
    assert (images, tables, grid.bins, grid.tolerance) == (70, 2, 4, 0.05)
    assert rest == [3, True, "same"]
    assert len(everything(data.test)) == 70


def test_the_two_levels_are_the_low_and_the_high_layer():
    torch.manual_seed(0)
    low, high = torch.randn(2, 12, 5)
    found = networks.levels(Known(low, high), torch.zeros(12, 3, 4, 4), torch.device("cpu"))
    assert found[0] == pytest.approx(np.corrcoef(high), abs=1e-5)
    assert found[1] == pytest.approx(np.corrcoef(low), abs=1e-5)


def test_decorrelated_levels_decorrelate_the_factors_that_they_are_of(tmp_path):
    """And with low-level differences of one sign all are more correlated than in nature."""
    data = factor_images(0, train=10, val=10, test=400, rho=0.9)
    model = Known(*factor_features(data.factors))
    settings = fit(tables=6, bins=8, tolerance=0.05, tries=5, repeats=True)
    found = Confound(**settings).measure(model, trial(data, tmp_path)).metrics
    same = Confound(**(settings | {"signs": "same"})).measure(model, trial(data, tmp_path)).metrics
    assert found["natural_correlation"] > 0.3 and found["spurious_natural"] > 0.1
    assert abs(found["balanced_correlation"]) < 0.05
    assert abs(found["factors_balanced"]) < 0.6 * found["factors_natural"]
    assert found["spurious_searched"] < found["spurious_natural"] < same["spurious_searched"]
    assert found["factors_searched"] < found["factors_natural"] < same["factors_searched"]
    assert found["weight_natural"] == pytest.approx(1, abs=0.25)
    assert "spurious_balanced" not in same


def test_where_textures_do_not_follow_outlines_there_is_nothing_to_take_away(tmp_path):
    data = factor_images(0, train=10, val=10, test=400, rho=0.0)
    model = Known(*factor_features(data.factors))
    found = Confound(**fit()).measure(model, trial(data, tmp_path)).metrics
    assert abs(found["spurious_natural"]) < 0.05 and abs(found["natural_correlation"]) < 0.05


def test_observers_prefer_what_is_more_alike():
    assert preference(np.array([0.0, 2.0])) == pytest.approx([0.5, 1 / (1 + np.exp(-2))])


def test_trained_on_shuffled_labels_networks_are_at_chance(tmp_path):
    """And trained on true ones they are not."""
    figures = {False: [], True: []}
    for shuffled in figures:
        for seed in (10, 12):
            data = factor_images(seed, 400, 50, 300, shuffle_labels=shuffled)
            folder = tmp_path / f"{seed} {shuffled}"
            figures[shuffled].append(Levels(**fit(epochs=3)).run(trial(data, folder)))
    true, chance = (np.mean([o.metrics["accuracy"] for o in f]) for f in figures.values())
    assert true > 0.35
    assert abs(chance - 1 / 8) < 0.1


def test_objects_do_not_take_part_in_training():
    seen = factor_photographs(0, train=40, val=10, test=30)
    pixels = torch.cat([everything(part) for part in (seen.train, seen.val, seen.test)])
    both = torch.cat([pixels, seen.shown]).flatten(1)
    assert len(torch.unique(both, dim=0)) == len(both) == 172
    assert len(factor_objects(0).images) == 92
