"""Trials at small size: canaries, regret, agreement; exponents and limits as derived."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from baselines.nngp import Correlation, Hermite, Relu
from experiments.wide_deep_optimal import activations, classifiers, data, kernels, theory
from experiments.wide_deep_optimal.procedure import DeepKernel, Regression, Rule, Sample
from harness.loading.splits import Splits, Tensors
from harness.procedures.base import Outcome, Procedure, Trial

# A(ξ) of the released code, by power: 2d_opt, 3d_opt, 5d_opt and 9d_opt.
RELEASED = {
    1: {1: 1 / 2, 7: 1 / 2},
    2: {1: 1 / 2, 3: 1 / 2},
    4: {1: 1 / 4, 2: 1 / 2, 3: 1 / 4},
    8: {1: 1 / 16, 2: 7 / 8, 3: 1 / 16},
}


def run(procedure: Procedure, splits: Splits | None = None) -> Outcome:
    return procedure.run(Trial(0, splits, nn.Identity, torch.device("cpu"), Path()))


@pytest.fixture(scope="module")
def circle() -> Splits:
    return data.dirichlet(0, 1, 400, 1000)


def test_the_optimal_network_beats_neighbour_and_majority_and_regret_is_zero_for_bayes(
    circle,
) -> None:
    regret = {rule: run(Rule(rule), circle).metrics["regret"] for rule in ("nearest", "majority")}
    found = run(DeepKernel("optimal"), circle).metrics
    assert found["regret"] < min(regret.values()) - 0.02
    assert found["agreement_singular"] > 0.99 and found["agreement_hilbert"] > 0.97
    assert run(Rule("bayes"), circle).metrics["regret"] == 0
    assert run(Rule("hilbert"), circle).metrics["regret"] < regret["nearest"] - 0.02


def test_trained_on_shuffled_labels_it_falls_to_chance() -> None:
    shuffled = data.dirichlet(0, 2, 400, 1000, shuffle=True)
    blind = run(DeepKernel("optimal"), shuffled).metrics["accuracy"]
    assert blind < 0.65  # the majority vote has 0.6
    assert run(DeepKernel("optimal"), data.dirichlet(0, 2, 400, 1000)).metrics["accuracy"] > 0.88


def test_regret_is_the_expected_loss_of_accuracy(circle) -> None:
    sample = Sample.of(circle)
    assert sample.test_eta is not None
    predicted = torch.where(torch.arange(1000) % 3 == 0, 1.0, -1.0).double()

    def expected(y: torch.Tensor) -> torch.Tensor:
        assert sample.test_eta is not None
        return torch.where(y > 0, sample.test_eta, 1 - sample.test_eta).mean()

    best = torch.where(sample.test_eta > 0.5, 1.0, -1.0)
    difference = float(expected(best) - expected(predicted))
    assert sample.scores(predicted)["regret"] == pytest.approx(difference, rel=1e-9)


def test_sizes_are_nested_and_depth_grows_with_them(circle) -> None:
    swept = run(DeepKernel("optimal", sizes=[50, 400]), circle)
    first = Tensors(**circle.train[torch.arange(50)])
    small = run(DeepKernel("optimal"), Splits(first, circle.test, dims=circle.dims))
    whole = run(DeepKernel("optimal"), circle)
    assert swept.metrics == whole.metrics
    series = swept.series["accuracy_over_n"]
    assert (series.x, series.y[0]) == ([50.0, 400.0], small.metrics["accuracy"])
    depth = swept.series["depth_over_n"].y
    assert depth[0] < depth[1]
    assert 0 < swept.metrics["closest"] < 0.05
    with pytest.raises(ValueError, match="500 training inputs"):
        run(DeepKernel("optimal", sizes=[500]), circle)


def test_the_closest_pair_is_of_two_inputs(circle) -> None:
    found = run(DeepKernel("optimal", depth=3, sizes=[20]), circle).metrics["closest"]
    gap = classifiers.closest(Sample.of(circle).first(20).train)
    at = Correlation.of_gap(torch.tensor(gap, dtype=torch.float64))
    expected = float(torch.exp(kernels.log_nngp(activations.optimal(1), at, 3)))
    assert found == pytest.approx(expected, rel=1e-10) and expected < 1 - 1e-8


@pytest.mark.parametrize("procedure", [DeepKernel("optimal"), DeepKernel("relu", "ntk", 3)])
def test_what_is_produced_is_declared(procedure, circle) -> None:
    found = run(procedure, circle)
    args = {"activation": procedure.activation}
    assert set(found.metrics) | set(found.series) == procedure.produces(args)


def test_real_data_has_no_bayes_rule() -> None:
    digits = data.digits(0, 100, 100)
    assert "regret" not in run(Rule("nearest"), digits).metrics
    with pytest.raises(ValueError, match="generated data"):
        run(Rule("bayes"), digits)


def test_depth_ends_in_predicting_zero(circle) -> None:
    shallow = run(Regression("optimal", depth=3, size=200), circle).metrics["regression_error"]
    deep = run(Regression("optimal", size=200), circle).metrics["regression_error"]
    assert shallow < 0.01 and deep == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("dimension", RELEASED)
def test_optimal_activations_are_the_released_ones(dimension) -> None:
    found = activations.optimal(dimension)
    assert isinstance(found, Hermite)
    assert found.squares == pytest.approx(RELEASED[dimension], rel=1e-12)


@pytest.mark.parametrize("dimension", [1, 2, 3, 4, 5, 8, 20])
def test_their_exponent_is_the_dimension_three_ways(dimension) -> None:
    dual = activations.optimal(dimension)
    assert activations.exponent(dual) == pytest.approx(dimension, abs=1e-12)
    assert theory.exponent_of_activation(dual) == pytest.approx(dimension, abs=1e-9)
    assert theory.exponent_of_kernel(dual) == pytest.approx(dimension, abs=0.01 * dimension)


@pytest.mark.parametrize(("name", "alpha"), [("erf", 0.8882), ("sine", 1.1856)])
def test_exponents_of_other_activations(name, alpha) -> None:
    dual = activations.named(name, 1)
    assert activations.exponent(dual) == pytest.approx(alpha, abs=5e-5)
    assert theory.exponent_of_activation(dual) == pytest.approx(alpha, abs=5e-5)
    assert theory.exponent_of_kernel(dual) == pytest.approx(alpha, abs=5e-3)


def test_without_a_singularity_there_is_no_exponent() -> None:
    for name in ("relu", "mean", "hermite-2"):
        with pytest.raises(ValueError, match="singular kernel"):
            activations.exponent(activations.named(name, 1))


def test_names_that_do_not_exist() -> None:
    for name, dimension in (("tanh", 2), ("hermite-x", 2), ("sine-optimal", 1)):
        with pytest.raises(ValueError, match=r"no (activation|sine)"):
            activations.named(name, dimension)


def test_exponents_and_their_control() -> None:
    right, wrong = (run(theory.Exponents(coordinates=c)).metrics for c in (False, True))
    assert set(right) == theory.Exponents.produces({})
    for name in right:
        assert right[name].value < 0.02 and wrong[name].value == pytest.approx(1, abs=0.02)


def test_deep_relu_kernels_tend_to_a_quarter_and_to_one() -> None:
    found = run(theory.Limits(depth=1000, tangent_depth=100_000))
    ratio, covariance = found.metrics["relu_ratio"], found.metrics["relu_nngp"]
    assert ratio.value == pytest.approx(0.25, abs=0.01) and covariance.value > 0.999
    excess = found.series["relu_excess"]
    assert excess.y[1] / excess.y[2] == pytest.approx(10, rel=0.2)  # like 1 / L
    assert found.metrics["tangent_error"].value < 1e-2
    assert theory.kernels.log_ntk_diagonal(Relu(), 9) == pytest.approx(math.log(10))
