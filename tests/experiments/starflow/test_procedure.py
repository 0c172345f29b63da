import math

import pytest
import torch
from torch import nn

from experiments.starflow.data import FlowSplits, chains, two_numbers
from experiments.starflow.model import DROPPED, Flow
from experiments.starflow.procedure import Bits, FlowFit, Gaussian, Nats, nll_name
from harness.loading.splits import Tensors
from harness.procedures.base import Trial
from harness.procedures.recipe import At
from harness.seeding import seed_all


def fit(noise=0.1, steps=4, rate=1e-2, metric=Nats, **settings):
    return FlowFit(
        noise=noise,
        metrics={nll_name(noise): metric()},
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=rate),
        steps=steps,
        eval_steps=max(1, steps // 4),
        batch_size=64,
        eval_batch_size=100,
        **settings,
    )


def flow(layers=(1, 1), **settings):
    return lambda: Flow(4, 4, 4, 4, 16, layers, 8, **settings)


def run(tmp_path, data, recipe, model=None, seed=0):
    seed_all(seed)
    return recipe.run(Trial(seed, data, model or flow(), torch.device("cpu"), tmp_path))


def at(seed=0, step=0):
    return At(seed, step, 0, 10, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A flow of three blocks after 60 steps on chains."""
    data = chains(1024, 128, 256)
    recipe = fit(steps=60, rate=2e-2, posterior=200)
    return run(tmp_path_factory.mktemp("run"), data, recipe, flow((1, 1, 1)))


def test_training_learns_signs_and_classes_and_never_beats_the_density(trained):
    found = trained.metrics
    assert 0 < found["excess"] < 0.75  # a Gaussian is at 0.9
    assert found["bayes_accuracy"] > 0.6
    assert found["class_information"] > 0.2
    curve = trained.series["val_nll_noise_0.1"].y
    assert found["early_nll_noise_0.1"] == pytest.approx(sum(curve[:2]) / 2)
    assert curve[0] > curve[-1]


def test_on_shuffled_labels_the_class_is_not_told(tmp_path):
    data = chains(1024, 128, 256, shuffled=True)
    recipe = fit(steps=60, rate=2e-2, posterior=200)
    found = run(tmp_path, data, recipe, flow((1, 1, 1))).metrics
    assert abs(found["bayes_accuracy"] - 0.25) < 0.13
    assert found["class_information"] < 0.05


def test_one_block_stays_at_its_bound_and_so_do_three_in_one_order(tmp_path):
    """In three blocks that take turns the two peaks are seen."""
    data, found = two_numbers(train=2048, val=64, test=4096), {}
    plans = {"one": (1, True, 50), "order": (3, False, 50), "three": (3, True, 120)}
    for name, (blocks, alternate, steps) in plans.items():

        def model(blocks=blocks, alternate=alternate):
            return Flow(1, 2, 1, 0, 16, (1,) * blocks, 8, alternate=alternate)

        recipe = fit(0.0, steps, 2e-2, drop=0.0)
        found[name] = run(tmp_path / name, data, recipe, model).metrics["over_bound"]
    assert -0.02 < found["one"] < 0.3 and -0.02 < found["order"] < 0.3
    assert found["three"] < -0.1


def test_what_is_measured_is_what_is_declared(tmp_path, trained):
    settings = {"metrics": {"nll_noise_0.1": Nats()}, "posterior": 200}
    produced = FlowFit.produces(settings)
    assert set(trained.metrics) | {"over_bound"} == produced
    assert FlowFit.sometimes(settings) >= {"over_bound", "excess"}


def test_noise_is_drawn_anew_and_some_classes_are_not_told():
    recipe = fit(drop=0.25)
    batch = {"x": torch.zeros(4000, 2, 3), "label": torch.full((4000,), 2)}
    first, second = recipe.augment(batch, at()), recipe.augment(batch, at(step=1))
    assert first["x"].std() == pytest.approx(0.1, abs=0.002)
    assert abs((first["x"] * second["x"]).mean()) < 1e-3
    assert torch.equal(first["x"], recipe.augment(batch, at())["x"])
    share = (first["label"] == DROPPED).double().mean()
    assert share == pytest.approx(0.25, abs=0.03)
    assert set(first["label"].tolist()) == {2, DROPPED}
    assert (fit(drop=0.0).augment(batch, at())["label"] == 2).all()


def test_the_name_of_a_likelihood_says_the_noise(tmp_path):
    names = [nll_name(noise) for noise in (0.1, 0.0, "uniform")]
    assert names == ["nll_noise_0.1", "nll_noise_0", "bits_uniform"]
    with pytest.raises(ValueError, match="call it nll_noise_0"):
        FlowFit(noise=0.2, metrics={"nll_noise_0.1": Nats()})
    with pytest.raises(ValueError, match="data have noise"):
        run(tmp_path, chains(64, 32, 32), fit(0.2))


class Normal(nn.Module):
    """The standard normal density, in nats per number."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x, label):
        return 0.5 * (x.square().mean((1, 2)) + math.log(2 * math.pi)) + 0 * self.unused


@pytest.mark.parametrize("metric", [Nats, Bits])
def test_likelihoods_are_means_over_examples_not_batches(metric):
    x = torch.randn(7, 2, 3)
    meter, recipe = metric(), fit(metric=Nats)
    for part in (x[:5], x[5:]):
        batch = {"x": part, "label": torch.zeros(len(part)).long()}
        recipe.scored(meter, recipe.predict(Normal(), batch), batch)
    nats = -torch.distributions.Normal(0, 1).log_prob(x).mean()
    # one of 256 levels of width 1/128: p = density / 128
    wanted = nats if metric is Nats else -((-nats).exp() / 128).log2()
    assert float(meter.compute()) == pytest.approx(float(wanted), rel=1e-5)
    assert not metric.higher_is_better


def test_uniform_images_have_eight_bits():
    meter = Bits()
    meter.update(torch.full((3,), math.log(2.0)))  # the density 1/2 on [-1, 1]
    assert float(meter.compute()) == pytest.approx(8.0, abs=1e-5)


class Known(Flow):
    """p(x | c) in proportion to exp of the first numbers of x: a posterior known by hand."""

    def __init__(self):
        super().__init__(1, 2, 2, 4, 4, (1,), 4)

    def forward(self, x, label):
        return -x.flatten(1).gather(1, label[:, None])[:, 0]


def test_the_posterior_is_that_of_bayes():
    x = torch.randn(50, 2, 2).double()
    label = x.flatten(1).argmax(1)
    label[:10] = (label[:10] + 1) % 4
    data = Tensors(x=x, label=label)
    made = Known()
    splits = FlowSplits(data, data, dims={"classes": 4}, noise=0.1)
    found = fit(posterior=40).measure(made, Trial(0, splits, Known, torch.device("cpu"), None))
    posterior = torch.softmax(4 * x.flatten(1), 1)[torch.arange(50), label][:40]
    assert found.metrics["bayes_accuracy"] == pytest.approx(0.75)
    wanted = math.log(4) + float(posterior.log().mean())
    assert found.metrics["class_information"] == pytest.approx(wanted, rel=1e-9)


def test_the_gaussian_is_that_of_the_training_images(tmp_path):
    data = chains(2000, 32, 64)
    trial = Trial(0, data, flow(), torch.device("cpu"), tmp_path)
    full, diagonal = (Gaussian(full=f).run(trial).metrics["nll_noise_0.1"] for f in (True, False))
    train = data.train.columns["x"].flatten(1).double().numpy()
    test = data.test.columns["x"].flatten(1).double().numpy()
    import numpy as np
    from scipy.stats import multivariate_normal

    covariance = np.cov(train.T, bias=True) + 0.01 * np.eye(64)
    wanted = -multivariate_normal(train.mean(0), covariance).logpdf(test).mean() / 64
    assert full.value == pytest.approx(wanted, abs=1e-9) and full.exact
    flat = -multivariate_normal(train.mean(0), np.diag(covariance.diagonal())).logpdf(test)
    assert diagonal.value == pytest.approx(flat.mean() / 64, abs=1e-9)
    assert full.value < diagonal.value
