"""Training with one γ a batch, against plain torch; what is chosen by which split; canaries."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy

from experiments.mip_hypernets.data import Turning, digits, turned
from experiments.mip_hypernets.model import HyperConvNet
from experiments.mip_hypernets.procedure import (
    CHANCE,
    BestRate,
    OneGamma,
    inspected,
    losses,
    steps_until,
    variation,
)
from harness.procedures.base import Trial
from harness.procedures.batches import Batches
from harness.procedures.recipe import At
from harness.procedures.training import train_together
from harness.seeding import derive, seed_all

CPU = torch.device("cpu")
MIP = {"encoding": "cos-sin", "residual": True}
TINY = {"channels": (3, 3, 3, 3), "hidden": (4, 8)}


def trials(folder, seeds=(0,), data=None, **options):
    options = {**TINY, **options}
    model = lambda: HyperConvNet(**options)  # noqa: E731
    return [
        Trial(seed=s, data=data or digits(), model=model, device=CPU, workdir=folder / str(s))
        for s in seeds
    ]


def test_an_example_without_a_finite_answer_counts_as_chance():
    logits, labels = torch.randn(4, 10), torch.tensor([1, 2, 3, 4])
    expected = cross_entropy(logits, labels, reduction="none")
    logits[1, 7], logits[2, 0] = float("nan"), float("inf")
    found = losses(logits, labels)
    torch.testing.assert_close(found[[0, 3]], expected[[0, 3]])
    assert found[1:3].tolist() == pytest.approx([math.log(10)] * 2)


def test_variation_is_within_windows_and_does_not_see_a_trend():
    torch.manual_seed(0)
    noise = 1 + 0.2 * torch.randn(2010, 2)
    trend = torch.linspace(1, 100, 2010)[:, None]
    assert variation(noise).tolist() == pytest.approx([0.2, 0.2], rel=0.1)
    assert variation(noise * trend)[0] == pytest.approx(float(variation(noise)[0]), rel=0.1)
    assert variation(torch.ones(60, 1)).tolist() == [0]


def test_steps_until_a_target_are_interpolated():
    curve = [(0.0, 2.0), (100.0, 1.5), (200.0, 0.5), (300.0, 0.9)]
    assert steps_until(curve, 1.0) == 150 and steps_until(curve, 1.75) == 50
    assert steps_until(curve, 0.1) == 300


def test_training_is_what_plain_torch_gives(tmp_path):
    """Batches turned by their γ, Nesterov's momentum, gradient norms: by hand."""
    data = digits(inputs=2)
    turning = Turning(inputs=2, block=50)
    recipe = OneGamma(turning, 0.05, "sgd", steps=4, batch_size=16, eval_steps=4)
    (trial,) = trials(tmp_path, [3], data, inputs=2, **MIP)
    seed_all(3, "initial")
    model, plain = trial.model(), trial.model()
    plain.load_state_dict(model.state_dict())
    (trained,) = train_together([model], [data], recipe, [trial])
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    batches = iter(Batches(data.train, 16, lambda: (3, 0), drop_last=True))
    for step in range(4):
        batch = next(batches)
        generator = torch.Generator().manual_seed(derive(3, "step", 0, step))
        gamma = torch.rand(2, generator=generator)
        gamma[0] = torch.rand(1, generator=generator)
        x = turned(batch["x"], float(gamma[0]) * 180)
        optimizer.zero_grad()
        cross_entropy(plain(x, gamma.expand(16, -1)), batch["y"]).backward()
        norm = torch.cat([p.grad.flatten() for p in plain.parameters()]).norm()
        assert float(recipe.norms[step]) == pytest.approx(float(norm), rel=1e-4)
        optimizer.step()
    for found, expected in zip(trained.model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_batches_of_one_training_have_different_gammas():
    recipe = OneGamma(Turning(), 0.1, "adam", 4, 4, 4)
    batch = {"x": torch.rand(4, 1, 14, 14), "y": torch.arange(4)}
    drawn = [recipe.augment(batch, At(0, step, 0, 4, 1, CPU)) for step in range(3)]
    gammas = [one["gamma"] for one in drawn]
    assert all((gamma == gamma[0]).all() for gamma in gammas)
    assert len({float(gamma[0]) for gamma in gammas}) == 3
    torch.testing.assert_close(drawn[1]["x"], turned(batch["x"], float(gammas[1][0]) * 180))


def test_seeds_together_and_alone_are_the_same(tmp_path):
    method = BestRate([0.01, 0.003], steps=26, batch_size=8, eval_steps=13, target=2.0)
    together = method.run_together(trials(tmp_path / "both", [0, 1], **MIP))
    for seed, outcome in enumerate(together):
        assert set(outcome.metrics) | set(outcome.series) == BestRate.produces({})
        alone = method.run(trials(tmp_path / "one", [seed], **MIP)[0])
        assert alone.metrics == pytest.approx(outcome.metrics, rel=1e-2, abs=1e-3)
        assert outcome.samples == 2 * 26 * 8
    assert together[0].metrics["loss"] != together[1].metrics["loss"]


def made(folder, curves):
    """An outcome from curves of (validation, test) loss, of rising rates, evaluated twice."""
    runs = []
    for index, pairs in enumerate(curves):
        rows = [
            {"step": 10.0 * (i + 1), "val_loss": v, "loss": t, "accuracy": t / 10}
            for i, (v, t) in enumerate(pairs)
        ]
        model = HyperConvNet(**TINY)
        runs.append((SimpleNamespace(curves=rows, row=rows[-1], model=model, samples=1), index))
    method = BestRate([0.1, 0.01, 0.001][: len(curves)], steps=100, eval_steps=10, target=1.0)
    return method._outcome(trials(folder)[0], runs).metrics


def test_rates_are_chosen_by_validation_images(tmp_path):
    """The first rate is best on test images throughout, and must not be chosen."""
    found = made(tmp_path, [[(2.0, 0.9), (1.5, 0.1)], [(0.9, 1.8), (0.8, 1.2)]])
    assert found["loss"] == 1.2 and found["val_loss"] == 0.8 and found["accuracy"] == 0.12
    assert found["log_rate"] == pytest.approx(-1) and found["gradient_variation"] == 1
    assert found["early_loss"] == pytest.approx(1.5)
    assert found["steps_to_target"] == 20


def test_each_figure_has_the_best_rate_for_it(tmp_path):
    """The first is fast, the second is good in the end, the third learns nothing."""
    fast, good, none = [(0.5, 0.5), (0.6, 0.6)], [(2.2, 2.2), (0.2, 0.2)], [(2.3, 2.3), (2.3, 2.3)]
    found = made(tmp_path, [none, good, fast])
    assert found["loss"] == 0.2 and found["log_rate"] == pytest.approx(-2)
    assert found["early_loss"] == pytest.approx(0.55)
    assert found["steps_to_target"] == pytest.approx(10 * (CHANCE - 1) / (CHANCE - 0.5))
    assert found["usable"] == pytest.approx(2 / 3) and found["failed"] == pytest.approx(1 / 3)


def test_what_is_inspected_of_a_trained_network():
    torch.manual_seed(0)
    data, model = digits(), HyperConvNet(**TINY, **MIP)
    with torch.no_grad():
        model.hypernet.output.weight.mul_(20)
    found = inspected(model, data)
    test = data.test.columns
    total = 0.0
    for start in range(0, 400, 50):
        rows = slice(start, start + 50)
        gamma = (test["gamma"][rows] + 0.5) % 1
        total += float(losses(model(test["x"][rows], gamma), test["y"][rows]).detach().sum())
    assert found["misled_loss"] == pytest.approx(total / 400, rel=1e-4)
    assert found["dependence"] > 0.1
    plain = inspected(HyperConvNet(**TINY, hypernet=False), data)
    assert plain["dependence"] == pytest.approx(0, abs=1e-6)
    assert plain["norm_slope"] == pytest.approx(0, abs=1e-6)
    assert inspected(HyperConvNet(**TINY), data)["norm_slope"] == pytest.approx(1, abs=1e-4)


def test_true_labels_are_learned_and_shuffled_ones_are_not(tmp_path):
    method = BestRate([0.02], steps=150, eval_steps=150)
    found = {}
    for shuffle in (False, True):
        data = digits(degrees=45.0, shuffle=shuffle)
        (trial,) = trials(tmp_path / str(shuffle), [0], data, hypernet=False, channels=(8, 8, 8, 8))
        found[shuffle] = method.run(trial).metrics["accuracy"]
    assert found[False] > 0.5 and found[True] < 0.2
