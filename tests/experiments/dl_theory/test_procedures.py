"""The procedures: what they report, small known results, controls, bad input."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from experiments.dl_theory.data import two_digits
from experiments.dl_theory.preactivations import DeepLinear, Preactivations, TwoInputs
from experiments.dl_theory.tangent import TangentKernel
from experiments.dl_theory.theory import Criticality, KernelFlow, one_sidedness
from experiments.dl_theory.training import (
    Networks,
    Training,
    limit_kernel,
    pair_average,
    prediction_gap,
)
from harness.judging.quantities import fit_slope
from harness.procedures.base import Diverged, Outcome, Trial


def run(procedure: Any, data: Any = None, seed: int = 0) -> Outcome:
    trial = Trial(seed, data, nn.Identity, torch.device("cpu"), Path())
    outcome: Outcome = procedure.run(trial)
    return outcome


SMALL: list[tuple[Any, dict[str, Any]]] = [
    (Preactivations, {"activation": "relu", "width": 16, "depth": 5, "networks": 200}),
    (
        Preactivations,
        {"activation": "sin", "width": 16, "depth": 5, "networks": 200, "widths": [8, 16]},
    ),
    (DeepLinear, {"networks": 400, "aspect_networks": 400, "widths": [8, 16]}),
    (TwoInputs, {"width": 64, "depth": 20, "networks": 20}),
    (TangentKernel, {"activation": "relu", "widths": [8, 16], "depth": 4, "networks": 40}),
    (KernelFlow, {"activation": "tanh", "depth": 300}),
    (KernelFlow, {"activation": "relu", "depth": 300}),
]


@pytest.mark.parametrize(("procedure", "arguments"), SMALL)
def test_procedures_report_what_they_say(procedure: Any, arguments: dict[str, Any]) -> None:
    outcome = run(procedure(**arguments))
    assert {*outcome.metrics, *outcome.series} == procedure.produces(arguments)


def test_a_seed_decides_the_networks() -> None:
    small = Preactivations("tanh", width=16, depth=5, networks=100)
    assert run(small).metrics == run(small).metrics
    assert run(small).metrics != run(small, seed=1).metrics


def test_batches_do_not_change_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def vertex() -> float:
        found = run(Preactivations("relu", width=32, depth=3, networks=20_000))
        return float(found.metrics["second_layer_over_theory"].value)  # type: ignore[union-attr]

    assert vertex() == pytest.approx(1, abs=0.1)
    monkeypatch.setattr("experiments.dl_theory.ensembles._NUMBERS_AT_ONCE", 32 * 70)
    assert vertex() == pytest.approx(1, abs=0.1)


def test_kernel_grows_by_its_off_critical_factor() -> None:
    for scale in (0.9, 1.0, 1.1):
        found = run(Preactivations("relu", weight_scale=scale, width=64, depth=8, networks=4000))
        rate: Any = found.metrics["growth_rate"]
        assert abs(rate.value - math.log(scale)) < 4 * rate.stderr + 1e-3


def test_the_vertex_of_relu_networks_grows_by_a_factor() -> None:
    """By 1 + 5/n a layer, at any depth; a straight line through twelve layers has slope 8/n."""
    found = run(Preactivations("relu", width=64, depth=12, networks=20_000))
    rate: Any = found.metrics["vertex_rate"]
    assert abs(rate.value - 5) < 4 * rate.stderr < 2


def test_linear_networks_collapse_at_one_aspect_ratio_and_not_at_one_depth() -> None:
    options = {"networks": 100, "aspect_networks": 20_000, "widths": [8, 32]}
    spreads = [
        run(DeepLinear(**options, same_depth=depth)).metrics["aspect_spread"] for depth in (None, 9)
    ]
    assert spreads[0].value < 0.3 < spreads[1].value


def test_angles_of_wide_networks_follow_the_recursion() -> None:
    found: Any = run(TwoInputs(width=2048, depth=20, networks=60)).metrics["angle_over_theory"]
    assert found.value == pytest.approx(1, abs=0.05)


def test_tangent_fluctuation_falls_with_width() -> None:
    found = run(TangentKernel("relu", widths=[8, 16, 32], depth=3, probe=2, networks=2000))
    exponent = fit_slope(found.series["fluctuation_by_width"], "log-log").value
    assert exponent == pytest.approx(-1, abs=0.1)


def test_power_laws_of_the_two_classes() -> None:
    tanh = run(KernelFlow("tanh", depth=3000)).series
    assert fit_slope(tanh["parallel"], "log-log").value == pytest.approx(-2, abs=0.05)
    assert fit_slope(tanh["perpendicular"], "log-log").value == pytest.approx(-1, abs=0.05)
    relu: Any = run(KernelFlow("relu", depth=10_000)).metrics["depth_times_angle"]
    assert relu.value == pytest.approx(3 * math.pi, rel=0.01)


def test_off_criticality_the_decay_is_no_power_law() -> None:
    low: Any = run(KernelFlow("tanh", weight_scale=0.99, depth=2000)).metrics["decay_exponent"]
    high: Any = run(KernelFlow("tanh", weight_scale=1.01, depth=2000)).metrics["decay_exponent"]
    assert low.value < -3
    assert high.value > -0.5


def test_one_sidedness_tells_half_stable_from_stable() -> None:
    assert one_sidedness((2.0, -2.0)) == 1
    assert one_sidedness((2.0, 2.0)) == 0
    found: Any = run(Criticality("gelu")).metrics
    assert found["one_sidedness"].value == pytest.approx(1)
    assert {*found} == Criticality.produces({})
    assert {*run(Criticality("softplus")).metrics} == {"critical_points"}


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="fit_from"):
        Preactivations("relu", depth=5, fit_from=5)
    with pytest.raises(ValueError, match="probe"):
        TangentKernel("relu", depth=3, probe=4)
    with pytest.raises(ValueError, match="blocks"):
        run(Preactivations("relu", width=4, depth=3, networks=5))
    with pytest.raises(ValueError, match="even"):
        two_digits(0, train=7)
    with pytest.raises(ValueError, match="only"):
        two_digits(0, train=300, test=300)


def test_training_step_and_tangent_kernel_are_autograds() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(4, 5, generator=generator), torch.randn(4, generator=generator)
    networks = Networks(2, 5, 7, 3, generator)
    for w in networks.weights:
        w.requires_grad_()
    outputs = networks.outputs(x)
    kernel = torch.zeros(2, 4, 4)
    for member in range(2):
        rows = [
            torch.cat(
                [
                    g[member].flatten()
                    for g in torch.autograd.grad(o, networks.weights, retain_graph=True)
                ]
            )
            for o in outputs[member]
        ]
        jacobian = torch.stack(rows)
        kernel[member] = jacobian @ jacobian.T
    assert torch.allclose(networks.tangent_kernel(x), kernel, atol=1e-5)
    gradients = torch.autograd.grad((outputs - y).square().sum() / 2, networks.weights)
    expected = [(w - 0.1 * g).detach() for w, g in zip(networks.weights, gradients, strict=True)]
    networks.weights = [w.detach() for w in networks.weights]
    networks.step(x, y, 0.1)
    for after, reference in zip(networks.weights, expected, strict=True):
        assert torch.allclose(after, reference, atol=1e-6)


def test_pair_averages_of_sine_in_closed_form() -> None:
    kernel = torch.tensor([[1.0, 0.3], [0.3, 0.5]], dtype=torch.float64)
    variance = kernel.diagonal()
    damping = torch.exp(-(variance[:, None] + variance) / 2)
    assert torch.allclose(pair_average(torch.sin, kernel), damping * torch.sinh(kernel))
    assert torch.allclose(pair_average(torch.cos, kernel), damping * torch.cosh(kernel))


def test_wide_networks_have_the_limits_tangent_kernel() -> None:
    generator = torch.Generator().manual_seed(0)
    x = two_digits(0, train=4).train.columns["x"]  # type: ignore[attr-defined]
    found = Networks(20, x.shape[1], 1024, 3, generator).tangent_kernel(x).mean(0)
    assert torch.allclose(found.double(), limit_kernel(x, 3), rtol=0.05)


def test_prediction_gap_is_free_of_the_scatter_of_a_finite_ensemble() -> None:
    expected = torch.tensor([1.0, -1.0, 0.5, 2.0]).double()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4000, 4, 4, generator=generator).double()
    gaps = [prediction_gap(expected + draw, expected) for draw in noise]
    assert sum(gaps) / len(gaps) == pytest.approx(0, abs=0.01)
    assert prediction_gap((2 * expected).expand(3, 4), expected) == pytest.approx(1)


def test_training_reports_and_learns() -> None:
    outcome = run(Training(widths=[16, 64], depths=[2, 3], members=6, steps=60), two_digits(0))
    assert {*outcome.metrics, *outcome.series} == Training.produces({})
    assert outcome.metrics["train_error"] < 0.1  # type: ignore[operator]
    narrow, wide = outcome.series["kernel_change"].y
    assert wide < narrow


def test_wide_networks_descend_as_their_tangent_kernel_says() -> None:
    """After 10 steps their outputs still depend on the step size."""
    outcome = run(Training(widths=[512], depths=[2], members=24, steps=10), two_digits(0))
    assert outcome.metrics["prediction_gap"] == pytest.approx(0, abs=0.01)


def test_training_with_too_large_a_step_is_an_error() -> None:
    with pytest.raises(Diverged, match="error"):
        run(Training(widths=[16], depths=[2], members=4, rate=100.0), two_digits(0))


def test_two_digits_are_balanced_and_normalised() -> None:
    data = two_digits(3)
    train, test = data.train.columns, data.test.columns  # type: ignore[attr-defined]
    assert train["y"].sum() == 0 and len(train["y"]) == 8 and len(test["y"]) == 16
    assert torch.allclose(train["x"].square().mean(1), torch.ones(8))
    assert not (train["x"][:, None] == test["x"]).all(-1).any()
    assert not torch.equal(two_digits(4).train.columns["x"], train["x"])  # type: ignore[attr-defined]
