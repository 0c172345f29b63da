"""What a training step costs beyond the arithmetic: Fit and Lightning's Trainer against a loop."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from harness.loading.splits import Batch, Splits
from harness.procedures.base import Trial
from harness.procedures.batches import Batches
from harness.procedures.checkpoints import Checkpoints
from harness.procedures.fit import Fit
from harness.seeding import seed_all
from scripts.benchmark.timing import Finding, Row, interleaved, ratios, seconds
from scripts.benchmark.toys.small.parts import Net, clusters
from scripts.benchmark.toys.small.plain import train

ABOUT = """\
The same network trained on the same batches by `Fit`, by a plain PyTorch loop and by Lightning's \
Trainer with its default settings (progress bar, logger and checkpoints included), one thread \
each, an evaluation after every epoch; the time is that of the whole training, set-up included \
(each is over before `Fit` would write a checkpoint, which takes at most a twentieth of the time \
of a longer one). `Fit` lets torch's optimiser update all parameters by one kernel (`fused`), \
which a plain loop does only when told: both are compared. The training losses of `Fit` and of \
the fused loop have to agree, or nothing is reported."""


@dataclass(frozen=True)
class Work:
    """One length of step: a network and its batches. ``milliseconds`` is about what it takes."""

    milliseconds: float
    batch_size: int
    width: int
    steps: int
    epochs: int
    at_most: float | None = None


WORKS = (
    Work(0.5, batch_size=64, width=128, steps=1000, epochs=3),
    Work(2, batch_size=128, width=256, steps=300, epochs=3, at_most=1.10),
    Work(10, batch_size=256, width=512, steps=75, epochs=3, at_most=1.03),
    Work(50, batch_size=512, width=768, steps=20, epochs=3, at_most=1.03),
)
TINY = (Work(0.1, batch_size=8, width=8, steps=2, epochs=2, at_most=100),)


def measure(repeats: int = 7, tiny: bool = False) -> Finding:
    """Train at every length of step."""
    rows = []
    with one_thread(), tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        for work in TINY if tiny else WORKS:
            rows += _rows(work, _compare(work, repeats, Path(folder)))
    settings = {"works": [vars(work) for work in (TINY if tiny else WORKS)]}
    return Finding("overhead", "A training step", ABOUT, rows, settings)


def _compare(work: Work, repeats: int, folder: Path) -> dict[str, list[float]]:
    """Milliseconds a step of each way of training."""
    data = clusters(work.batch_size * work.steps, work.batch_size)
    losses: dict[str, float] = {}

    def timed(name: str, way: Callable[[], float]) -> Callable[[], float]:
        def run() -> float:
            def keep() -> None:
                losses[name] = way()

            return 1000 * seconds(keep) / (work.steps * work.epochs)

        return run

    ways: dict[str, Callable[[], float]] = {
        "plain": lambda: _plain(work, data, fused=False),
        "fused": lambda: _plain(work, data, fused=True),
        "fit": lambda: _fit(work, data, folder),
        "trainer": lambda: _trainer(work, data, folder),
    }
    found = interleaved({name: timed(name, way) for name, way in ways.items()}, repeats)
    if not math.isclose(losses["fit"], losses["fused"], rel_tol=1e-3):
        raise RuntimeError(f"Fit and the loop did not train the same: {losses}")
    return found


def _rows(work: Work, found: dict[str, list[float]]) -> list[Row]:
    length = f"{work.milliseconds:g} ms"
    shown = f"{length}: a step of the plain loop (batch {work.batch_size}, width {work.width})"
    return [
        Row(shown, "ms", found["plain"]),
        Row(f"{length}: a step of the fused loop", "ms", found["fused"], shown=False),
        Row(f"{length}: a step of Fit", "ms", found["fit"], shown=False),
        Row(f"{length}: a step of the Trainer", "ms", found["trainer"], shown=False),
        Row(f"{length}: Fit / plain loop", "×", ratios(found["fit"], found["plain"]), work.at_most),
        Row(f"{length}: Fit / fused loop", "×", ratios(found["fit"], found["fused"])),
        Row(f"{length}: Trainer / plain loop", "×", ratios(found["trainer"], found["plain"])),
    ]


def _net(work: Work) -> nn.Module:
    return Net(64, 10, work.width, depth=4)


def _plain(work: Work, data: Splits, fused: bool) -> float:
    seed_all(0, "model")
    return train(_net(work), data, 0, work.epochs, work.batch_size, fused)[0]


def _fit(work: Work, data: Splits, folder: Path) -> float:
    fit = Fit(
        loss=nn.CrossEntropyLoss(),
        metrics={"accuracy": MulticlassAccuracy(10, average="micro")},
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
        epochs=work.epochs,
        batch_size=work.batch_size,
    )
    trial = Trial(
        seed=0,
        data=data,
        model=lambda: _net(work),
        device=torch.device("cpu"),
        workdir=folder,
        checkpoints=Checkpoints(folder / "checkpoints"),
    )
    outcome = fit.run(trial)
    trial.checkpoints.clear() if trial.checkpoints else None
    loss = outcome.metrics["train_loss"]
    return loss if isinstance(loss, float) else loss.value


def _trainer(work: Work, data: Splits, folder: Path) -> float:
    seed_all(0, "model")
    module = _Module(_net(work))
    with quiet(), tempfile.TemporaryDirectory(dir=folder) as scratch:
        trainer = L.Trainer(
            max_epochs=work.epochs, accelerator="cpu", devices=1, default_root_dir=scratch
        )
        order = lambda: (0, trainer.current_epoch)  # noqa: E731
        trainer.fit(
            module,
            Batches(data.train, work.batch_size, order),
            Batches(data.test, work.batch_size),
        )
    return float(trainer.callback_metrics["train_loss"])


class _Module(L.LightningModule):
    """What one writes for the Trainer."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.criterion = nn.CrossEntropyLoss()
        self.accuracy = MulticlassAccuracy(10, average="micro")

    def training_step(self, batch: Batch, index: int) -> Tensor:
        loss: Tensor = self.criterion(self.net(batch["x"]), batch["y"])
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["y"]))
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        self.accuracy(self.net(batch["x"]), batch["y"])
        self.log("accuracy", self.accuracy, on_epoch=True, batch_size=len(batch["y"]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.net.parameters(), lr=1e-3)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """As a worker has it when there are as many workers as cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What the Trainer prints costs time, but need not be seen."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield
