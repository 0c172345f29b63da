"""A small classification, trained in a moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from harness.loading.splits import Splits, Tensors
from harness.procedures.base import Trial
from harness.procedures.checkpoints import Checkpoints


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Net(nn.Module):
    def __init__(self, *middle: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), *middle, nn.Linear(8, 2))

    def forward(self, x):
        return self.layers(x)


@pytest.fixture
def net() -> type[Net]:
    return Net


@pytest.fixture
def splits() -> Splits:
    """90 examples to train on, 30 to validate and 30 to test on."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(150, 6, generator=generator)
    y = (x[:, 0] + 0.5 * torch.randn(150, generator=generator) > 0).long()
    train, val, test = (Tensors(x=x[a:b], y=y[a:b]) for a, b in ((0, 90), (90, 120), (120, 150)))
    return Splits(train=train, val=val, test=test)


@pytest.fixture
def settings() -> dict:
    return {
        "loss": nn.CrossEntropyLoss(),
        "metrics": {"accuracy": MulticlassAccuracy(num_classes=2, average="micro")},
        "optimizer": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
        "epochs": 4,
        "batch_size": 32,
    }


@pytest.fixture
def trial(splits, tmp_path) -> Callable[..., Trial]:
    """Makes a trial; with ``stop_after``, one that is asked to stop after so many reports."""

    def make(folder: str = "trial", stop_after: int | None = None, **changes) -> Trial:
        reported: list = []
        checkpoints = Checkpoints(
            Path(tmp_path) / folder / "checkpoints",
            every=0,
            stopping=lambda: stop_after is not None and len(reported) >= stop_after,
        )
        given = {
            "seed": 3,
            "data": splits,
            "model": Net,
            "device": torch.device("cpu"),
            "workdir": Path(tmp_path) / folder,
            "report": reported.append,
            "checkpoints": checkpoints,
        }
        return Trial(**{**given, **changes})

    return make
