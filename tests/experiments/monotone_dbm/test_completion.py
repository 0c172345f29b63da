import pytest
import torch
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy

from baselines.metrics import CrossEntropy
from experiments.monotone_dbm.completion import (
    INSPECTED,
    Completion,
    HiddenError,
    focal_loss,
    pixel_logits,
)
from experiments.monotone_dbm.data import OBSERVED
from experiments.monotone_dbm.model import BoltzmannMachine, LinearReader
from harness.loading.splits import Splits, Tensors
from harness.procedures.base import Trial
from harness.seeding import seed_all

KERNELS = [[3, 0, 0], [3, 3, 0], [0, 1, 1]]


def completion(**settings):
    metrics = {
        "accuracy": MulticlassAccuracy(2, average="micro"),
        "hidden_nll": CrossEntropy(),
        "hidden_error": HiddenError(2),
    }
    base = {"optimizer": lambda p: torch.optim.Adam(p, lr=0.1), "batch_size": 20}
    return Completion(classes=2, inspected=20, metrics=metrics, **(base | settings))


def machine(**settings):
    return BoltzmannMachine(4, 2, 2, [(2, 2, 2)], KERNELS, sharpness=36.0, **settings)


def halves(train=200, test=200, shuffle=False):
    """Ink in the left half or in the upper half, one pixel in ten turned over."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(2, (train + test,), generator=generator)
    half = (torch.arange(4) < 2).long().expand(4, 4)
    x = torch.where(y[:, None, None] == 0, half, half.T)
    turned = torch.rand(x.shape, generator=generator) < 0.1
    x = torch.where(turned, 1 - x, x)
    seen = torch.rand(x.shape, generator=generator) < OBSERVED
    taught = y[:train]
    if shuffle:
        taught = torch.zeros_like(taught)
        for digit in (0, 1):  # half of either kind, so that labels tell nothing of the image
            taught[torch.nonzero(y[:train] == digit)[::2, 0]] = 1
    held = Tensors(x=x[train:], y=y[train:], seen=seen[train:])
    return Splits(Tensors(x=x[:train], y=taught), held)


def run(data, model, tmp_path, seed=0, **settings):
    seed_all(seed)
    trial = Trial(seed, data, model, torch.device("cpu"), tmp_path)
    outcome = completion(**settings).run(trial)
    return {name: getattr(value, "value", value) for name, value in outcome.metrics.items()}


def test_one_machine_learns_to_classify_and_to_complete(tmp_path):
    found = run(halves(), machine, tmp_path, epochs=5)
    floor = run(halves(), unlinked, tmp_path, epochs=5)
    declared = Completion.produces({"metrics": {}})
    assert declared > INSPECTED
    assert found["accuracy"] > 0.7 > 0.6 > floor["accuracy"]
    assert found["hidden_error"] < 0.22 < 0.26 < floor["hidden_error"]
    assert found["hidden_nll"] < floor["hidden_nll"] - 0.01
    assert found["start_spread"] < 1e-3 and found["unsettled"] == 0
    assert found["start_dependent"] == found["label_depends"] == 0


def unlinked():
    none = [[0] * 3] * 3
    return BoltzmannMachine(4, 2, 2, [(2, 2, 2)], none, "restricted", "parallel", steps=1)


def test_on_shuffled_labels_it_ends_at_chance_and_completes_all_the_same(tmp_path):
    found = run(halves(shuffle=True), machine, tmp_path, epochs=4)
    assert 0.35 < found["accuracy"] < 0.65
    assert found["hidden_error"] < 0.25


def test_a_machine_with_several_answers_is_seen_to_have_them(tmp_path):
    """Strong free couplings between layers: what comes out depends on the start."""

    def strong():
        torch.manual_seed(0)
        return BoltzmannMachine(
            4, 2, 2, [(2, 2, 2)], KERNELS, "restricted", "parallel", steps=20, gain=40.0
        )

    trial = Trial(0, halves(), strong, torch.device("cpu"), tmp_path)
    found = completion().measure(strong().eval(), trial).metrics
    assert set(found) == INSPECTED
    assert found["start_dependent"] > 0.3
    assert found["start_spread"] > 0.3
    assert found["label_depends"] > 0.2 and found["unsettled"] > 0.2


def test_the_focal_loss_is_the_official_one():
    """NLLLoss weighted by (1 - β)/(1 - βⁿ), of (1 - p)² log p."""
    logits = torch.randn(40, 4, dtype=torch.float64)
    target = torch.randint(3, (40,))  # the last level does not occur
    counts = torch.bincount(target, minlength=4).double()
    weights = (1 - 0.9999) / (1 - 0.9999**counts)
    p = logits.softmax(1)
    weighted = (1 - p) ** 2 * p.log()
    expected = F.nll_loss(weighted, target, weight=weights.nan_to_num(0, 0, 0))
    torch.testing.assert_close(focal_loss(logits, target), expected)


def test_metrics_are_of_hidden_pixels_alone():
    data = halves(test=6).test
    batch = data[torch.arange(6)]
    output = torch.randn(6, 2 + 2 * 16, dtype=torch.float64)
    fit = completion()
    hidden = ~batch["seen"]
    changed = output.clone()
    grey = changed[:, 2:].view(6, 2, 4, 4)
    grey[batch["seen"][:, None].expand_as(grey)] += 5 * torch.randn(1).double().abs()
    for name in ("hidden_nll", "hidden_error"):
        meters = [fit.metrics[name].clone() for _ in range(2)]
        for meter, out in zip(meters, (output, changed), strict=True):
            fit.scored(meter, out, batch)
        assert meters[0].compute() == meters[1].compute()
    logits = pixel_logits(output, batch["x"], 2)
    assert logits.shape == (6, 4, 4, 2)
    torch.testing.assert_close(logits[2, 1, 3], output[2, 2:].view(2, 4, 4)[:, 1, 3])
    fit.scored(meter := fit.metrics["hidden_nll"].clone(), output, batch)
    expected = F.cross_entropy(logits[hidden], batch["x"][hidden])
    torch.testing.assert_close(meter.compute(), expected)


def test_the_error_counts_levels_alike():
    meter = HiddenError(3)
    logits = F.one_hot(torch.tensor([0, 0, 0, 0, 1]), 3).float()
    meter.update(logits, torch.tensor([0, 0, 0, 1, 1]))
    assert float(meter.compute()) == pytest.approx(0.25)


def test_the_loss_is_half_completion_and_half_classification():
    batch = halves().test[torch.arange(8)]
    model = LinearReader(4, 2, 2)
    fit = completion()
    output = model(batch["x"], batch["seen"])
    hidden = ~batch["seen"]
    grey = output[:, 2:].view(8, 2, 4, 4).movedim(1, -1)
    expected = 0.5 * focal_loss(grey[hidden], batch["x"][hidden])
    expected = expected + 0.5 * F.cross_entropy(output[:, :2], batch["y"])
    torch.testing.assert_close(fit.training_loss(model, batch, None), expected)


class At:
    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)


def test_every_training_batch_sees_other_pixels_the_same_again_when_resumed():
    batch = halves().train[torch.arange(100)]
    first, again, other = (completion().augment(batch, At(s))["seen"] for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert float(first.double().mean()) == pytest.approx(0.4, abs=0.03)


def test_a_linear_reader_does_not_look_at_what_is_hidden():
    batch = halves().test[torch.arange(8)]
    model = LinearReader(4, 2, 2)
    other = torch.where(batch["seen"], batch["x"], 1 - batch["x"])
    assert torch.equal(model(batch["x"], batch["seen"]), model(other, batch["seen"]))
