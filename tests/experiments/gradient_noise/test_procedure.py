"""Noise schedule, learning rates, and training together as against alone."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from experiments.gradient_noise.data import babi_like
from experiments.gradient_noise.memory import MemoryNetwork
from experiments.gradient_noise.model import DeepNet
from experiments.gradient_noise.procedure import NoisyDescent, noise_std
from harness.loading.splits import Splits, Tensors
from harness.procedures.base import Trial
from harness.procedures.batches import Batches
from harness.procedures.checkpoints import Checkpoints, Stopped
from harness.seeding import derive, seed_all

CPU = torch.device("cpu")


def blobs(n=120):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, n)
    x = rng.normal(size=(n, 6)) + 5 * np.eye(6)[y]
    split = Tensors(x=torch.tensor(x, dtype=torch.float32), y=torch.tensor(y))
    return Splits(split, split, dims={"features": 6, "classes": 3})


def net(**options):
    return lambda: DeepNet(
        features=6, classes=3, **{"depth": 3, "width": 8, "init": "he", **options}
    )


def trials(folder, seeds, model, data=None, checkpoints=None):
    options = {"device": CPU, "workdir": folder, "data": data or blobs()}
    return [Trial(seed=s, model=model, checkpoints=checkpoints, **options) for s in seeds]


def trained(folder, seeds, model, data=None, **options):
    """Parameters (R, P) after training, and the outcomes."""
    settings = {"epochs": 3, "batch_size": 20, "learning_rates": [0.1], **options}
    method = NoisyDescent(**settings)
    networks = method.trained(trials(folder, seeds, model, data))
    theta = [nn.utils.parameters_to_vector(n.model.parameters()) for n in networks]
    return torch.stack(theta).detach(), method.outcomes(networks)


def test_eta_is_the_variance_of_the_first_step_and_decays_as_a_power():
    assert noise_std(0, eta=0.09, gamma=0.55) == pytest.approx(0.3)
    assert noise_std(99, eta=1.0, gamma=0.55) == pytest.approx(100**-0.275)
    assert noise_std(7, eta=0.3, gamma=0.0) == noise_std(0, eta=0.3, gamma=0.0)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_one_network_is_what_plain_torch_gives(tmp_path, reduction):
    """Autograd, clip_grad_norm_, noise and a step of torch, by hand."""
    bound = {"mean": 0.5, "sum": 100.0}[reduction]
    options = {"clip_norm": bound, "eta": 0.04, "epochs": 2, "reduction": reduction}
    theta, _ = trained(tmp_path, [3], net(), learning_rates=[0.2, 0.1], **options)
    seed_all(3, "model")
    model, data = net()(), blobs()
    step = 0
    for epoch in range(2):
        for batch in Batches(data.train, 20, lambda epoch=epoch: (3, epoch)):
            model.zero_grad()
            cross_entropy(model(batch["x"]), batch["y"], reduction=reduction).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), bound)
            generator = torch.Generator().manual_seed(derive(3, "step", epoch, step))
            noise = torch.empty(theta.shape[1]).normal_(generator=generator) * 0.2
            noise /= (1 + step) ** 0.275
            at = 0
            with torch.no_grad():
                for p in model.parameters():
                    p -= 0.1 * (p.grad + noise[at : at + p.numel()].view_as(p))
                    at += p.numel()
            step += 1
    expected = nn.utils.parameters_to_vector(model.parameters()).detach()
    torch.testing.assert_close(theta[1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", [net(), net(dropout=0.3)], ids=["plain", "dropout"])
def test_alone_and_in_a_group_are_the_same(tmp_path, model):
    options = {"eta": 0.01, "clip_norm": 10.0, "learning_rates": [0.1, 0.01]}
    together, outcomes = trained(tmp_path / "group", [0, 1, 5], model, **options)
    for index, seed in enumerate([0, 1, 5]):
        alone, (outcome,) = trained(tmp_path / "alone", [seed], model, **options)
        torch.testing.assert_close(together[2 * index : 2 * index + 2], alone, rtol=1e-4, atol=1e-5)
        assert outcome.metrics["accuracy"] == pytest.approx(outcomes[index].metrics["accuracy"])
    assert not torch.allclose(together[0], together[2])


def test_memory_networks_alone_and_in_a_group_are_the_same(tmp_path):
    data = babi_like(2, 100)
    options = {"eta": 1.0, "clip_norm": 40.0, "reduction": "sum", "learning_rates": [0.01]}
    options |= {"epochs": 2, "linear_epochs": 1}
    model = lambda: MemoryNetwork(**data.dims)  # noqa: E731
    together, outcomes = trained(tmp_path / "group", [0, 1], model, data, **options)
    alone, (outcome,) = trained(tmp_path / "alone", [1], model, data, **options)
    torch.testing.assert_close(together[1], alone[0], rtol=1e-3, atol=1e-4)
    assert set(outcome.metrics) == NoisyDescent.produces({})
    assert outcome.metrics["val_error"] == pytest.approx(outcomes[1].metrics["val_error"])


@pytest.mark.parametrize("stop_after", [1, 7])
def test_a_resumed_run_ends_as_one_that_never_stopped(tmp_path, stop_after):
    """Stopped in the linear start, or after the rates were halved."""
    data, model = babi_like(1, 100), lambda: MemoryNetwork(**babi_like(1, 100).dims)
    options = {"learning_rates": [0.1, 0.01], "eta": 1.0, "clip_norm": 40.0, "halve_every": 1}
    method = NoisyDescent(epochs=3, batch_size=20, linear_epochs=2, **options)
    group = lambda kept: trials(tmp_path, [0, 1], model, data, kept)  # noqa: E731
    whole = method.run_together(group(None))
    asked = itertools.count(1)
    stopping = lambda: next(asked) >= stop_after  # noqa: E731
    with pytest.raises(Stopped):
        method.run_together(group(Checkpoints(tmp_path, every=0.0, stopping=stopping)))
    assert method.run_together(group(Checkpoints(tmp_path, every=0.0))) == whole


class Staged(nn.Module):
    """Answers 1 while it is linear, and then 2."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x, linear=False):
        answer = torch.tensor([0.0, 9.0, 0.0] if linear else [0.0, 0.0, 9.0])
        return (self.bias + answer).expand(len(x), 3)


