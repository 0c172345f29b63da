"""The variational posterior against Monte Carlo and exact cases, and training that can resume."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import InverseGamma, MultivariateNormal, Normal

from experiments.scale_mixture_nngp import classifier
from experiments.scale_mixture_nngp.classifier import (
    Bound,
    Classification,
    Latent,
    SparseProcess,
    per_class,
)
from experiments.scale_mixture_nngp.data import Images
from harness.loading.splits import Tensors
from harness.procedures.base import Trial
from harness.procedures.checkpoints import Checkpoints, Stopped
from harness.procedures.recipe import At, Recipe
from harness.records import Measured


def inputs(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, 3, 3, generator=generator, dtype=torch.float64)


def process(heavy_tailed: bool, inducing: int = 3, classes: int = 2) -> SparseProcess:
    """A posterior away from its start, so that no term of the divergence vanishes."""
    torch.manual_seed(0)
    made = SparseProcess(inputs(inducing), classes, heavy_tailed, depth=1)
    with torch.no_grad():
        made.mu.normal_()
        made.log_v.sub_(torch.rand_like(made.log_v))
        made.log_a.fill_(1.2)
        made.log_b.fill_(0.4)
    return made


@pytest.mark.parametrize("heavy_tailed", [False, True])
def test_divergence_is_the_mean_log_ratio_of_posterior_and_prior(heavy_tailed) -> None:
    made = process(heavy_tailed)
    with torch.no_grad():
        factor = made.factor()
        draws = 100_000
        scale = torch.ones(draws, dtype=torch.float64)
        ratio = torch.zeros(draws, dtype=torch.float64)
        if heavy_tailed:
            posterior = InverseGamma(made.log_a.exp(), made.log_b.exp())
            scale = posterior.sample((draws,))
            two = torch.tensor(2.0, dtype=torch.float64)
            ratio = posterior.log_prob(scale) - InverseGamma(two, two).log_prob(scale)
        root = scale.sqrt()[:, None]
        prior = MultivariateNormal(torch.zeros(3, dtype=torch.float64), scale_tril=factor)
        for c in range(2):
            q = Normal(made.mu[:, c], root * (made.log_v[:, c] / 2).exp())
            u = q.sample()
            ratio += q.log_prob(u).sum(1) - (prior.log_prob(u / root) - 3 * root[:, 0].log())
        error = 4 * float(ratio.std()) / draws**0.5
        assert float(made.divergence()) == pytest.approx(float(ratio.mean()), abs=error)
        assert error < 0.02 * float(ratio.mean())


@pytest.mark.parametrize("heavy_tailed", [False, True])
def test_divergence_vanishes_where_the_posterior_is_the_prior(heavy_tailed) -> None:
    made = SparseProcess(inputs(1), 2, heavy_tailed)  # with one inducing input it can be
    assert float(made.divergence().detach()) == pytest.approx(0, abs=1e-10)


def test_latent_values_at_inducing_inputs_are_the_inducing_values() -> None:
    made = process(heavy_tailed=False)
    with torch.no_grad():
        latent = made.latent(made.inducing)
    assert latent.mean.numpy() == pytest.approx(made.mu.detach().numpy(), abs=1e-4)
    assert latent.variance.numpy() == pytest.approx(made.log_v.exp().detach().numpy(), rel=1e-3)


def test_latent_values_are_the_conditional_of_the_joint_gaussian() -> None:
    made, x = process(heavy_tailed=False), inputs(4, seed=1)
    with torch.no_grad():
        latent = made.latent(x)
        cross, inner = made.kernel(x, made.inducing), made.kernel(made.inducing, made.inducing)
        weights = torch.linalg.solve(inner, cross.T).T
        left = made.kernel(x, x) - weights @ cross.T
        total = left + weights @ made.log_v[:, 0].exp().diag() @ weights.T
    assert latent.mean.numpy() == pytest.approx((weights @ made.mu).detach().numpy(), abs=1e-4)
    assert latent.variance[:, 0].numpy() == pytest.approx(total.diagonal().numpy(), rel=1e-3)


def test_draws_share_one_scale_and_have_the_t_laws_variance() -> None:
    made = process(heavy_tailed=True)
    with torch.no_grad():
        made.log_a.fill_(torch.tensor(6.0).log())
        latent = made.latent(inputs(2, seed=1))
        torch.manual_seed(0)
        draws = made.sample(latent, 200_000) - latent.mean
        standard = draws / latent.variance.sqrt()
        variance = float(made.log_b.exp()) / 5  # b / (a - 1)
    assert standard.var(0).numpy() == pytest.approx(variance, rel=0.03)
    first, second = standard[:, 0, 0] ** 2, standard[:, 1, 1] ** 2
    # uncorrelated but not independent: E[s^2] exceeds E[s]^2 by 1 / (a - 2)
    together = float((first * second).mean() / (first.mean() * second.mean()))
    assert together == pytest.approx(1.25, abs=0.06)


def test_the_draws_teach_the_shape_of_the_posterior_scale() -> None:
    """The mean square of a draw is b / (a - 1), which falls by a b / (a - 1)² with ln a."""
    made = process(heavy_tailed=True)
    with torch.no_grad():
        made.log_a.fill_(math.log(8))
    latent = Latent(torch.zeros(1, 1).double(), torch.ones(1, 1).double())
    torch.manual_seed(0)
    made.sample(latent, 100_000).square().mean().backward()
    b = float(made.log_b.detach().exp())
    assert float(made.log_a.grad) == pytest.approx(-8 * b / 49, rel=0.05)
    assert float(made.log_b.grad) == pytest.approx(b / 7, rel=0.05)


def test_the_objective_is_the_divergence_by_image_and_the_cross_entropy() -> None:
    made, at = process(heavy_tailed=False), At(0, 0, 0, 1, 1, torch.device("cpu"))
    with torch.no_grad():
        made.log_v.fill_(-40.0)  # latent values at inducing inputs are their means, nearly surely
        batch = {"x": made.inducing.clone(), "y": torch.tensor([0, 1, 1])}
        found = Bound(40, samples=3).training_loss(made, batch, at)
        expected = made.divergence() / 40 + F.cross_entropy(made.mu, batch["y"])
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


def test_gradients_of_the_objective_are_finite() -> None:
    for network in ("dense", "convolutional"):
        made = SparseProcess(inputs(4), 3, True, network)
        loss = made.sample(made.latent(inputs(5, seed=1)), 3).square().mean() + made.divergence()
        loss.backward()
        for name, parameter in made.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def two_classes() -> Images:
    """Bright and dark images; the corrupted ones have some noise."""
    torch.manual_seed(0)
    labels = torch.arange(60) % 2
    x = (2.0 * labels[:, None, None, None] - 1).double() * 0.5 + 0.3 * inputs(60)
    train = Tensors(x=x[:40], y=labels[:40])
    tests = {
        name: Tensors(x=x[40:] + noise * inputs(20, seed=2), y=labels[40:])
        for name, noise in (("clean", 0.0), ("impulse", 0.3), ("shot", 0.3), ("unseen", 5.0))
    }
    return Images(train, tests, {"classes": 2, "features": 9})


def run(
    checkpoints: Checkpoints | None, heavy_tailed: bool = True, epochs: int = 12, prior: float = 2.0
) -> dict[str, float | Measured]:
    procedure = Classification(
        heavy_tailed, depth=1, inducing=6, epochs=epochs, batch_size=20, learning_rate=0.05,
        samples=4, test_samples=100, a=prior, b=prior,
    )  # fmt: skip
    device = torch.device("cpu")
    trial = Trial(
        0, two_classes(), torch.nn.Identity, device, Path("unused"), checkpoints=checkpoints
    )
    return dict(procedure.run(trial).metrics)


@pytest.mark.parametrize("heavy_tailed", [False, True])
def test_easy_classes_are_learned(heavy_tailed) -> None:
    found = run(None, heavy_tailed)
    assert found["accuracy_clean"] >= 0.9
    assert found["nll_corrupted"] == pytest.approx((found["nll_impulse"] + found["nll_shot"]) / 2)


def test_without_training_classes_are_guessed() -> None:
    assert run(None, False, epochs=0)["nll_clean"] == pytest.approx(math.log(2), abs=0.05)


def test_predictions_are_means_of_probabilities(monkeypatch) -> None:
    """Latent values that say much, one way or the other, make chances even and not small."""

    def wild(process: SparseProcess, x: torch.Tensor, factor: torch.Tensor) -> Latent:
        return Latent(x.new_zeros(len(x), 2), x.new_full((len(x), 2), 25.0))

    monkeypatch.setattr(SparseProcess, "latent", wild)
    found = run(None, False, epochs=0)
    assert found["nll_clean"] == pytest.approx(math.log(2), abs=0.05)
    assert found["entropy_clean"] == pytest.approx(math.log(2), abs=0.02)


def test_the_rate_falls_to_zero_on_a_cosine(monkeypatch) -> None:
    recipes: list[Recipe] = []
    monkeypatch.setattr(classifier, "train", lambda *given: recipes.append(given[2]))
    run(None, epochs=4)
    (recipe,) = recipes
    optimizer = recipe.optimizer([torch.nn.Parameter(torch.zeros(1))])
    assert recipe.schedule is not None and recipe.schedule_every == "epoch"
    schedule, rates = recipe.schedule(optimizer), []
    for _ in range(5):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    cosine = [0.025 * (1 + math.cos(math.pi * k / 4)) for k in range(5)]
    assert rates == pytest.approx(cosine, abs=1e-12)
    assert (recipe.epochs, recipe.batch_size, recipe.samples, recipe.images) == (4, 20, 4, 40)  # type: ignore[attr-defined]


def test_the_priors_width_reaches_the_posterior() -> None:
    """A narrow prior holds the posterior scale at 1: the latent values stay nearly Gaussian."""
    assert run(None, prior=1000.0)["nll_clean"] != run(None)["nll_clean"]


def test_interrupted_training_ends_in_the_same_figures(tmp_path) -> None:
    calls = iter(range(100))
    stopping = Checkpoints(tmp_path, every=0, stopping=lambda: next(calls) > 8)
    with pytest.raises(Stopped):
        run(stopping)
    assert 0 < Checkpoints(tmp_path).load()["course"]["step"] < 24  # type: ignore[index]
    assert run(Checkpoints(tmp_path)) == run(None)


def test_inducing_inputs_keep_the_classes_shares() -> None:
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    picked = per_class(labels, 20)
    assert labels[picked].bincount().tolist() == [12, 6, 2]
    assert len(set(picked.tolist())) == 20
    with pytest.raises(ValueError, match="20 inducing"):
        per_class(labels[:5], 20)
