"""A user's own LightningModule, as docs/lightning.md shows it, is a variant like any other."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from harness import paths
from harness.engines.base import Interrupted, Reported
from harness.procedures.lightning import Trainer, misuse
from harness.records import Record
from harness.reproduction import Request, reproduce, run
from harness.specs.validate import validate

DOCUMENT = Path(__file__).parents[3] / "docs" / "lightning.md"
BLOCK = re.compile(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def wider(project: Path, monkeypatch) -> Path:
    """A project with what the document shows; every epoch is kept."""
    for name, text in BLOCK.findall(DOCUMENT.read_text(encoding="utf-8")):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text, encoding="utf-8")
    for name in [name for name in sys.modules if name.split(".")[0] == "lab"]:
        monkeypatch.delitem(sys.modules, name)  # of another test's project
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.setenv("HARNESS_CHECKPOINT_EVERY", "0")
    return project


Edit = Callable[[Callable[[dict], object]], None]  # type: ignore[type-arg]


@pytest.fixture
def edit(wider: Path) -> Edit:
    path = wider / "experiments" / "wider" / "spec.yaml"

    def change(how: Callable[[dict], object]) -> None:  # type: ignore[type-arg]
        spec = yaml.safe_load(path.read_text().replace(" on:", " 'on':"))
        how(spec)
        path.write_text(yaml.safe_dump(spec, sort_keys=False))

    return change


def figures(records: list[Record]) -> dict[str, object]:
    assert records and all(record.status == "done" for record in records), records
    return {record.trial: (record.metrics, record.series) for record in records}


def test_the_documents_example_runs_to_a_verdict(wider) -> None:
    assert validate("wider") == []
    outcome = reproduce("wider", "cpu", seeds=1)
    (verdict,) = outcome.verdicts
    assert verdict.measured > 20, "points that 64 units have over 2"
    record = next(r for r in outcome.records if r.variant == "wide")
    curve = record.series["val_accuracy"]
    assert curve.over == "epoch" and curve.x == [1, 2, 3, 4, 5, 6]
    assert record.metrics["val_accuracy"].value == curve.y[-1]
    assert len(record.series["train_loss"].y) == 6
    assert record.metrics["parameters"].value == 64 * 64 + 64 + 64 * 10 + 10
    figures(outcome.records)


class Interrupter:
    """Presses Ctrl-C when so many epochs were reported."""

    def __init__(self, after: int) -> None:
        self.left = after

    def announce(self, text): ...
    def begin(self, paper, trials, skipped): ...
    def end(self): ...

    def event(self, event) -> None:
        if isinstance(event, Reported):
            self.left -= 1
            if self.left == 0:
                signal.raise_signal(signal.SIGINT)


NOISY = """

class Noisy(Digits):
    '''Each example is drawn with other noise; a callback that remembers.'''

    def setup(self, stage):
        super().setup(stage)
        train = self.train
        self.train = [0] * 20
        class Drawn(torch.utils.data.Dataset):
            def __len__(self):
                return len(train)
            def __getitem__(self, index):
                x, y = train[index]
                return x + 0.1 * torch.randn(64), y
        self.train = Drawn()


class Remembers(pl.Callback):
    def __init__(self):
        self.epochs = 0
    def on_train_epoch_end(self, trainer, module):
        import time
        time.sleep(0.1)
        self.epochs += 1
        module.log("remembered", float(self.epochs))
    def state_dict(self):
        return {"epochs": self.epochs}
    def load_state_dict(self, state):
        self.epochs = state["epochs"]
