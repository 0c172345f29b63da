import math

import numpy as np
import pytest
import torch

from experiments.nns_to_nos.layers import (
    Attention,
    Difference,
    InterpolatedConvolution,
    LocalIntegral,
    NeighbourhoodIntegral,
)
from experiments.nns_to_nos.theory import (
    Refinement,
    Sampling,
    Waves,
    grid_points,
    scattered,
    voronoi_areas,
    weights_of,
)
from harness.procedures.base import Trial
from harness.seeding import seed_all


def measured(procedure, layer, seed=0):
    seed_all(seed)
    return procedure.run(Trial(seed, None, layer, torch.device("cpu"), None))


def slope(series):
    return float(np.polyfit(np.log(series.x), np.log(series.y), 1)[0])


def refined(layer):
    outcome = measured(Refinement(sides=(32, 64, 128)), layer)
    assert set(outcome.metrics) | set(outcome.series) <= Refinement.produces({})
    assert outcome.metrics["log_error"] == math.log10(outcome.series["error"].y[-1])
    return outcome.series


def test_waves_are_those_of_a_discrete_transform():
    waves = Waves(2, 1, 3, torch.Generator().manual_seed(0))
    f = waves.at(grid_points(16)).unflatten(-1, (16, 16))
    spectrum = torch.fft.fft2(f)[:, 0] / 256
    for j, (k, m) in enumerate(waves.k.long().tolist()):
        assert torch.allclose(spectrum[:, k, m], waves.coefficients[:, 0, j])
    assert int((spectrum[0].abs() > 1e-12).sum()) == 2 * len(waves.k) == 48
    derivative = waves.through(2j * math.pi * waves.k[None, None, :, 0], grid_points(16))
    k = torch.fft.fftfreq(16, 1 / 16, dtype=torch.float64)
    expected = torch.fft.ifft2(2j * math.pi * k[:, None] * torch.fft.fft2(f)).real
    assert torch.allclose(derivative, expected.flatten(2))


def test_only_with_support_and_weights_of_physical_units_is_there_a_limit_that_was_meant():
    whole = refined(LocalIntegral)
    assert slope(whole["error"]) == pytest.approx(2, abs=0.1)
    assert whole["pointwise_error"].y[-1] > 0.5
    for settings in ({"support": "pixels"}, {"weighted": False}):
        assert slope(refined(lambda s=settings: LocalIntegral(**s))["error"]) < 0


def test_pixel_kernels_shrink_to_a_pointwise_map():
    pixels = refined(lambda: LocalIntegral(support="pixels", weighted=False))
    assert slope(pixels["pointwise_error"]) == pytest.approx(1, abs=0.15)
    assert pixels["error"].y[0] == pytest.approx(refined(LocalIntegral)["error"].y[0])


def test_the_released_interpolation_has_another_limit():
    error = refined(InterpolatedConvolution)["error"].y
    assert 0.03 < error[-1] < 0.5 and error[-1] > error[0]


def test_differences_tend_to_derivatives_when_centred_and_scaled():
    assert slope(refined(Difference)["error"]) == pytest.approx(1, abs=0.1)
    assert slope(refined(lambda: Difference(centred=False))["error"]) < -0.5
    assert refined(lambda: Difference(scaled=False))["error"].y[-1] > 0.5


def test_cells_of_points_share_the_torus_by_nearness():
    generator = torch.Generator().manual_seed(0)
    points = scattered(64, 0.8, generator)
    areas = voronoi_areas(points.numpy())
    assert areas.sum() == pytest.approx(1)
    apart = (grid_points(300)[:, None] + 1 / 600 - points).abs()
    nearest = torch.minimum(apart, 1 - apart).square().sum(-1).argmin(1)
    counted = torch.bincount(nearest, minlength=64) / 300**2
    assert np.allclose(areas, counted.numpy(), atol=1e-3)
    assert torch.allclose(weights_of(points, "uniform"), torch.tensor(1 / 64).double())


def test_points_are_as_dense_as_they_should_be():
    x, y = scattered(4096, 0.8, torch.Generator().manual_seed(0)).T
    assert float((x < 0.5).double().mean()) == pytest.approx(0.5 + 0.8 / math.pi, abs=0.01)
    assert float((y < 0.5).double().mean()) == pytest.approx(0.5, abs=0.01)
    share = x + 0.8 * (1 - torch.cos(2 * math.pi * x)) / (2 * math.pi)
    assert float((share.sort()[0] - (torch.arange(4096) + 0.5) / 4096).abs().max()) < 0.02
    other = scattered(4096, -0.8, torch.Generator().manual_seed(0))[:, 0]
    assert float((other < 0.5).double().mean()) == pytest.approx(0.5 - 0.8 / math.pi, abs=0.01)
    with pytest.raises(ValueError, match="no square"):
        scattered(10, 0.5, torch.Generator())


@pytest.mark.parametrize("layer", [Attention, NeighbourhoodIntegral])
def test_only_weighted_sums_agree_between_samplings(layer):
    settings = {"counts": (64, 256, 1024), "queries": 16, "reference": 48}
    found = {q: measured(Sampling(quadrature=q, **settings), layer) for q in ("voronoi", "uniform")}
    assert slope(found["voronoi"].series["error"]) > 1.2
    assert abs(slope(found["uniform"].series["error"])) < 0.3
    assert found["voronoi"].metrics["gap"] < 0.05 < 0.3 < found["uniform"].metrics["gap"]
    assert {*found["uniform"].metrics, *found["uniform"].series} == Sampling.produces({})
