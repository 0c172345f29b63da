"""Training against a loop written out by hand, and its parts one by one."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from harness.loading.splits import Batch, Rows, Splits, Tensors
from harness.procedures.base import Diverged, Progress, Trial
from harness.procedures.batches import Batches
from harness.procedures.fit import Fit
from harness.procedures.recipe import At
from harness.seeding import derive, seed_all


def make_data(val: bool = False) -> Splits:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(150, 6, generator=generator)
    y = (x[:, 0] + 0.5 * torch.randn(150, generator=generator) > 0).long()
    parts = [Tensors(x=x[a:b], y=y[a:b]) for a, b in ((0, 90), (90, 120), (120, 150))]
    return Splits(train=parts[0], val=parts[1] if val else None, test=parts[2])


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))


class Keyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, x):
        return self.net(x)


def fit(**arguments) -> Fit:
    defaults = {
        "loss": nn.CrossEntropyLoss(),
        "metrics": {"accuracy": MulticlassAccuracy(num_classes=2, average="micro")},
        "optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
        "epochs": 4,
        "batch_size": 32,
    }
    return Fit(**{**defaults, **arguments})


def trial(tmp_path: Path, data: Splits, seed: int = 3, report=lambda progress: None) -> Trial:
    return Trial(
        seed=seed,
        data=data,
        model=Keyword,
        device=torch.device("cpu"),
        workdir=tmp_path,
        report=report,
    )


def by_hand(data: Splits, seed: int, epochs: int, clip: float) -> tuple[list[float], list[float]]:
    """The same training, written as the plain loop that a researcher would write."""
    seed_all(seed, "model")
    model = Keyword()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    losses, accuracies = [], []
    for epoch in range(epochs):
        seed_all(seed, "epoch", epoch)
        model.train()
        generator = torch.Generator().manual_seed(derive(seed, "shuffle", epoch))
        epoch_losses = []
        for indices in torch.randperm(len(data.train), generator=generator).split(32):
            batch = data.train[indices]
            loss = nn.functional.cross_entropy(model(batch["x"]), batch["y"])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            epoch_losses += [loss.item()] * len(indices)
        schedule.step()
        model.eval()
        test = data.test[torch.arange(len(data.test))]
        with torch.no_grad():
            accuracies.append((model(test["x"]).argmax(1) == test["y"]).float().mean().item())
        losses.append(sum(epoch_losses) / len(epoch_losses))
    return losses, accuracies


def test_fit_is_the_plain_loop(tmp_path) -> None:
    data = make_data()
    procedure = fit(schedule=lambda o: torch.optim.lr_scheduler.StepLR(o, 2), clip_norm=0.5)
    found = procedure.run(trial(tmp_path, data))
    losses, accuracies = by_hand(data, 3, 4, 0.5)
    assert found.series["train_loss"].y == pytest.approx(losses, rel=1e-6)
    assert found.series["accuracy"].y == pytest.approx(accuracies, rel=1e-6)
    assert found.metrics["accuracy"] == pytest.approx(accuracies[-1])
    assert found.metrics["best_accuracy"] == pytest.approx(max(accuracies))
    assert found.metrics["best_epoch"] == 1 + accuracies.index(max(accuracies))
    assert found.metrics["parameters"].value == 6 * 8 + 8 + 8 * 2 + 2
    assert found.metrics["parameters"].exact


def test_two_runs_are_equal_and_seeds_differ(tmp_path) -> None:
    data = make_data()
    first = fit().run(trial(tmp_path / "a", data))
    assert first == fit().run(trial(tmp_path / "b", data))
    assert first != fit().run(trial(tmp_path / "c", data, seed=4))


def test_with_a_validation_split_the_test_value_at_its_best_epoch_is_reported(tmp_path) -> None:
    found = fit(epochs=6).run(trial(tmp_path, make_data(val=True)))
    validation, test = found.series["val_accuracy"].y, found.series["accuracy"].y
    assert found.metrics["selected_accuracy"] == test[validation.index(max(validation))]
    assert set(found.metrics) <= Fit.produces({"metrics": {"accuracy": None}})


def test_the_last_epoch_is_always_evaluated(tmp_path) -> None:
    reports: list[Progress] = []
    found = fit(epochs=5, eval_every=3).run(trial(tmp_path, make_data(), report=reports.append))
    assert found.series["accuracy"].x == [3, 5]
    assert [p.step for p in reports] == [1, 2, 3, 4, 5]
    assert "accuracy" not in reports[0].metrics and "accuracy" in reports[2].metrics


def test_a_loss_that_diverges_is_an_error_and_no_figure(tmp_path) -> None:
    procedure = fit(optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1e30))
    with pytest.raises(Diverged, match="epoch"):
        procedure.run(trial(tmp_path, make_data()))


def test_only_one_kind_of_clipping() -> None:
    with pytest.raises(ValueError, match="not both"):
        fit(clip_norm=1.0, clip_value=1.0)


def test_every_epoch_has_every_example_once_in_another_order() -> None:
    split = Tensors(x=torch.arange(10), y=torch.arange(10))
    orders = []
    for epoch in (0, 1):
        batches = Batches(split, 4, shuffle=lambda epoch=epoch: (7, epoch))
        assert len(batches) == 3
        orders.append(torch.cat([batch["x"] for batch in batches]).tolist())
        assert sorted(orders[-1]) == list(range(10))
    assert orders[0] != orders[1]


@pytest.mark.parametrize("drop_last", [False, True])
def test_samples_are_those_that_the_loss_saw(tmp_path, monkeypatch, drop_last) -> None:
    seen: list[int] = []
    loss = Fit.training_loss

    def counted(self: Fit, model: nn.Module, batch: Batch, at: At) -> Tensor:
        seen.append(len(batch["y"]))
        return loss(self, model, batch, at)

    monkeypatch.setattr(Fit, "training_loss", counted)
    found = fit(drop_last=drop_last).run(trial(tmp_path, make_data()))
    assert found.samples == sum(seen) == 4 * (64 if drop_last else 90)


def test_an_incomplete_batch_is_dropped_unless_it_is_the_only_one() -> None:
    split = Tensors(x=torch.arange(10))
    assert [len(b["x"]) for b in Batches(split, 4, drop_last=True)] == [4, 4]
    assert [len(b["x"]) for b in Batches(split, 16, drop_last=True)] == [10]


def test_columns_need_one_length() -> None:
    with pytest.raises(ValueError, match="common length"):
        Tensors(x=torch.zeros(3), y=torch.zeros(4))


def test_rows_of_an_arrow_dataset_come_in_batches() -> None:
    from datasets import Dataset

    rows = Rows(
        Dataset.from_dict({"x": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], "y": [0, 1, 2]}), ["x", "y"]
    )
    batch = rows[torch.tensor([2, 0])]
    assert batch["x"].tolist() == [[5.0, 6.0], [1.0, 2.0]] and batch["y"].tolist() == [2, 0]
    assert len(rows) == 3


def test_purposes_have_independent_seeds() -> None:
    seeds = {derive(s, p, e) for s in range(5) for p in ("shuffle", "model") for e in range(5)}
    assert len(seeds) == 50
    assert all(0 <= s < 2**63 for s in seeds)
    seed_all(1, "x")
    first = torch.rand(3)
    seed_all(1, "x")
    assert torch.equal(first, torch.rand(3)) and math.isfinite(first.sum())
