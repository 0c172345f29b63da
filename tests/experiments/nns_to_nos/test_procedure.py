import math

import pytest
import torch
from torch import nn

from baselines.operators import relative_errors
from experiments.nns_to_nos.data import Problem, flows
from experiments.nns_to_nos.model import UNet
from experiments.nns_to_nos.procedure import Crossing, OnGrids, SummedNorms, summary
from experiments.nns_to_nos.theory import HighFrequencies, Size
from harness.procedures.base import Trial
from harness.procedures.recipe import At
from harness.seeding import seed_all

SMALL = {"base": 8, "sides": (8, 16), "train": 96, "val": 8, "test": 24, "steps": 20}


def run(data, model, tmp_path, **settings):
    settings = {"epochs": 1, "learning_rate": 0.0, **settings}
    return Crossing(**settings).run(Trial(0, data, model, torch.device("cpu"), tmp_path))


class Local(nn.Module):
    """What is learnt quickly: a small convolution, periodic."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")

    def forward(self, x):
        return self.conv(x)


class Half(nn.Module):
    """Half the input, whatever the grid, and on every second point more by one."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        return self.weight * x + (x.shape[-1] > 8)


def chance(functions):
    """The error of the mean training function, on the grid of training."""
    test = functions["test_y"][:, None, ::2, ::2]
    mean = functions["train_y"].mean(0).expand_as(test)
    return float(relative_errors(mean, test).mean())


def test_training_beats_the_mean_function_and_on_shuffled_functions_it_does_not(tmp_path):
    plain, shuffled = (flows(shuffled=s, **SMALL) for s in (False, True))
    found = [
        run(data, Local, tmp_path / str(i), epochs=12, learning_rate=0.05).metrics["base_l2"]
        for i, data in enumerate((plain, shuffled))
    ]
    limit = chance(plain.functions())
    assert found[0] < 0.8 * limit and found[1] > 0.9 * limit


def test_errors_are_those_of_the_test_functions_on_every_grid(tmp_path):
    problem = flows(**SMALL)
    functions = problem.functions()
    outcome = run(problem, Half, tmp_path)
    mean, deviation = functions["train_x"].mean(), functions["train_x"].std()
    expected = []
    for every, offset in ((2, 0), (1, 1)):
        x, y = (functions[f"test_{n}"][:, ::every, ::every] for n in "xy")
        said = 0.5 * (x - mean) / deviation + offset
        expected.append(float(((said - y).norm(dim=(1, 2)) / y.norm(dim=(1, 2))).mean()))
    assert outcome.series["l2"].x == [8, 16]
    assert outcome.series["l2"].y == pytest.approx(expected, rel=1e-5)
    assert outcome.metrics["unseen_l2"] == pytest.approx(expected[1], rel=1e-5)
    y = functions["val_y"]
    said = 0.5 * (functions["val_x"] - mean) / deviation
    validated = float(((said - y).norm(dim=(1, 2)) / y.norm(dim=(1, 2))).mean())
    assert outcome.metrics["val_l2"] == pytest.approx(validated, rel=1e-5)
    assert outcome.metrics["parameters"].value == 1 and outcome.metrics["parameters"].exact
    assert {*outcome.metrics, *outcome.series} == Crossing.produces({})


def test_the_extension_decides_what_the_network_sees(tmp_path):
    problem = flows(**SMALL)
    plain, aligned = (run(problem, Half, tmp_path, extension=e) for e in ("none", "aligned"))
    assert plain.series["l2"].y[0] == aligned.series["l2"].y[0]
    assert aligned.series["l2"].y[1] < plain.series["l2"].y[1]


def test_what_is_worst_is_sought_among_grids_that_were_not_seen():
    errors = {16: 0.4, 32: 0.1, 64: 0.2}
    found = summary(errors, 32, (32,))
    grids = {"base_l2": 0.1, "unseen_l2": 0.4, "finest_l2": 0.2, "coarsest_l2": 0.4}
    logarithms = {"log_rise": 4, "log_finest_l2": 0.2, "log_coarsest_l2": 0.4}
    assert found == pytest.approx(grids | {n: math.log10(x) for n, x in logarithms.items()})
    assert summary(errors, 32, (16, 32))["unseen_l2"] == 0.2
    with pytest.raises(ValueError, match="on others, too"):
        summary(errors, 32, (16, 32, 64))


def test_batches_are_seen_on_each_of_the_grids_in_turn():
    recipe = OnGrids(epochs=1)
    batch = {name: torch.randn(2, 1, 16, 16) for name in "xy"}
    device = torch.device("cpu")
    assert recipe.augment(batch, At(0, 0, 0, 40, 1, device)) is batch
    recipe.sides = (8, 16)
    drawn = [recipe.augment(batch, At(0, step, 0, 40, 1, device)) for step in range(40)]
    sides = [found["x"].shape[-1] for found in drawn]
    assert 10 < sides.count(8) < 30 and set(sides) == {8, 16}
    small = drawn[sides.index(8)]
    assert all(torch.equal(small[n], batch[n][..., ::2, ::2]) for n in "xy")
    again = recipe.augment(batch, At(0, 3, 0, 40, 1, device))
    assert again["x"].shape == drawn[3]["x"].shape


def test_the_loss_is_the_square_of_summed_norms_on_any_grid():
    x = 2 * torch.pi * torch.arange(16) / 16
    wave = (
        torch.sin(x)[:, None].expand(2, 1, 16, 16) * torch.tensor([1.0, 2.0])[:, None, None, None]
    )
    for every in (1, 2):
        found = float(
            SummedNorms()(
                wave[..., ::every, ::every], torch.zeros_like(wave)[..., ::every, ::every]
            )
        )
        assert found == pytest.approx((3 * math.sqrt(2) * math.pi) ** 2, rel=1e-5)


@pytest.mark.parametrize(("by", "blind"), [("fourier", True), ("none", False), ("aligned", False)])
def test_only_interpolation_by_wave_numbers_is_blind_to_what_its_grid_cannot_hold(by, blind):
    seed_all(0)
    trial = Trial(0, None, lambda: UNet(4, (1, 2), 5), torch.device("cpu"), None)
    found = HighFrequencies(8, 32, by).run(trial).metrics
    assert set(found) == HighFrequencies.produces({})
    assert (found["response"] < 1e-10) is blind
    assert (found["output_above"] < 1e-10) is blind


def test_sizes_count_complex_weights_twice():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(torch.zeros(3))
            self.b = nn.Parameter(torch.zeros(2, dtype=torch.complex64))

    found = Size().run(Trial(0, None, Mixed, torch.device("cpu"), None)).metrics["parameters"]
    assert found.value == 7 and found.exact


def test_a_problem_says_on_which_grids_it_is_posed():
    problem = flows(**SMALL)
    assert isinstance(problem, Problem) and problem.base == 8 and list(problem.sides) == [8, 16]
