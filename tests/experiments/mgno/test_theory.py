import numpy as np
import pytest
import torch

from experiments.mgno.theory import Contraction, Identities, Scaling, poisson_cycle, steepest
from experiments.mgno.vcycle import VCycle
from harness.procedures.base import Trial, exact
from harness.records import Series


def trial(make=None):
    return Trial(0, None, make, torch.device("cpu"), None)


def one_dimension(side):
    """Interpolation of linear functions from every second inner node, (side, coarse)."""
    coarse = (side - 1) // 2
    p = np.zeros((side, coarse))
    for j in range(coarse):
        p[2 * j : 2 * j + 3, j] = 0.5, 1.0, 0.5
    return p


def laplacian(side, width):
    line = 2 * np.eye(side) - np.eye(side, k=1) - np.eye(side, k=-1)
    return (np.kron(line, np.eye(side)) + np.kron(np.eye(side), line)) / width**2


def multigrid(f, side, width, smoothings):
    """A V-cycle of matrices, from u = 0; on one node the equation is solved."""
    a = laplacian(side, width)
    if side == 1:
        return f / a[0, 0]

    def smoothed(u):
        for _ in range(smoothings):
            u = u + 0.8 * (f - a @ u) / a[0, 0]
        return u

    u = smoothed(np.zeros_like(f))
    p = np.kron(one_dimension(side), one_dimension(side))
    correction = multigrid(p.T @ (f - a @ u) / 4, (side - 1) // 2, 2 * width, smoothings)
    return smoothed(u + p @ correction)


def test_with_the_kernels_of_poissons_equation_w_is_the_v_cycle_of_matrices():
    side, smoothings = 15, 2
    f = np.random.default_rng(0).standard_normal(side**2)
    # Four of each on the one coarsest node: the first of them solves, the others change nothing.
    cycle = poisson_cycle(side, [(smoothings, smoothings)] * 4)
    with torch.no_grad():
        u = cycle(torch.from_numpy(f.reshape(1, 1, side, side))).flatten().numpy()
    assert np.allclose(u, multigrid(f, side, 1.0, smoothings), atol=1e-12)


def test_the_residual_shrinks_by_the_spectral_radius_of_the_cycle():
    side = 7
    columns = [multigrid(row, side, 1.0, 2) for row in laplacian(side, 1.0).T]
    iteration = np.eye(side**2) - np.stack(columns, 1)
    radius = np.abs(np.linalg.eigvals(iteration)).max()
    with torch.no_grad():
        found = Contraction(cycles=60).factor(7)
    assert found == pytest.approx(radius, rel=1e-2) and found < 0.2


@torch.no_grad()
def test_every_grid_converges_alike_and_one_level_does_not():
    torch.manual_seed(0)
    outcome = Contraction(sides=[7, 31]).run(trial())
    assert outcome.series["residual_factor"].x == [7.0, 31.0]
    assert outcome.metrics["worst_residual_factor"] < 0.2
    assert Contraction(levels=1).factor(31) > 0.9
    # What the smoother has left of f is another right-hand side than f itself.
    assert 0.2 < Contraction(residual=False).factor(31) < 0.5


def test_deviations_are_those_of_the_cycle():
    def measured(**settings):
        torch.manual_seed(0)
        model = lambda: VCycle(16, 2, 2, ((1, 0), (1, 1), (2, 0)), **settings)  # noqa: E731
        return Identities().run(trial(model)).metrics

    circular, zeros = measured(padding="circular"), measured()
    assert circular["linearity_error"] < 1e-13 and circular["shift_error"] < 1e-13
    assert zeros["linearity_error"] < 1e-13 and zeros["shift_error"] > 0.01
    assert measured(active=True)["linearity_error"] > 0.01
    assert measured(padding="circular", wrapped=False)["shift_error"] > 0.01


def test_parameters_and_operations_are_those_of_the_kernels():
    found = Scaling(levels=(2, 3, 4), channels=(4, 8), sides=(16, 32)).run(trial())
    series, n = found.series, 4
    first = (9 + 52 + 18) * n * n  # S; Π, R, P, S and A; S and A
    levels = series["parameters_by_levels"]
    assert levels.y == [first + 52 * n * n * more for more in range(3)]
    assert series["parameters_by_channels"].y == [first, 4 * first]
    # Two levels: S on 16², then Π, R, P, and twice S and A on 8².
    weights = 9 * 16**2 + (9 + 9 + 16 + 4 * 9) * 8**2
    assert series["operations_by_side"].y == [2 * n * n * weights, 8 * n * n * weights]
    assert found.metrics["level_curvature"] == exact(0)
    for name in ("parameter_exponent", "channel_exponent", "side_exponent"):
        assert found.metrics[name].value == pytest.approx(2) and found.metrics[name].exact
    assert set(found.metrics) | set(series) == Scaling.produces({})


def test_the_steepest_power_is_taken():
    assert steepest(Series(over="n", x=[1.0, 2.0, 4.0], y=[1.0, 8.0, 16.0])) == pytest.approx(3)