def test_a_linear_start_is_trained_and_evaluated_linearly(tmp_path):
    data = blobs()
    share = [float((data.test.columns["y"] == answer).float().mean()) for answer in range(3)]
    options = {"learning_rates": [1e-6], "linear_epochs": 2, "linear_rate": 1e-6, "epochs": 1}
    _, (outcome,) = trained(tmp_path, [0], Staged, **options)
    expected = pytest.approx([share[1], share[1], share[2]])
    assert outcome.series["accuracy"].y == expected
    assert outcome.metrics["accuracy"] == pytest.approx(share[2])


def test_learning_rates_are_halved_after_the_linear_start():
    method = NoisyDescent(10, 20, [0.1, 0.02], halve_every=3, linear_epochs=2, linear_rate=0.5)
    assert method.rates(1) == [0.5, 0.5]
    assert method.rates(4) == [0.1, 0.02]
    assert method.rates(5) == pytest.approx([0.05, 0.01])
    assert method.rates(8) == pytest.approx([0.025, 0.005])


def test_accuracy_is_the_mean_and_top_accuracy_the_best_over_learning_rates(tmp_path):
    _, (both,) = trained(tmp_path, [0], net(), learning_rates=[0.1, 1e-6], epochs=10)
    _, (fast,) = trained(tmp_path, [0], net(), learning_rates=[0.1], epochs=10)
    _, (slow,) = trained(tmp_path, [0], net(), learning_rates=[1e-6], epochs=10)
    scores = [fast.metrics["accuracy"], slow.metrics["accuracy"]]
    assert fast.metrics["accuracy"] > 0.9
    assert both.metrics["accuracy"] == pytest.approx(sum(scores) / 2)
    assert both.metrics["top_accuracy"] == pytest.approx(max(scores))
    assert both.metrics["error"] == pytest.approx(1 - sum(scores) / 2)


def test_each_error_is_that_of_its_own_split(tmp_path):
    """All labels of validation are wrong, and a quarter of those of test."""
    data = blobs()
    x, y = data.train.columns["x"], data.train.columns["y"]
    wrong = (y + 1) % 3
    quarter = torch.where(torch.arange(len(y)) % 4 == 0, wrong, y)
    splits = Splits(data.train, Tensors(x=x, y=quarter), Tensors(x=x, y=wrong), dims=data.dims)
    _, (outcome,) = trained(tmp_path, [0], net(), splits, epochs=10)
    assert outcome.metrics["train_error"] < 0.05
    assert outcome.metrics["val_error"] > 0.95
    assert outcome.metrics["error"] == pytest.approx(0.25, abs=0.05)
    assert outcome.metrics["accuracy"] == pytest.approx(1 - outcome.metrics["error"])


def test_from_zero_only_noise_moves_the_weights(tmp_path):
    quiet, (stuck,) = trained(tmp_path, [0], net(init="zero"), epochs=5)
    assert int((quiet != 0).sum()) <= 3  # the last bias
    assert stuck.metrics["accuracy"] == pytest.approx(
        max(np.bincount(blobs().test.columns["y"])) / 120
    )
    moved, _ = trained(tmp_path, [0], net(init="zero"), epochs=5, eta=0.01)
    assert (moved != 0).all()


def test_a_schedule_with_a_steep_exponent_is_noise_at_the_first_step_only(tmp_path):
    """The control: one kick of 0.1 · √η a weight, and then descent as without noise."""
    kicked, _ = trained(tmp_path, [0], net(init="zero"), eta=0.01, gamma=100.0)
    assert float(kicked[0, :48].std()) == pytest.approx(0.01, rel=0.3)


def test_a_diverged_network_is_counted_and_leaves_the_others_alone(tmp_path):
    options = {"learning_rates": [1e20, 0.1], "epochs": 10}
    _, (outcome,) = trained(tmp_path, [0], net(), **options)
    assert outcome.metrics["diverged"] == 0.5
    assert outcome.metrics["top_accuracy"] > 0.9


def test_noise_accumulates_as_the_sum_of_the_schedule(tmp_path, monkeypatch):
    """Where the gradient is zero, θ_T has the variance α² Σ_t σ_t²."""
    flat = lambda self, model, batch, at: 0 * self.predict(model, batch).sum()  # noqa: E731
    monkeypatch.setattr(NoisyDescent, "training_loss", flat)
    theta, _ = trained(tmp_path, range(3), net(init="zero", width=40), epochs=20, eta=0.01)
    expected = 0.1 * sum(noise_std(t, 0.01, 0.55) ** 2 for t in range(120)) ** 0.5
    assert float(theta.std()) == pytest.approx(expected, rel=0.02)


def test_no_learning_rate_is_refused():
    with pytest.raises(ValueError, match="learning rate"):
        NoisyDescent(1, 1, [])
