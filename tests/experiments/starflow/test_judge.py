import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from experiments.starflow.data import chains
from experiments.starflow.judge import Guidance, Judge, frechet
from experiments.starflow.model import Flow
from harness.procedures.base import Trial
from harness.seeding import seed_all


def test_the_distance_is_frechets():
    seed_all(0)
    a, b = torch.randn(60, 5).double(), (torch.randn(80, 5) @ torch.randn(5, 5) + 1).double()
    s, t = (np.cov(x.numpy().T) for x in (a, b))
    gap = (a.mean(0) - b.mean(0)).square().sum()
    wanted = float(gap) + np.trace(s + t - 2 * sqrtm(s @ t).real)
    assert frechet(a, b) == pytest.approx(wanted, rel=1e-8)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    flat = torch.cat([a, torch.zeros(60, 2)], 1)  # a feature that is always off
    assert frechet(flat, flat) == pytest.approx(0, abs=1e-6)


def test_the_judge_sees_grey_levels_between_black_and_white():
    judge = Judge(8, 3)
    x = torch.tensor([-5.0, -1, -0.5, 0, 0.5, 1, 2, 9]).view(1, 2, 4)
    assert torch.equal(judge(x), judge(x.clamp(-1, 1)))
    assert not torch.equal(judge(x), judge(x / 2))


class Told(Flow):
    """Decodes to the test images, moved: least by the product at 1, by extrapolation at 0."""

    images: torch.Tensor

    def decode(self, z, label=None, weight=0.0, rule="product"):
        away = abs(weight - 1) if rule == "product" else weight
        return self.images[: len(z)] + 0.3 * away


def guidance(rule="product"):
    return Guidance(
        rule,
        weights=[0.0, 1.0, 4.0],
        samples=100,
        judge_steps=60,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=1e-2),
        steps=2,
        eval_steps=2,
        batch_size=32,
    )


def run(tmp_path, model, rule="product"):
    seed_all(0)
    data = chains(256, 400, 200)
    made = model(data)
    outcome = guidance(rule).run(Trial(0, data, lambda: made, torch.device("cpu"), tmp_path))
    assert set(outcome.metrics) | set(outcome.series) == Guidance.produces({})
    return outcome


def told(data):
    made = Told(4, 4, 4, 4, 16, (1,), 8)
    made.images = data.test.columns["x"]
    return made


def test_a_sweep_judges_every_weight_by_the_rule(tmp_path):
    helped, hurt = (run(tmp_path / rule, told, rule) for rule in ("product", "linear"))
    assert helped.metrics["judge_accuracy"] > 0.9
    distances, shares = helped.series["feature_distance"], helped.series["label_share"]
    assert distances.x == [0.0, 1.0, 4.0] and distances.y[1] < distances.y[0] < distances.y[2]
    assert shares.y[1] == pytest.approx(helped.metrics["judge_accuracy"], abs=0.1)
    assert shares.y[2] < shares.y[1]
    spread = np.log10(distances.y[2] / distances.y[1])
    assert helped.metrics["log_spread"] == pytest.approx(spread)
    chosen, plain = (helped.metrics[f"{name}_distance"] for name in ("chosen", "plain"))
    assert [plain, chosen] == distances.y[:2]
    assert hurt.metrics["chosen_distance"] == hurt.metrics["plain_distance"]


def test_the_weight_is_chosen_on_validation_images(tmp_path):
    """Validation images look like samples without guidance, test images like those at 1."""

    def moved(data):
        data.val.columns["x"] = told(data).decode(data.test.columns["x"], weight=0.0)
        return told(data)

    found = run(tmp_path, moved)
    assert found.metrics["chosen_distance"] == found.metrics["plain_distance"]
    assert found.metrics["chosen_distance"] > min(found.series["feature_distance"].y)


def test_rules_share_flow_noise_and_judge(tmp_path):
    model = lambda data: Flow(4, 4, 4, 4, 16, (1, 1), 8)  # noqa: E731
    one, other = (run(tmp_path / rule, model, rule) for rule in ("product", "log-linear"))
    first = [o.series["feature_distance"].y for o in (one, other)]
    assert first[0][0] == first[1][0] and first[0][2] != first[1][2]
