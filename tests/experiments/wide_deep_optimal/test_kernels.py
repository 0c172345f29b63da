"""Deep kernels against neural-tangents' values, 400-digit arithmetic and functional equations."""

import math

import mpmath
import numpy as np
import pytest
import torch

from baselines.nngp import Correlation, Dual, Erf, Hermite, Relu, Sine
from experiments.wide_deep_optimal import kernels
from experiments.wide_deep_optimal.activations import named, optimal
from experiments.wide_deep_optimal.theory import at_angles

ANGLES = [0.0, 0.3, 1.0, 1.5]

# neural-tangents 0.6.5, float64: three hidden layers, every layer scaled to unit variance.
NEURAL_TANGENTS = {
    "relu": (
        Relu(),
        [1.0, 0.9630863709289352, 0.7525593896369529, 0.6195526070602936],
        [4.0, 3.3438030167232666, 1.81963263244565, 1.1283806936265226],
    ),
    "erf": (
        Erf(),
        [1.0, 0.9227035495258171, 0.4372341539208568, 0.05398830286766161],
        [5.56945925872112, 4.8753253826925755, 1.8552382598746773, 0.2161441731320563],
    ),
    "sine": (
        Sine(2.676),
        [1.0, 0.48411062393641446, 0.042220785488684805, 0.0036130016220453872],
        [30.71491844334028, 10.041410725694112, 0.2196076782466512, 0.014509569502421998],
    ),
    "h2": (
        Hermite({2: 1.0}),
        [1.0, 0.6938265709937739, 0.007262640848228201, 6.268779622326395e-10],
        [15.0, 10.40739856490661, 0.10893961272342303, 9.403169433489593e-09],
    ),
}


