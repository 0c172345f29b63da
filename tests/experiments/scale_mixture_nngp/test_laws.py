"""Networks against their definition, and the predicted laws against simulation."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from baselines import nngp
from experiments.scale_mixture_nngp import laws
from experiments.scale_mixture_nngp import networks as nets
from experiments.scale_mixture_nngp.priors import InverseGamma
from harness.procedures.base import Diverged, Outcome, Trial


def run(procedure: object, seed: int = 0) -> Outcome:
    trial = Trial(seed, None, torch.nn.Identity, torch.device("cpu"), Path("unused"))
    return procedure.run(trial)  # type: ignore[attr-defined, no-any-return]


def number(outcome: Outcome, name: str) -> float:
    found = outcome.metrics[name]
    return found if isinstance(found, float) else found.value


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def points() -> torch.Tensor:
    return torch.from_numpy(nets.sphere(np.random.default_rng(0), 4, 6))


def test_drawn_layers_have_the_law_of_networks_with_weights(points) -> None:
    """Mean and fluctuation of the last Gram matrix, at a width where both are far from limits."""
    width, count = 8, 4000
    drawn = nets.features(points, count, 2, width, generator())
    torch.manual_seed(1)
    first = torch.relu(points / 6**0.5 @ torch.randn(count, 6, width, dtype=torch.float64))
    weights = torch.randn(count, width, width, dtype=torch.float64)
    explicit = torch.relu(first @ weights / width**0.5).mT
    grams = [hidden.mT @ hidden / width for hidden in (drawn, explicit)]
    for summary in (torch.mean, torch.std):
        found, expected = (summary(g, dim=0).numpy() for g in grams)
        assert found == pytest.approx(expected, rel=0.1)


def test_wide_layers_have_the_limits_kernel(points) -> None:
    hidden = nets.features(points, 4, 2, 20_000, generator())
    expected = nngp.dense(points, points, 2).nngp.numpy()
    assert (hidden.mT @ hidden / 20_000).mean(0).numpy() == pytest.approx(expected, rel=0.03)


def test_trained_readout_is_the_interpolation_nearest_to_its_start(points) -> None:
    hidden = nets.features(points, 3, 1, 50, generator())
    start = nets.outputs(hidden, torch.ones(3, dtype=torch.float64), generator())[1]
    y = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    trained = nets.train_readout(hidden, start, y, 1e-8, 5000)
    maps = hidden[:, :, :3].mT / 50**0.5
    missing = y - (maps @ start[:, :, None])[:, :, 0]
    expected = start + (torch.linalg.pinv(maps) @ missing[:, :, None])[:, :, 0]
    assert trained.numpy() == pytest.approx(expected.numpy(), abs=1e-6)


def test_steps_of_training_all_layers_are_those_of_autograd(points) -> None:
    y = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    scales = torch.tensor([0.5, 2.0], dtype=torch.float64)
    curvature = torch.tensor([8.0, 12.0], dtype=torch.float64)
    width, same = 30, generator()
    shapes = ((2, width, 6), (2, width))
    weights, readout = (torch.randn(s, generator=same, dtype=torch.float64) for s in shapes)
    parts = [weights.requires_grad_(), (scales.sqrt()[:, None] * readout).requires_grad_()]

    def outputs() -> torch.Tensor:
        hidden = torch.relu(parts[0] @ points.T / 6**0.5)
        return torch.einsum("kwp,kw->kp", hidden, parts[1]) / width**0.5

    steps = 0
    while (residual := outputs()[:, :3] - y).abs().max() >= 0.05:
        gradients = torch.autograd.grad(residual.square().sum() / 2, parts)
        rate = 0.9 / curvature
        parts = [
            (p - rate.reshape(-1, *[1] * (p.ndim - 1)) * g).detach().requires_grad_()
            for p, g in zip(parts, gradients, strict=True)
        ]
        steps += 1
        assert steps < 2000
    assert steps > 10
    found = nets.train_all(points, y, scales, width, curvature, 0.05, steps + 1, generator())
    assert found.numpy() == pytest.approx(outputs().detach().numpy(), abs=1e-9)


@pytest.mark.parametrize("layers", ["readout", "all"])
def test_training_that_does_not_fit_is_an_error(layers) -> None:
    with pytest.raises(Diverged, match="missed"):
        run(laws.TrainedLaw(layers, networks=2, width=16, max_steps=2))


def test_scales_are_inverse_gamma_or_constant() -> None:
    rng = np.random.default_rng(0)
    drawn = nets.draw_scales(rng, 20_000, 2.0, 3.0, constant=False)
    assert stats.kstest(drawn, stats.invgamma(2.0, scale=3.0).cdf).pvalue > 0.01
    assert set(nets.draw_scales(rng, 5, 2.0, 3.0, constant=True)) == {1.5}


def test_untrained_networks_are_t_and_with_a_constant_scale_are_not() -> None:
    options = {"networks": 4000, "width": 256, "inputs": 3}
    mixture, constant = (run(laws.PriorLaw(c, **options)) for c in (False, True))
    bound = 1.63 / math.sqrt(4000)  # the 99 % quantile of the distance
    for name in ("distance", "joint_distance"):
        assert number(mixture, name) < bound < number(constant, name)
    assert number(mixture, "tail_share") == pytest.approx(0.05, abs=0.01)
    assert number(constant, "tail_share") < 0.02


def test_trained_readouts_follow_the_law_of_descent_and_not_the_posterior() -> None:
    found = run(laws.TrainedLaw("readout", networks=300, width=512, tolerance=1e-3), seed=1)
    assert number(found, "distance") < 1.63 / math.sqrt(300) < number(found, "posterior_distance")


def test_readouts_trained_at_infinite_width_keep_the_tails_of_the_prior(monkeypatch) -> None:
    """So many networks tell a t law from a Gaussian one; there their conditionals are drawn."""

    def trained(law, x, y, scales, limit, generator):
        kernel, n = limit.nngp, len(y)
        normal = torch.randn(len(scales), len(x), generator=generator, dtype=torch.float64)
        drawn = scales.sqrt()[:, None] * (normal @ nngp.cholesky(kernel).mT)
        missed = y - drawn[:, :n]
        return drawn + missed @ torch.linalg.solve(kernel[:n, :n], kernel[:n])

    monkeypatch.setattr(laws.TrainedLaw, "_train", trained)
    found = run(laws.TrainedLaw("readout", networks=20_000, batch=20_000))
    assert number(found, "distance") < 1.63 / math.sqrt(20_000)
    assert number(found, "tail_share") == pytest.approx(0.05, abs=0.006)


def test_readouts_trained_from_scales_of_the_posterior_follow_the_posterior() -> None:
    options = {"networks": 300, "width": 512, "tolerance": 1e-3}
    found = run(laws.TrainedLaw("readout", posterior_scale=True, **options), seed=1)
    assert number(found, "posterior_distance") < 1.63 / math.sqrt(300) < number(found, "distance")


def test_networks_trained_in_all_layers_follow_the_tangent_law() -> None:
    options = {"networks": 300, "width": 512, "examples": 4, "tolerance": 1e-3}
    found = run(laws.TrainedLaw("all", **options), seed=1)
    assert number(found, "distance") < 1.63 / math.sqrt(300) < number(found, "posterior_distance")


def test_law_of_descent_without_trained_lower_layers_is_the_t_law(points) -> None:
    """With K' = 0 the tangent kernel is K, and the mixture must be the readout's t law."""
    kernel = nngp.dense(points, points, 2).nngp
    y, f = np.array([1.0, -1.0, 2.0]), np.linspace(-3, 4, 15)
    limit = nngp.Limit(kernel, torch.zeros_like(kernel))
    mean, variance, _ = laws.posterior_moments(kernel.numpy(), y)
    found = laws.descent_cdf(f, limit, y, InverseGamma(2.0, 1.0), nodes=4000)
    expected = stats.t.cdf((f - mean) / math.sqrt(0.5 * variance), 4.0)
    assert found == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("inference", "holds"),
    [
        ("closed-form", lambda error: error < 1e-7),
        ("prior-scale", lambda error: error > 0.3),
        ("importance", lambda error: 1e-6 < error < 0.3),
    ],
)
def test_predictive_density_against_quadrature(
    inference: str, holds: Callable[[float], bool]
) -> None:
    assert holds(number(run(laws.PosteriorLaw(inference)), "log_density_error"))


def test_uniform_levels_are_near_and_shifted_ones_are_not() -> None:
    levels = (np.arange(1000) + 0.5) / 1000
    assert laws.against(levels)["distance"] == pytest.approx(0.0005)
    assert laws.against(levels)["tail_share"].value == pytest.approx(0.05, abs=0.002)
    assert laws.against(levels**2)["distance"] == pytest.approx(0.25, abs=0.01)


def test_only_one_hidden_layer_can_be_trained_as_a_whole() -> None:
    with pytest.raises(ValueError, match="one hidden layer"):
        laws.TrainedLaw("all", depth=2)