"""


def test_interrupted_it_ends_bit_for_bit_the_same(wider, edit) -> None:
    """With shuffling, dropout, noise on the examples, a schedule, and callbacks that have state."""

    def change(spec: dict) -> None:  # type: ignore[type-arg]
        spec["datasets"]["digits"]["class_path"] = "lab.digits.Noisy"
        settings = spec["procedure"]["init_args"]
        settings["callbacks"].append({"class_path": "lab.digits.Remembers"})
        settings["metrics"]["remembered"] = "remembered"

    edit(change)
    lab = wider / "lab" / "digits.py"
    lab.write_text(lab.read_text() + NOISY)
    for after in (1, 2):
        with pytest.raises(Interrupted):
            run(Request("wider", "cpu", jobs=1, seeds=1, variants=["wide"]), [Interrupter(after)])
        assert list(paths.runs().glob("wider/cpu/*/checkpoints/*.ckpt"))
    resumed = figures(reproduce("wider", "cpu", seeds=1, variants=["wide"]).records)
    assert not list(paths.runs().glob("wider/cpu/*/lightning")), "done: nothing is left"
    again = reproduce("wider", "cpu", seeds=1, variants=["wide"], force=True).records
    assert figures(again) == resumed
    assert again[0].metrics["remembered"].value == 6
    other = reproduce("wider", "cpu", seeds=2, variants=["wide"]).records
    assert len({r.metrics["train_loss"].value for r in other}) == 2, "seeds do differ"


def test_the_last_or_the_best_weights_are_tested(wider, edit) -> None:
    """The module gets worse after its first epoch: the learning rate is absurd from then on."""
    lab = wider / "lab" / "digits.py"
    absurd = "StepLR(optimizer, 1, 20)"
    lab.write_text(lab.read_text().replace("StepLR(optimizer, 2, 0.5)", absurd))
    best = reproduce("wider", "cpu", seeds=1, variants=["wide"]).records[0]
    edit(lambda spec: spec["procedure"]["init_args"].update(select="last"))
    last = reproduce("wider", "cpu", seeds=1, variants=["wide"]).records
    last = next(r for r in last if r.trial != best.trial)
    assert best.metrics["accuracy"].value > last.metrics["accuracy"].value + 0.1
    assert last.series == best.series


def test_modules_of_the_older_package_and_names_that_nobody_logged(wider, edit) -> None:
    lab = wider / "lab" / "digits.py"
    lab.write_text(lab.read_text().replace("lightning.pytorch as pl", "pytorch_lightning as pl"))

    def change(spec: dict) -> None:  # type: ignore[type-arg]
        callback = spec["procedure"]["init_args"]["callbacks"][0]
        callback["class_path"] = "pytorch_lightning.callbacks.ModelCheckpoint"
        arguments = {"metrics": {"accuracy": "test/f1"}}
        spec["variants"]["narrow"]["procedure"] = {"init_args": arguments}

    edit(change)
    assert validate("wider") == []
    records = {r.variant: r for r in reproduce("wider", "smoke").records}
    assert records["wide"].status == "done"
    assert "logged no test/f1; it logged" in records["narrow"].error.message


def problems() -> str:
    return "\n".join(map(str, validate("wider")))


def test_classes_of_lightning_under_another_procedure_are_refused(wider, edit) -> None:
    def fit(spec: dict) -> None:  # type: ignore[type-arg]
        loss, metrics = {"class_path": "torch.nn.CrossEntropyLoss"}, {}
        spec["procedure"] = {"class_path": "harness.procedures.fit.Fit"}
        spec["procedure"]["init_args"] = {"loss": loss, "metrics": metrics}
        spec["tiers"]["smoke"].pop("procedure")

    edit(fit)
    found = problems()
    assert "lab.digits.Classifier is a LightningModule, of which Fit calls no hook" in found
    assert "lab.digits.Digits is a LightningDataModule, of which Fit" in found
    assert "harness.procedures.lightning.Trainer" in found and "spec.yaml:" in found


def test_plain_modules_and_wrong_arguments_are_refused(wider, edit) -> None:
    edit(lambda spec: spec.update(model={"class_path": "torch.nn.Identity"}))
    assert "torch.nn.Identity is no LightningModule" in problems()
    for arguments, message in (
        ({"trainer": {"max_epoch": 3}}, "no argument 'max_epoch'"),
        ({"trainer": {"logger": True}}, "logger is not for the spec to say"),
        ({"select": "best"}, "needs a ModelCheckpoint"),
    ):
        assert message in misuse(arguments)
        with pytest.raises(ValueError, match=re.escape(message)):
            Trainer(metrics=[], **arguments)
    edit(lambda spec: spec["procedure"]["init_args"]["trainer"].update(max_epoch=3))
    assert "no argument 'max_epoch'" in problems()


@pytest.mark.parametrize(
    ("package", "reason"),
    [
        ("subprocess", "no package of your own"),
        ("harness", "no package of your own"),
        ("torch", "an installed library"),
        ("laboratory", "no package 'laboratory' beside"),
    ],
)
def test_only_packages_of_ones_own_may_be_named(wider, edit, package, reason) -> None:
    edit(lambda spec: spec.update(packages=["lab", package]))
    assert reason in problems()
    edit(lambda spec: spec.update(packages=[]))
    assert "'lab.digits.Classifier' may not be named" in problems()


def test_a_change_of_the_packages_code_makes_records_stale(wider) -> None:
    (wider / "lab" / "layers.py").write_text("SIZE = 1\n")
    lab = wider / "lab" / "digits.py"
    lab.write_text("from lab.layers import SIZE\n" + lab.read_text())
    assert reproduce("wider", "smoke").ran == 2
    assert reproduce("wider", "smoke").ran == 0
    (wider / "lab" / "layers.py").write_text("SIZE = 2\n")
    assert reproduce("wider", "smoke").ran == 2


def test_a_module_on_the_path_is_found_too(wider, monkeypatch) -> None:
    elsewhere = wider / "elsewhere"
    elsewhere.mkdir()
    (wider / "lab").rename(elsewhere / "lab")
    monkeypatch.syspath_prepend(elsewhere)
    assert validate("wider") == []
