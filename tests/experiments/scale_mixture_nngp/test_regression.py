"""Exact regression against direct solves, and what must not change its scores."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from baselines import nngp
from experiments.scale_mixture_nngp.data import series
from experiments.scale_mixture_nngp.priors import InverseGamma
from experiments.scale_mixture_nngp.regression import Regression, standardised
from harness.loading.splits import Splits, Tensors
from harness.procedures.base import Trial

NOISES = (1e-2, 1e-1, 1.0)


def splits(scale: float = 1.0, offset: float = 0.0, constant: bool = False) -> Splits:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    y = np.sin(2 * x[:, 0]) + x[:, 1] + 0.1 * rng.normal(size=60)
    if constant:
        x = np.concatenate([x, np.full((60, 1), 7.0)], axis=1)
    x_all, y_all = torch.from_numpy(x), torch.from_numpy(scale * y + offset)
    return Splits(Tensors(x=x_all[:45], y=y_all[:45]), Tensors(x=x_all[45:], y=y_all[45:]))


def run(procedure: Regression, data: Splits) -> dict[str, float]:
    trial = Trial(0, data, torch.nn.Identity, torch.device("cpu"), Path("unused"))
    return dict(procedure.run(trial).metrics)


def test_predictions_are_those_of_a_direct_solve() -> None:
    (x, y), (z, _), _ = standardised(splits(), None, 0)
    procedure = Regression("inverse-gamma", noises=NOISES)
    inputs, new = torch.from_numpy(x), torch.from_numpy(z)
    best = procedure.best(inputs, y)
    mean, variance, q = procedure.predict(best, inputs, new, y)
    both = torch.cat([inputs, new])
    kernel = nngp.dense(both, both, 4, best.weight_std**2, best.bias_std**2).nngp.numpy()
    kernel += best.noise * np.eye(len(kernel))
    n = len(y)
    solved = np.linalg.solve(kernel[:n, :n], np.column_stack([y, kernel[:n, n:]]))
    assert mean == pytest.approx(kernel[n:, :n] @ solved[:, 0], abs=1e-8)
    expected = np.diag(kernel[n:, n:] - kernel[n:, :n] @ solved[:, 1:])
    assert variance + best.noise == pytest.approx(expected, abs=1e-8)
    assert q == pytest.approx(y @ solved[:, 0])
    t = stats.multivariate_t.logpdf(y, shape=kernel[:n, :n], df=4.0)
    assert best.evidence == pytest.approx(t, abs=1e-6)


def test_no_grid_point_has_more_evidence_than_the_selected_one() -> None:
    (x, y), _, _ = standardised(splits(), None, 0)
    inputs = torch.from_numpy(x)
    grid = {"weight_stds": (1.0, 2.0), "bias_stds": (0.0, 1.0), "noises": NOISES}
    best = Regression("inverse-gamma", **grid).best(inputs, y)
    single = [
        Regression("inverse-gamma", weight_stds=[w], bias_stds=[b], noises=[s]).best(inputs, y)
        for w in grid["weight_stds"]
        for b in grid["bias_stds"]
        for s in grid["noises"]
    ]
    assert best.evidence == pytest.approx(max(s.evidence for s in single))
    assert len({round(s.evidence, 3) for s in single}) > 6


def test_the_latent_function_is_scored_as_the_released_code_does() -> None:
    """spax: the noise is in the kernel of mean and variance, and neither in a target nor in q."""
    data = splits()
    (x, y), (z, target), std = standardised(data, None, 0)
    found = run(Regression("inverse-gamma", noises=[0.1], weight_stds=[1.4], bias_stds=[0.3]), data)
    both = torch.from_numpy(np.concatenate([x, z]))
    kernel = nngp.dense(both, both, 4, 1.4**2, 0.3**2).nngp.numpy()
    n = len(y)
    noisy = kernel[:n, :n] + 0.1 * np.eye(n)
    mean = kernel[n:, :n] @ np.linalg.solve(noisy, y)
    latent = kernel[n:, n:] - kernel[n:, :n] @ np.linalg.solve(noisy, kernel[:n, n:])
    q = y @ np.linalg.solve(kernel[:n, :n] + 1e-6 * np.eye(n), y)
    scale = np.sqrt((4 + q) / (4 + n) * np.diag(latent))
    expected = -stats.t.logpdf(target, 4 + n, mean, scale).mean() + np.log(std)
    assert found["nll_latent"] == pytest.approx(expected, rel=1e-5)
    assert abs(found["nll"] - found["nll_latent"]) > 0.01


def test_a_trained_prior_ends_as_a_constant_scale() -> None:
    """No mixture has more evidence than the best scale: the largest shape is chosen, b = a q/n."""
    (x, y), _, _ = standardised(splits(), None, 0)
    inputs = torch.from_numpy(x)
    best = Regression("tuned-inverse-gamma", noises=NOISES).best(inputs, y)
    assert best.prior == InverseGamma(1024.0, pytest.approx(1024 * best.q(y, best.noise) / len(y)))
    for factor in (0.9, 1.1):
        other = InverseGamma(1024.0, factor * best.prior.b)
        log_det = float(np.log(best.values + best.noise).sum())
        assert other.log_evidence(best.q(y, best.noise), log_det, len(y)) < best.evidence
    constant = run(Regression("tuned-constant", noises=NOISES), splits())
    assert run(Regression("tuned-inverse-gamma", noises=NOISES), splits())["nll"] == pytest.approx(
        constant["nll"], abs=1e-3
    )


@pytest.mark.parametrize("prior", ["constant", "tuned-constant", "inverse-gamma", "burr"])
def test_scores_are_in_the_targets_unit(prior) -> None:
    """An affine change of the targets moves NLL by the log of its factor, and scales the RMSE."""
    plain = run(Regression(prior, noises=NOISES), splits())
    moved = run(Regression(prior, noises=NOISES), splits(10.0, -3.0))
    assert moved["nll"] == pytest.approx(plain["nll"] + np.log(10), abs=1e-9)
    assert moved["rmse"] == pytest.approx(10 * plain["rmse"])
    assert moved["evidence"] == pytest.approx(plain["evidence"] - np.log(10))


def test_rmse_is_that_of_the_scores_it_stands_for() -> None:
    found = run(Regression("tuned-constant", noises=NOISES), splits())
    spread = float(splits().test[torch.arange(15)]["y"].std())
    assert found["rmse"] < 0.6 * spread  # something is learned


def test_a_constant_column_is_harmless() -> None:
    """It becomes zeros, and only the number of features over which inputs are averaged changes."""
    (x, _), (z, _), _ = standardised(splits(constant=True), None, 0)
    assert (x[:, 3] == 0).all() and (z[:, 3] == 0).all()
    assert np.isfinite(run(Regression("burr", noises=NOISES), splits(constant=True))["nll"])


def test_fewer_training_rows_when_asked() -> None:
    (x, y), (z, _), _ = standardised(splits(), 20, 0)
    assert x.shape == (20, 3) and y.shape == (20,) and z.shape == (15, 3)
    assert x.mean(0) == pytest.approx(0) and x.std(0) == pytest.approx(1)


def test_a_tuned_scale_makes_priors_agree_on_ordinary_targets() -> None:
    data = series(0, "normal")
    tuned, mixture = (run(Regression(p), data) for p in ("tuned-constant", "inverse-gamma"))
    assert mixture["nll"] == pytest.approx(tuned["nll"], abs=0.05)


def test_the_default_prior_is_the_released_codes_start() -> None:
    assert Regression("inverse-gamma").priors == [InverseGamma(2.0, 2.0)]
