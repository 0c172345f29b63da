"""Models of several seeds trained as one end where each would by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from harness.loading.splits import Splits, Tensors
from harness.procedures.base import Diverged, Outcome, Separately, Trial
from harness.procedures.checkpoints import Checkpoints, Stopped
from harness.procedures.fit import Fit
from harness.reproduction import reproduce

TOLERANCE = 1e-4  # relative: floating-point sums are taken in another order
SEEDS = [3, 1, 8]


def data(seed: int = 0, size: int = 90) -> Splits:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size + 60, 6, generator=generator)
    y = (x[:, 0] * x[:, 1] > 0).long()
    parts = [Tensors(x=x[a:b], y=y[a:b]) for a, b in ((0, size), (size, size + 30))]
    return Splits(parts[0], val=parts[1], test=Tensors(x=x[-30:], y=y[-30:]))


class Net(nn.Module):
    def __init__(self, *middle: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 8), *middle, nn.ReLU(), nn.Linear(8, 2))

    def forward(self, x):
        return self.layers(x)


class Branching(Net):
    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)


class Hidden(Net):
    """Has state that is no parameter and no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.rand(())

    def forward(self, x):
        return super().forward(x) * self.scale


class Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(16, 2))

    def forward(self, x):
        return self.layers(x[:, None])


def fit(**arguments) -> Fit:
    defaults = {
        "loss": nn.CrossEntropyLoss(),
        "metrics": {"accuracy": MulticlassAccuracy(num_classes=2, average="micro")},
        "optimizer": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
        "epochs": 4,
        "batch_size": 32,
    }
    return Fit(**{**defaults, **arguments})


def trials(folder: Path, model=Net, given=None, seeds=SEEDS, **more) -> list[Trial]:
    given = given or [data()] * len(seeds)
    return [
        Trial(
            seed=seed,
            data=splits,
            model=model,
            device=torch.device("cpu"),
            workdir=folder / str(seed),
            **more,
        )
        for seed, splits in zip(seeds, given, strict=True)
    ]


def figures(outcome: Outcome) -> dict[str, float]:
    return {k: getattr(v, "value", v) for k, v in outcome.metrics.items()}


def same(one: Outcome, other: Outcome) -> None:
    assert figures(one) == pytest.approx(figures(other), rel=TOLERANCE)
    assert one.series.keys() == other.series.keys()
    for name in one.series:
        assert one.series[name].x == other.series[name].x
        assert one.series[name].y == pytest.approx(other.series[name].y, rel=TOLERANCE), name


WAYS = {
    "plain": {},
    "clip-norm": {"clip_norm": 0.1},
    "clip-value": {"clip_value": 0.01},
    "momentum": {"optimizer": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)},
    "decay": {"optimizer": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1)},
    "schedule": {"schedule": lambda o: torch.optim.lr_scheduler.StepLR(o, 2)},
    "by-step": {
        "schedule": lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9),
        "schedule_every": "step",
    },
    "dropped": {"drop_last": True, "eval_every": 3, "eval_batch_size": 7},
}


@pytest.mark.parametrize("way", WAYS)
def test_each_seed_ends_where_it_would_alone(way, tmp_path) -> None:
    procedure = fit(**WAYS[way])
    together = procedure.run_together(trials(tmp_path))
    for found, trial in zip(together, trials(tmp_path), strict=True):
        same(found, procedure.run(trial))
    assert len({found.metrics["train_loss"] for found in together}) == 3


@pytest.mark.parametrize(
    "model", [Patches, lambda: Net(nn.LayerNorm(8)), lambda: Net(nn.BatchNorm1d(8))]
)
def test_other_architectures(model, tmp_path) -> None:
    # Not Adam: it would turn the rounding errors of a bias before a norm into steps.
    procedure = fit(**WAYS["momentum"])
    found = procedure.run_together(trials(tmp_path, model))
    for one, trial in zip(found, trials(tmp_path, model), strict=True):
        same(one, procedure.run(trial))


def test_each_seed_may_have_data_of_its_own(tmp_path) -> None:
    given = [data(seed) for seed in SEEDS]
    found = fit().run_together(trials(tmp_path, given=given))
    for one, trial in zip(found, trials(tmp_path, given=given), strict=True):
        same(one, fit().run(trial))


@pytest.mark.parametrize("model", [lambda: Net(nn.Dropout(0.5)), Branching, Hidden])
def test_what_has_no_faithful_vectorised_form_is_refused(model, tmp_path) -> None:
    with pytest.raises(Separately):
        fit().run_together(trials(tmp_path, model))


