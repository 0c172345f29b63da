import pytest
import torch
from torch.distributions import Normal

from experiments.starflow.guidance import guided


def pair(seed=0, wider=True):
    """Gaussians of which the unconditional one is the wider one, or the narrower one."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(2, 50, generator=generator, dtype=torch.float64)
    narrow = 0.2 + torch.rand(50, generator=generator, dtype=torch.float64)
    wide = narrow + torch.rand(50, generator=generator, dtype=torch.float64)
    scales = (narrow, wide) if wider else (wide, narrow)
    return (means[0], scales[0]), (means[1], scales[1])


@pytest.mark.parametrize("weight", [0.5, 2.0, 7.0])
def test_guided_is_the_normalised_product_of_powers_by_quadrature(weight):
    (mean, scale), (free_mean, free_scale) = pair()
    found_mean, found_scale = guided((mean, scale), (free_mean, free_scale), weight)
    grid = torch.linspace(-40, 40, 20001, dtype=torch.float64)[:, None]
    log = (1 + weight) * Normal(mean, scale).log_prob(grid)
    log = log - weight * Normal(free_mean, free_scale).log_prob(grid)
    density = (log - log.max(0).values).exp()
    density = density / density.sum(0)
    by_hand = (density * grid).sum(0)
    spread = (density * (grid - by_hand) ** 2).sum(0).sqrt()
    inside = by_hand.abs() < 20
    assert inside.sum() > 25
    assert torch.allclose(found_mean[inside], by_hand[inside], atol=1e-6)
    assert torch.allclose(found_scale[inside], spread[inside], atol=1e-6)


def test_where_the_unconditional_one_is_narrower_the_mean_alone_moves():
    told, free = pair(wider=False)
    mean, scale = guided(told, free, 3.0)
    assert torch.equal(scale, told[1])
    assert torch.allclose(mean, told[0] + 3 * (told[0] - free[0]))


@pytest.mark.parametrize("rule", ["product", "linear", "log-linear"])
def test_no_weight_is_no_guidance(rule):
    told, free = pair()
    mean, scale = guided(told, free, 0.0, rule)
    assert torch.allclose(mean, told[0]) and torch.allclose(scale, told[1])


def test_extrapolations():
    told, free = (torch.tensor(1.0), torch.tensor(2.0)), (torch.tensor(0.5), torch.tensor(4.0))
    assert [float(v) for v in guided(told, free, 2.0, "linear")] == [2.0, -2.0]
    assert [float(v) for v in guided(told, free, 2.0, "log-linear")] == [2.0, 0.5]