def double(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def exactly(squares: dict[int, float], gap: float, depth: int) -> tuple[float, float]:
    """log Σ_L and log K_L by the recursion itself, in 400 digits."""
    with mpmath.workdps(400):
        xi = tangent = 1 - mpmath.mpf(gap)
        for _ in range(depth):
            slope = sum(k * s * xi ** (k - 1) for k, s in squares.items() if k)
            xi = sum(s * xi**k for k, s in squares.items())
            tangent = xi + tangent * slope
        return float(mpmath.log(xi)), float(mpmath.log(tangent))


@pytest.mark.parametrize("name", NEURAL_TANGENTS)
def test_three_layers_are_those_of_neural_tangents(name) -> None:
    dual, nngp, ntk = NEURAL_TANGENTS[name]
    at = at_angles(double(ANGLES))
    assert torch.exp(kernels.log_nngp(dual, at, 3)).tolist() == pytest.approx(nngp, rel=1e-9)
    assert torch.exp(kernels.log_ntk(dual, at, 3)).tolist() == pytest.approx(ntk, rel=1e-9)
    relative = torch.exp(kernels.log_kernel(dual, at, 3, "ntk"))
    assert relative.tolist() == pytest.approx((double(ntk) / ntk[0]).tolist(), rel=1e-9)


@pytest.mark.parametrize("gap", [3e-16, 1e-9, 0.02, 0.7])
@pytest.mark.parametrize("squares", [{1: 0.5, 3: 0.5}, {1: 0.25, 2: 0.5, 3: 0.25}])
def test_hundreds_of_layers_lose_no_digits(squares, gap) -> None:
    at, dual = Correlation.of_gap(double([gap])), Hermite(squares)
    for depth in (20, 300):
        nngp, ntk = exactly(squares, gap, depth)
        assert float(kernels.log_nngp(dual, at, depth)) == pytest.approx(nngp, rel=1e-11)
        assert float(kernels.log_ntk(dual, at, depth)) == pytest.approx(ntk, rel=1e-11)


def test_one_nearest_neighbour_kernels_do_not_underflow() -> None:
    at = at_angles(double([0.1, 0.2]))
    found = kernels.log_nngp(Hermite({2: 1.0}), at, 100)
    expected = [2.0**100 * math.log(math.cos(angle)) for angle in (0.1, 0.2)]
    assert found.tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dual", [optimal(1), Relu(), Erf()], ids=["h1-h7", "relu", "erf"])
def test_tangent_kernel_of_equal_inputs(dual) -> None:
    equal = Correlation(double([0.0]), double([0.0]))
    expected = float(kernels.log_ntk(dual, equal, 40))
    assert kernels.log_ntk_diagonal(dual, 40) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dual", [optimal(d) for d in (1, 2, 4, 8)] + [Sine(1.0), Erf()])
def test_singular_kernel_is_koenigs_function(dual) -> None:
    """psi(A(ξ)) = A'(0) psi(ξ), and psi(ξ) ~ ξ at 0."""
    at = Correlation.of_gap(double([1e-12, 1e-3, 0.3, 0.9, 1 - 1e-9]))
    psi, after = kernels.log_singular(dual, at), kernels.log_singular(dual, dual(at))
    expected = psi + math.log(dual.slope_at_zero)
    assert after.tolist() == pytest.approx(expected.tolist(), abs=1e-9)
    assert float(psi[-1]) == pytest.approx(float(at.log[-1]), abs=1e-7)


def test_singular_kernel_has_the_coefficients_of_its_power_series() -> None:
    """psi = ξ + a ξ³ + … with λ a = μ + a λ³ for A = λ ξ + μ ξ³."""
    log = double([math.log(0.02)])
    psi = torch.exp(kernels.log_singular(optimal(2), Correlation(log, -torch.expm1(log))))
    assert float((psi / 0.02 - 1) / 0.02**2) == pytest.approx(4 / 3, rel=2e-3)


def test_a_kernel_without_a_singular_limit_says_so() -> None:
    for name in ("relu", "hermite-2", "flat", "mean"):
        with pytest.raises(ValueError, match="singular"):
            kernels.log_singular(named(name, 2), at_angles(double([0.5])))


@pytest.mark.parametrize("name", ["optimal", "erf", "hermite-2"])
def test_depth_that_tells_the_closest_apart(name) -> None:
    dual, gap = named(name, 1), 1e-13
    depth = kernels.resolving_depth(dual, gap)
    at = Correlation.of_gap(double([gap]))
    before, after = (float(torch.exp(kernels.log_nngp(dual, at, L))) for L in (depth - 1, depth))
    assert after <= 1e-3 < before


def test_no_depth_tells_equal_inputs_apart_or_any_with_relu_or_a_linear_network() -> None:
    cases = [(optimal(1), 0.0), (Relu(), 0.1), (named("mean", 1), 0.1), (Hermite({1: 1.0}), 0.1)]
    for dual, gap in cases:
        with pytest.raises(ValueError, match="no depth"):
            kernels.resolving_depth(dual, gap)


@pytest.mark.parametrize("name", ["optimal", "too-singular", "erf", "relu"])
def test_interpolation_between_nodes(name) -> None:
    dual: Dual = named(name, 1)
    grid = kernels.Grid(1e-14, 0.99999)
    kind: kernels.Kind = "ntk" if name == "relu" else "nngp"
    gaps = double(np.geomspace(1e-14, 0.99999, 777))
    table = kernels.log_kernel(dual, grid.nodes, 30, kind)
    exact = kernels.log_kernel(dual, Correlation.of_gap(gaps), 30, kind)
    assert torch.allclose(grid.read(table, gaps), exact, rtol=0, atol=2e-7)


@pytest.mark.parametrize("depth", [3, 30])
def test_tables_are_the_kernel_at_every_gap_of_a_matrix(depth, monkeypatch) -> None:
    monkeypatch.setattr(kernels, "_BLOCK", 20)  # several blocks of rows
    gaps = double(np.geomspace(1e-9, 0.9, 70)).reshape(10, 7)
    grid = kernels.Grid(1e-9, 0.9)
    found = kernels.Tabulated.deep(optimal(1), grid, depth, "nngp")(gaps)
    exact = kernels.log_nngp(optimal(1), Correlation.of_gap(gaps), depth)
    assert torch.allclose(found, exact, rtol=0, atol=1e-7 if depth > 10 else 1e-14)
    psi = kernels.Tabulated.singular(optimal(1), grid)(gaps)
    assert torch.allclose(
        psi, kernels.log_singular(optimal(1), Correlation.of_gap(gaps)), atol=1e-6
    )


def test_orthogonal_inputs_are_read_at_the_end_of_the_grid() -> None:
    grid = kernels.Grid(1e-3, 1.0)
    table = kernels.log_nngp(optimal(2), grid.nodes, 5)
    read = grid.read(table, double([[1.0, 1e-5]]))
    assert read.tolist() == [[float(table[-1]), float(table[0])]]
    assert torch.exp(read[0, 0]) < 1e-15


def test_a_tangent_kernel_of_moderate_depth_is_more_singular_than_its_limit() -> None:
    """Like distance^-(alpha + 2), as long as L << 1 / (1 - ξ); the covariance has alpha."""
    angles = double(np.geomspace(1e-5, 1e-4, 5))
    for dimension in (1, 2):
        dual, at = optimal(dimension), at_angles(angles)
        for kind, expected in (("ntk", dimension + 2), ("nngp", dimension)):
            log = kernels.log_kernel(dual, at, 200, kind)
            slope = float((log[-1] - log[0]) / (angles[-1] / angles[0]).log())
            assert -slope == pytest.approx(expected, abs=0.02)
