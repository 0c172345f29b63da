import pytest
import torch

from experiments.starflow.model import Flow
from experiments.starflow.theory import GuidedGaussians, Identities, PeekingFlow, Size, Times
from harness.procedures.base import Trial
from harness.seeding import seed_all

SHAPE = {"rows": 2, "columns": 2, "features": 2, "classes": 3}
SETTINGS = {**SHAPE, "width": 8, "head": 4, "layers": (1, 2)}


def run(procedure, model=None):
    seed_all(0)
    outcome = procedure.run(Trial(0, None, model, torch.device("cpu"), None))
    assert set(outcome.metrics) == procedure.produces({})
    return outcome.metrics


@pytest.mark.parametrize("kind", ["starflow", "tarflow"])
def test_flows_are_exact(kind):
    found = run(Identities(2), lambda: Flow(**SETTINGS, kind=kind))
    assert found["inverse_error"] < 1e-12 and found["logdet_error"] < 1e-12


def test_a_flow_that_peeks_is_neither_inverted_nor_measured():
    found = run(Identities(2), lambda: PeekingFlow(**SETTINGS))
    assert found["inverse_error"] > 0.01 and found["logdet_error"] > 0.01


def test_the_product_has_the_guided_score_and_extrapolation_has_not():
    found = {rule: run(GuidedGaussians(rule, 200)) for rule in ("product", "linear", "log-linear")}
    assert found["product"]["score_error"] < 1e-9
    assert 0.3 < found["product"]["least_scale"] < 1
    assert found["linear"]["score_error"] > 1 and found["linear"]["least_scale"] < 0
    assert found["log-linear"]["score_error"] > 1 and found["log-linear"]["least_scale"] > 0


def test_sizes_are_counted_by_hand():
    model = lambda: Flow(32, 32, 4, 1000, 2048, (2, 2, 2, 2, 2, 18), 64)  # noqa: E731
    w = 2048
    layer = 4 * w * w + 4 * w + 8 * w * w + 5 * w + 4 * w  # attention, MLP, two norms
    block = (4 * w + w) + (8 * w + 8) + 4 + w  # in, out, first token, last norm
    prefix = 1000 * w + w
    assert run(Size(), model)["parameters"].value == 28 * layer + 6 * block + prefix


def test_ratios_of_times_are_of_the_one_over_the_other():
    shared = {**SHAPE, "head": 8}
    slow, fast = {"width": 8, "layers": [12, 12]}, {"width": 8, "layers": [1]}
    found = run(Times(slow, fast, shared, batch=2))
    assert all(found[name] > 1.5 for name in ("sampling_ratio", "unguided_ratio", "step_ratio"))
    counts = [
        sum(p.numel() for p in Flow(**shared, **s, told=t).parameters())
        for s, t in ((slow, "all"), (fast, "deep"))
    ]
    assert found["parameter_ratio"].value == counts[0] / counts[1]
