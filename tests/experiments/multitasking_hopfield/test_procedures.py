"""The procedures: what they report, small known results, controls, bad input."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from experiments.multitasking_hopfield.learning import (
    Collapse,
    Learning,
    OnePattern,
    Setting,
    crossing,
    quality_of,
)
from experiments.multitasking_hopfield.minima import (
    Minima,
    energy_from_losses,
    local_minima,
    squared_errors,
)
from experiments.multitasking_hopfield.network import HebbianNetwork
from experiments.multitasking_hopfield.patterns import diluted, signs
from experiments.multitasking_hopfield.storing import Dilution, Noise, over_draws
from experiments.multitasking_hopfield.theory import data_set_entropy
from experiments.multitasking_hopfield.thresholds import Onset, Stability, Thresholds
from harness.procedures.base import Outcome, Trial

STORING: dict[str, Any] = {"patterns": 3, "draws": 4, "neurons": 2000, "updates": 60}
SMALL: dict[str, Any] = {"draws": 3, "neurons": 1500, "updates": 30}
GRID: dict[str, Any] = {"qualities": [0.4], "examples": [[7, 14, 28, 60]]}


def trial(seed: int) -> Trial:
    return Trial(seed, None, nn.Identity, torch.device("cpu"), Path())


def run(procedure: Any, seed: int = 0) -> Outcome:
    outcome: Outcome = procedure.run(trial(seed))
    return outcome


def value(outcome: Outcome, metric: str) -> float:
    measured: Any = outcome.metrics[metric]
    return float(measured.value)


CASES: list[tuple[Any, dict[str, Any]]] = [
    (Dilution, STORING | {"dilutions": [0.3, 0.6], "noise": 0.1}),
    (Dilution, STORING | {"dilutions": [0.3], "noise": 0.1, "kind": "filled"}),
    (Noise, STORING | {"dilution": 0.8, "noises": [0.1, 0.4]}),
    (Noise, STORING | {"dilution": 0.8, "noises": [0.1, 0.4], "kind": "disjoint"}),
    (Stability, {"patterns": [3, 4]}),
    (
        Thresholds,
        {"patterns": [3], "lowest": 0.5, "step": 0.04, "points": 5, "draws": 3, "neurons": 500},
    ),
    (Onset, STORING | {"dilutions": [0.5], "noises": [1.5]}),
    (Learning, SMALL | GRID | {"protocol": "supervised"}),
    (Learning, SMALL | GRID | {"protocol": "relabelled", "level": 0.75}),
    (Collapse, SMALL | {"protocol": "unsupervised", "entropies": [0.2], "examples": [5, 20]}),
    (OnePattern, SMALL | GRID),
    (Minima, {"networks": 3, "small": 6, "large": 30}),
]


@pytest.mark.parametrize(("procedure", "arguments"), CASES)
def test_procedures_report_what_they_say(procedure: Any, arguments: dict[str, Any]) -> None:
    outcome = run(procedure(**arguments))
    assert {*outcome.metrics, *outcome.series} == procedure.produces(arguments)


def test_a_seed_decides_the_patterns() -> None:
    small = Dilution(**STORING, dilutions=[0.3], noise=0.1)
    assert run(small).metrics == run(small).metrics
    assert run(small).metrics != run(small, seed=1).metrics


def test_mild_dilution_is_hierarchical_and_strong_dilution_even() -> None:
    large = STORING | {"neurons": 20_000, "updates": 80}
    mild = run(Dilution(**large, dilutions=[0.3], noise=0.02))
    assert mild.series["leading"].y[0] == pytest.approx(0.7, abs=0.01)
    assert mild.series["amplitude_ratio"].y[0] == pytest.approx(0.3, abs=0.03)
    assert value(mild, "theory_error") < 0.02
    strong = run(Dilution(**large, dilutions=[0.9], noise=0.4))
    assert value(strong, "evenness") > 0.8
    assert strong.series["leading"].y[0] == pytest.approx(0.09, abs=0.01)


def test_without_blanks_one_pattern_is_retrieved_at_a_time() -> None:
    for arguments in ({"dilutions": [0.0]}, {"dilutions": [0.9], "kind": "filled"}):
        found = run(Dilution(**STORING, **arguments, noise=0.4))
        assert found.series["leading"].y[0] > 0.95
        assert value(found, "second_over_first") < 0.08


def test_cross_talk_makes_cold_amplitudes_uneven() -> None:
    large = STORING | {"neurons": 20_000, "updates": 80}
    overlapping = run(Noise(**large, dilution=0.8, noises=[0.02, 0.5]))
    apart = run(Noise(**large, dilution=0.8, noises=[0.02, 0.5], kind="disjoint"))
    assert value(overlapping, "symmetry_gain") > 0.1 > abs(value(apart, "symmetry_gain"))
    assert value(overlapping, "theory_error") < 0.01


def test_thresholds_of_drawn_patterns_are_near_the_closed_form() -> None:
    settings: dict[str, Any] = {"patterns": [3], "lowest": 0.54, "step": 0.02, "points": 9}
    found = run(Thresholds(**settings, draws=10, neurons=5000))
    assert found.series["threshold"].y[0] == pytest.approx(0.618, abs=0.025)
    filled = run(Thresholds(**settings, draws=3, neurons=1000, kind="filled"))
    assert filled.series["threshold"].y[0] == pytest.approx(0.71)


def test_fluctuations_diverge_at_one_minus_d() -> None:
    settings = STORING | {"draws": 30, "neurons": 1000, "updates": 150}
    found = run(Onset(**settings, dilutions=[0.3, 0.7], noises=[1.4]))
    assert value(found, "onset_over_law") == pytest.approx(1, abs=0.06)


def test_learning_is_the_same_with_and_without_a_teacher_but_not_with_random_labels() -> None:
    found = {
        protocol: run(Learning(protocol, **GRID, **(SMALL | {"neurons": 4000})))  # type: ignore[arg-type]
        for protocol in ("supervised", "unsupervised")
    }
    taught, alone = found["supervised"], found["unsupervised"]
    assert abs(value(taught, "performance") - value(alone, "performance")) < 0.02
    assert value(alone, "threshold") / value(taught, "threshold") == pytest.approx(1, abs=0.1)
    assert value(taught, "threshold") == pytest.approx(
        2.15, abs=0.3
    )  # M r²/(1 - r²), by theory 2.15
    assert value(taught, "theory_error") < 0.03
    misled = run(Learning("relabelled", **GRID, **SMALL, level=0.75))
    assert value(misled, "performance") < value(taught, "performance") - 0.08


def test_protocols_of_a_seed_learn_from_the_same_examples() -> None:
    """Perfect ones, so that what is left is the patterns themselves."""
    taught, alone = (Setting(p, 3, 0.2, 0.025, **SMALL) for p in ("supervised", "unsupervised"))  # type: ignore[arg-type]
    first, second = taught.retrieved(trial(0), 1.0, 2), alone.retrieved(trial(0), 1.0, 2)
    assert torch.allclose(first[:, 0], second[:, 0], atol=2e-3)
    assert not torch.allclose(first[:, 0], taught.retrieved(trial(1), 1.0, 2)[:, 0], atol=2e-3)


def test_examples_without_information_teach_nothing() -> None:
    for protocol in ("supervised", "unsupervised"):
        setting = Setting(protocol, 3, 0.2, 0.025, **SMALL)  # type: ignore[arg-type]
        assert setting.retrieved(trial(0), 1e-3, 10).norm(dim=-1).max() < 0.2 * setting.stored()


def test_what_is_retrieved_is_that_of_the_second_half_of_the_updates(monkeypatch) -> None:
    def counted(self, state, noise, drawn, generator) -> torch.Tensor:
        return torch.arange(float(len(noise)))[:, None, None].expand(-1, *drawn.shape[:2])

    monkeypatch.setattr(HebbianNetwork, "sample", counted)
    setting = Setting("supervised", 1, 0.2, 0.025, draws=2, neurons=50, updates=8)
    assert setting.retrieved(trial(0), 0.5, 3).tolist() == [[5.5], [5.5]]


def test_the_error_of_a_mean_falls_with_the_draws() -> None:
    found = over_draws(torch.tensor([1.0, 2.0, 3.0, 6.0]))
    assert (found.value, found.stderr) == (3, pytest.approx((14 / 3 / 4) ** 0.5))
    assert over_draws(torch.tensor([2.0])).stderr is None


def test_equal_entropy_gives_equal_learning_and_another_law_does_not() -> None:
    settings = SMALL | {"entropies": [0.2], "examples": [10, 80], "neurons": 4000}
    assert value(run(Collapse("supervised", **settings)), "collapse_spread") < 0.02
    other = run(Collapse("supervised", **settings, exponent=1.0))
    assert value(other, "collapse_spread") > 0.05


def test_quality_for_an_entropy() -> None:
    assert quality_of(0.2, 50) == pytest.approx((1 + 0.2 * 50) ** -0.5)
    assert data_set_entropy(quality_of(0.35, 8), 8) == pytest.approx(0.35)
    r = quality_of(0.2, 50, exponent=1.0)
    assert (1 - r**2) / (50 * r) == pytest.approx(0.2)


def test_one_pattern_follows_signal_to_noise() -> None:
    found = run(OnePattern([0.2], [[30, 90]], draws=4, neurons=10_000, updates=20))
    assert value(found, "theory_error") < 0.015


def test_thresholds_are_interpolated_where_the_level_is_crossed() -> None:
    assert crossing([1, 4, 16], [0.2, 0.6, 1.0], 0.8) == pytest.approx(8)
    with pytest.raises(ValueError, match="does not rise"):
        crossing([1, 2], [0.2, 0.6], 0.8)


def test_too_few_examples_for_any_figure_are_refused() -> None:
    with pytest.raises(ValueError, match="entropy"):
        run(Learning("supervised", [0.1], [[5]], **SMALL))


def test_losses_are_distances_and_make_up_the_energy() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = diluted((4, 3, 40), 0.3, generator).double()
    state = signs((4, 40), generator).double()
    plus, minus = squared_errors(drawn, state)
    assert plus[1, 2].item() == pytest.approx(torch.dist(drawn[1, 2], state[1]).item() ** 2 / 80)
    assert minus[1, 2].item() == pytest.approx(torch.dist(drawn[1, 2], -state[1]).item() ** 2 / 80)
    energy = HebbianNetwork(drawn).energy(state)
    occupied = drawn.abs().mean(-1)
    assert torch.allclose(energy_from_losses(drawn, state, occupied), energy, atol=1e-12)
    assert not torch.allclose(energy_from_losses(drawn, state, occupied + 0.01), energy, atol=1e-4)


def test_local_minima_by_hand() -> None:
    """Two neurons: states 0 and 3 are neighbours of 1 and 2 only."""
    values = torch.tensor([[0.0, 1.0, 1.0, 0.5], [0.0, -1.0, 1.0, 0.5]])
    assert local_minima(values).tolist() == [
        [True, False, False, True],
        [False, True, False, False],
    ]


def test_cost_and_loss_share_minima_and_half_a_loss_does_not() -> None:
    small: dict[str, Any] = {"networks": 20, "small": 8, "large": 50}
    both = run(Minima(**small))
    assert value(both, "shared_minima") == 1 and value(both, "identity_error") < 1e-12
    assert value(run(Minima(**small, loss="one-sided")), "shared_minima") < 0.5
    assert value(run(Minima(**small, occupied="mean")), "identity_error") > 1e-3
