"""Trials that do what trials should not, and two that can be interrupted."""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
import time

import torch
from torch import nn

from harness.loading.splits import Splits, Tensors
from harness.procedures.base import Outcome, Progress
from harness.procedures.fit import Fit
from harness.records import Series
from harness.seeding import seed_all


def pause() -> None:
    """So that a test can interrupt between two steps."""
    time.sleep(float(os.environ.get("HARNESS_UNRULY_PAUSE", "0")))


class Loop:
    """Adds random numbers step by step, and can be interrupted between any two."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    @classmethod
    def produces(cls, init_args):
        return {"total", "sums"}

    def run(self, trial):
        state = trial.load() or {"step": 0, "sums": []}
        for step in range(state["step"], self.steps):
            seed_all(trial.seed, "step", step)
            last = state["sums"][-1] if state["sums"] else 0.0
            state = {"step": step + 1, "sums": [*state["sums"], last + torch.randn(()).item()]}
            pause()
            trial.report(Progress(step + 1, self.steps, {"total": state["sums"][-1]}))
            trial.save(step + 1, state)
            if step + 1 == int(os.environ.get("HARNESS_UNRULY_HANG", "0")):
                time.sleep(600)
        sums = state["sums"]
        series = Series(over="step", x=[float(i) for i in range(len(sums))], y=sums)
        return Outcome({"total": sums[-1]}, {"sums": series})


class Taught(Loop):
    """Goes on from what a teacher summed up; ``forgets`` that it depends on ``level``."""

    def __init__(self, steps: int, level: float = 0.0, forgets: bool = False) -> None:
        super().__init__(steps)
        self.level = level
        self.forgets = forgets

    def run(self, trial):
        names = ["steps"] if self.forgets else ["steps", "level"]
        taught = trial.part("teacher", trial.settings(*names), self.teach)
        total = taught["sums"][-1] + torch.randn(()).item()
        series = Series(over="step", x=[1.0], y=[total])
        return Outcome({"total": total}, {"sums": series})

    def teach(self, trial):
        with open(os.environ["HARNESS_UNRULY_MADE"], "a") as file:
            file.write(f"{trial.seed}\n")
        sums = super().run(trial).series["sums"].y
        torch.rand(7)
        return {"sums": [each + self.level for each in sums]}


class SlowFit(Fit):
    """Takes its time, so that it can be interrupted in the middle."""

    def training_loss(self, model, batch, at):
        pause()
        return super().training_loss(model, batch, at)


class Misbehave:
    """Behaves, or does what ``how`` says on seed 0."""

    def __init__(self, how: str = "well") -> None:
        self.how = how

    @classmethod
    def produces(cls, init_args):
        return {"total"}

    def run(self, trial):
        trial.report(Progress(1, 2, {"total": 0.0}))
        if trial.seed == 0 and self.how != "well":
            getattr(self, self.how)(trial)
        return Outcome({"total": 1.0 + trial.seed})

    def deaf(self, trial):
        (trial.workdir / "deaf").touch()
        time.sleep(600)

    def segfault(self, trial):
        ctypes.string_at(0)

    def abort(self, trial):
        os.abort()

    def parricide(self, trial):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (trial.workdir / "child").write_text(str(child.pid))
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(600)

    def memory(self, trial):
        hoard = []
        while True:
            hoard.append(bytearray(os.urandom(1)) * 20_000_000)
            time.sleep(0.01)

    def children_memory(self, trial):
        grow = "x = []\nwhile True: x.append(bytearray(b'1') * 20_000_000)"
        subprocess.run([sys.executable, "-c", grow], check=True)

    def deadlock(self, trial):
        lock = threading.Lock()
        with lock, lock:
            pass

    def unkillable(self, trial):
        """Blocks all signals that can be, in a session of its own, holding the interpreter."""
        os.setsid() if os.getpid() != os.getsid(0) else None
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
        ctypes.PyDLL(None).sleep(600)

    def chatter(self, trial):
        for _ in range(60):
            print("x" * 99_999)
        print("the last words")
        raise RuntimeError("after much ado")

    def leave(self, trial):
        """Children: one that ignores signals, one in its own session, one orphaned; a thread."""
        (trial.workdir / "pids").touch()
        for escape in (lambda: None, os.setsid, self._orphan):
            if os.fork() == 0:
                escape()
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                with (trial.workdir / "pids").open("a") as file:
                    file.write(f"{os.getpid()}\n")
                time.sleep(600)
                os._exit(0)
        threading.Thread(target=time.sleep, args=(600,)).start()
        while len((trial.workdir / "pids").read_text().splitlines()) < 3:
            time.sleep(0.01)

    @staticmethod
    def _orphan():
        os.setsid()
        if os.fork():
            os._exit(0)

    def litter(self, trial):
        import tempfile

        with tempfile.NamedTemporaryFile(delete=False) as file:
            file.write(b"x" * 1000)
        (trial.workdir / "litter").write_text(file.name)
        os.kill(os.getpid(), signal.SIGKILL)

    def fill(self, trial):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, resource.RLIM_INFINITY))
        with (trial.workdir / "big").open("wb") as file:
            while True:
                file.write(b"x" * 1_000_000)


class Net(nn.Module):
    def __init__(self, features: int, classes: int, hidden: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(0.1), nn.Linear(hidden, classes)
        )

    def forward(self, x):
        return self.layers(x)


def digits() -> Splits:
    """Eight-by-eight digits from scikit-learn: 100 to train on, 100 to test on."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x, y = torch.tensor(bunch.data, dtype=torch.float32) / 16, torch.tensor(bunch.target)
    return Splits(
        train=Tensors(x=x[:100], y=y[:100]),
        test=Tensors(x=x[100:200], y=y[100:200]),
        dims={"features": 64, "classes": 10},
    )
