"""Named trainings of a trial, interrupted anywhere, end bit for bit in what they would have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from harness.procedures.checkpoints import Stopped
from harness.procedures.recipe import Recipe
from harness.procedures.training import train


def distilled(trial, splits, net, settings, **changes) -> str:
    """A teacher, and a student that learns from it; all figures and weights to the last bit."""
    teacher = train(net, splits, Recipe(**settings), trial, name="teacher")

    class Student(Recipe):
        def training_loss(self, model, batch, at):
            with torch.no_grad():
                target = teacher.model(batch["x"]).argmax(1)
            return self.loss(self.predict(model, batch), target)

        def augment(self, batch, at):
            noise = torch.randn(batch["x"].shape, generator=at.generator)
            return batch | {"x": batch["x"] + 0.1 * noise}

    recipe = Student(**settings | changes)
    student = train(lambda: net(nn.Dropout(0.2)), splits, recipe, trial, name="student")
    tensors = [t.tolist() for m in (teacher, student) for t in m.model.state_dict().values()]
    return repr((teacher.curves, student.curves, student.row, tensors, float(torch.rand(()))))


WAYS = {
    "epochs": {},
    "best": {"select": "best", "patience": 3, "ema": 0.9},
    "steps": {"eval_steps": 2, "schedule": lambda o: torch.optim.lr_scheduler.StepLR(o, 1, 0.5)},
    "figure": {"schedule": lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, "max", 0.5, 0)},
    "closure": {"optimizer": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=3)},
    "parts": {"accumulate": 2},
}


@pytest.mark.parametrize("way", WAYS)
def test_stopped_again_and_again(trial, splits, net, settings, way) -> None:
    whole = distilled(trial("whole"), splits, net, settings, **WAYS[way])
    stops = 0
    while stops < 20:
        try:
            found = distilled(trial("parts", stop_after=1), splits, net, settings, **WAYS[way])
            break
        except Stopped:
            stops += 1
            torch.rand(stops)  # what happened in between does not matter
    assert found == whole and stops >= 6, "once for nearly every report"


def test_what_is_done_is_not_done_again(trial, splits, net, settings) -> None:
    with pytest.raises(Stopped):
        distilled(trial("a", stop_after=5), splits, net, settings)  # after the student's first
    again = trial("a")
    distilled(again, splits, net, settings)
    reported = again.report.__self__
    assert [next(iter(p.metrics)).split()[0] for p in reported] == ["student"] * 3
    assert again.checkpoints.any()
    again.checkpoints.clear()
    assert not again.checkpoints.folder.exists(), "those of all parts are gone"


def test_names_are_folders(trial, splits, net, settings) -> None:
    with pytest.raises(ValueError, match="name of a folder"):
        train(net, splits, Recipe(**settings), trial(), name="../teacher")


KILLED = """
import json, os, signal, sys
from pathlib import Path
import torch
from tests.harness.procedures.conftest import Net
from tests.harness.procedures.test_resuming import distilled
from harness.loading.splits import Splits, Tensors
from harness.procedures.base import Trial
from harness.procedures.checkpoints import Checkpoints
from torchmetrics.classification import MulticlassAccuracy

torch.set_num_threads(1)
folder = Path(sys.argv[1])
x = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
part = lambda a, b: Tensors(x=x[a:b], y=(x[a:b, 0] > 0).long())
splits = Splits(part(0, 40), val=part(40, 50), test=part(50, 60))

def run(name, dies_after):
    left = [dies_after]
    def report(progress):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    trial = Trial(3, splits, Net, torch.device("cpu"), folder / name, report=report,
                  checkpoints=Checkpoints(folder / name / "checkpoints", every=0))
    settings = {"loss": torch.nn.CrossEntropyLoss(), "epochs": 3, "batch_size": 16,
                "metrics": {"accuracy": MulticlassAccuracy(2, average="micro")}}
    (folder / f"{name}.txt").write_text(distilled(trial, splits, Net, settings, eval_steps=2))

deaths = 0
for name, dies_after in (("whole", 0), *[("killed", after) for after in (3, 2, 2, 4, 1, 2, 0)]):
    if os.fork() == 0:
        run(name, dies_after)
        os._exit(0)
    deaths += os.wait()[1] == signal.SIGKILL
same = (folder / "whole.txt").read_text() == (folder / "killed.txt").read_text()
print(json.dumps({"deaths": deaths, "same": same}))
"""


def test_killed_at_several_points(tmp_path) -> None:
    """By SIGKILL, each time in a process of its own, before the state was saved."""
    root = Path(__file__).parents[3]
    path = os.pathsep.join([str(root), *sys.path])
    found = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(found.stdout) == {"deaths": 6, "same": True}


class Counting(nn.Module):
    """Much of what it depends on is in no ``state_dict``."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 2)
        self.register_buffer("scale", torch.ones(()), persistent=False)
        self.calls = 0
        self.recent: list = []

    def forward(self, x):
        if self.training:
            self.calls += 1
            self.scale = self.scale * 0.9
            self.recent = [*self.recent[-2:], x.mean().detach()]
        return self.layer(x) * self.scale + sum(self.recent) + 0.1 * self.calls


class Annealed(Recipe):
    """So has the recipe: a counter, and a module that it trains by itself."""

    def __init__(self, **settings) -> None:
        super().__init__(**settings)
        self.seen = 0
        self.centre = nn.BatchNorm1d(6, affine=False)

    def training_loss(self, model, batch, at):
        self.seen += len(batch["y"])
        loss = super().training_loss(model, {**batch, "x": self.centre(batch["x"])}, at)
        return loss / (1 + self.seen)


def test_state_outside_the_state_dict_survives(trial, splits, settings) -> None:
    whole = train(Counting, splits, Annealed(**settings), trial("whole"))
    assert whole.model.calls == 12
    for _ in range(4):
        with pytest.raises(Stopped):
            train(Counting, splits, Annealed(**settings), trial("parts", stop_after=1))
    recipe = Annealed(**settings)
    found = train(Counting, splits, recipe, trial("parts"))
    assert found.curves == whole.curves and recipe.seen == 360
    assert found.model.calls == 12 and torch.equal(found.model.scale, whole.model.scale)


class Elsewhere(nn.Module):
    """Keeps its state where no checkpoint can."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 2)
        self.queue = {1, 2}

    def forward(self, x):
        if self.training:
            self.queue = {*self.queue, len(self.queue) + 1}
        return self.layer(x) * len(self.queue)


def test_what_cannot_be_kept_is_noticed_and_done_again(trial, splits, settings, caplog) -> None:
    recipe = Recipe(**settings)
    whole = train(Elsewhere, splits, recipe, trial("whole"))
    assert "no checkpoint of step 3: model.queue changes in training" in caplog.text
    with pytest.raises(Stopped):
        train(Elsewhere, splits, recipe, trial("parts", stop_after=2))
    assert train(Elsewhere, splits, recipe, trial("parts")).curves == whole.curves


def test_recurrent_layers_list_their_weights_twice(trial, splits, settings) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.read = nn.LSTM(1, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x):
            return self.read(self.cell(x[..., None])[0][:, -1])

    recipe = Recipe(**settings | {"epochs": 2})
    whole = train(Recurrent, splits, recipe, trial("whole"))
    with pytest.raises(Stopped):
        train(Recurrent, splits, recipe, trial("parts", stop_after=1))
    again = trial("parts")
    assert again.checkpoints.any()
    assert train(Recurrent, splits, recipe, again).curves == whole.curves
