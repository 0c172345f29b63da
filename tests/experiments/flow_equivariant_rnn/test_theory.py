from pathlib import Path

import pytest
import torch

from experiments.flow_equivariant_rnn.model import TranslationForecaster
from experiments.flow_equivariant_rnn.rotation import RotationForecaster
from experiments.flow_equivariant_rnn.theory import QUARTERS, Cost, FlowError, Size
from harness.procedures.base import Trial


def error(flows, make):
    torch.manual_seed(0)
    trial = Trial(0, None, make, torch.device("cpu"), Path("."))
    return FlowError(flows, side=5, frames=4).run(trial).metrics["flow_error"]


def test_flows_of_translations_need_constant_shifts_and_banks():
    def network(**settings):
        return error("translations", lambda: TranslationForecaster(5, 5, hidden=4, **settings))

    assert network() < 1e-12
    assert network(flow="alternating") > 0.05 and network(reach=0) > 0.05


def test_flows_of_quarter_turns_need_banks_that_turn():
    def network(velocities):
        model = lambda: RotationForecaster(5, hidden=2, velocities=velocities)  # noqa: E731
        return error("quarter turns", model)

    assert network(QUARTERS) < 1e-12 < 0.05 < network((0,))


def test_a_bank_that_is_missing_is_not_compared_with_another():
    assert (
        error("quarter turns", lambda: RotationForecaster(5, hidden=2, velocities=(0, 90))) < 1e-12
    )


def test_operations_of_a_step_are_those_counted_by_hand():
    outcome = Cost(hidden=6, side=5, timed_hidden=2, timed_side=4, repeats=1).run(
        Trial(0, None, None, torch.device("cpu"), Path("."))
    )
    inputs, recurrent = 2 * 25 * 9 * 6, 2 * 25 * 9 * 6 * 6
    banks = outcome.series["operations"].x
    assert banks == [1.0, 9.0, 25.0]
    assert outcome.series["operations"].y == [inputs + n * recurrent for n in banks]
    assert outcome.series["state_bytes"].y == [4 * n * 6 * 25 for n in banks]
    assert outcome.metrics["slowdown"] > 0


@pytest.mark.parametrize("flow, more", [("constant", 0), ("learned", 25 * 25)])
def test_learned_kernels_are_the_only_further_parameters(flow, more):
    trial = Trial(
        0, None, lambda: TranslationForecaster(28, 28, flow=flow), torch.device("cpu"), Path(".")
    )
    assert Size().run(trial).metrics["parameters"].value == 739_584 + more