def test_an_optimizer_that_mixes_elements_is_refused(tmp_path) -> None:
    with pytest.raises(Separately, match="LBFGS"):
        fit(optimizer=torch.optim.LBFGS).run_together(trials(tmp_path))


def test_unequal_data_or_models_are_refused(tmp_path) -> None:
    given = [data(size=90), data(size=80), data(size=70)]
    with pytest.raises(Separately, match="numbers of examples"):
        fit().run_together(trials(tmp_path, given=given))
    models = [Net, Patches, Net]
    mixed = [replace(t, model=m) for t, m in zip(trials(tmp_path), models, strict=True)]
    with pytest.raises(Separately):
        fit().run_together(mixed)


def test_one_that_diverges_leaves_the_others_alone(tmp_path) -> None:
    def broken() -> nn.Module:
        net = Net()
        nn.init.constant_(net.layers[0].weight, 1e38)
        return net

    whole = trials(tmp_path)
    found = fit().run_together([whole[0], replace(whole[1], model=broken), whole[2]])
    assert isinstance(found[1], Diverged)
    same(found[0], fit().run(whole[0]))
    same(found[2], fit().run(whole[2]))


def stopped(folder: Path, stop: bool) -> list[Trial]:
    """Trials with a checkpoint after every epoch; the first run stops after its second."""
    asked = iter([False] * 3 + [True] * 9)
    first, *others = trials(folder)
    checkpoints = Checkpoints(
        folder / "checkpoints", every=0, stopping=lambda: stop and next(asked)
    )
    return [replace(first, checkpoints=checkpoints), *others]


def test_an_interrupted_group_goes_on_bit_for_bit(tmp_path) -> None:
    whole = fit(epochs=6, clip_norm=0.5).run_together(trials(tmp_path / "whole"))
    procedure = fit(epochs=6, clip_norm=0.5)
    with pytest.raises(Stopped):
        procedure.run_together(stopped(tmp_path, stop=True))
    assert list((tmp_path / "checkpoints").iterdir())
    assert procedure.run_together(stopped(tmp_path, stop=False)) == whole


def test_a_checkpoint_of_another_group_is_not_used(tmp_path) -> None:
    with pytest.raises(Stopped):
        fit().run_together(stopped(tmp_path, stop=True))
    alone = stopped(tmp_path, stop=False)[0]
    assert fit().run(alone) == fit().run(trials(tmp_path)[0])


def test_after_a_group_a_trial_alone_goes_on_from_its_own(tmp_path) -> None:
    """The group's checkpoint is further on, and would hide those that can be used."""
    with pytest.raises(Stopped):
        fit().run_together(stopped(tmp_path, stop=True))
    first = trials(tmp_path)[0]
    once = Checkpoints(tmp_path / "checkpoints", every=0, stopping=lambda: True)
    with pytest.raises(Stopped):
        fit().run(replace(first, checkpoints=once))
    reported = []
    again = Checkpoints(tmp_path / "checkpoints", every=0)
    found = fit().run(replace(first, checkpoints=again, report=reported.append))
    assert reported[0].step == 2, "its first epoch is not made again"
    assert found == fit().run(first)


def test_models_with_dropout_run_one_by_one_and_say_so(project, edit_spec) -> None:
    edit_spec(lambda spec: spec["tiers"]["cpu"].update(together=2, seeds=2))
    outcome = reproduce("toy", "cpu", variants=["net"])
    assert [record.status for record in outcome.records] == ["done", "done"]
    assert all("together" not in r.provenance.hardware for r in outcome.records)
    logs = list(project.glob("runs/toy/cpu/*/log.txt"))
    assert any("one by one" in log.read_text() for log in logs)


def test_models_without_it_are_trained_together(project, edit_spec) -> None:
    parts = project / "experiments" / "toy" / "parts.py"
    parts.write_text(parts.read_text().replace("nn.Dropout(0.1), ", ""))
    alone = reproduce("toy", "cpu", variants=["net"], seeds=2)
    edit_spec(lambda spec: spec["tiers"]["cpu"].update(together=2))
    together = reproduce("toy", "cpu", variants=["net"], seeds=2, force=True)
    assert [r.provenance.hardware["together"] for r in together.records] == [2, 2]
    for one, other in zip(alone.records, together.records, strict=True):
        assert one.resources.samples == other.resources.samples > 0
        for name, value in one.metrics.items():
            found = other.metrics[name].value
            assert found == pytest.approx(value.value, rel=1e-3), name
