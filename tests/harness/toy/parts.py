"""Parts of a paper that can be told to behave and to misbehave."""

import os
import signal
import time

import torch
from torch import nn

from harness.loading.splits import Splits, Tensors
from harness.procedures.base import Outcome, Progress, exact
from harness.records import Series


class Behave:
    """Returns a score around ``level``, or does what ``how`` says on ``seed``."""

    def __init__(self, level: float = 0.0, how: str = "well", seed: int | None = None) -> None:
        self.level = level
        self.how = how
        self.seed = seed

    @classmethod
    def produces(cls, init_args):
        return {"score", "count", "curve"}

    def run(self, trial):
        trial.report(Progress(1, 2, {"score": self.level}))
        # Variants share a seed's draw: of different size, so that differences vary over seeds.
        score = self.level + (0.1 + 0.01 * self.level) * torch.randn(()).item()
        if self.seed in (None, trial.seed):
            if self.how == "raise":
                raise ArithmeticError("it does not add up")
            if self.how == "nan":
                score = float("nan")
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "exit":
                os._exit(7)
            if self.how == "hang":
                time.sleep(600)
        series = {"curve": Series(over="width", x=[1, 2, 4], y=[1, 2, 4])}
        return Outcome({"score": score, "count": exact(7)}, series)


class Together(Behave):
    """Trains its seeds together."""

    def run_together(self, trials):
        return [Outcome({"score": float(len(trials)), "count": exact(7)}) for _ in trials]


class Net(nn.Module):
    def __init__(self, features: int, classes: int, hidden: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(0.1), nn.Linear(hidden, classes)
        )

    def forward(self, x):
        return self.layers(x)


def digits(shuffle: bool = False) -> Splits:
    """Eight-by-eight digits from scikit-learn: 300 to train on, 200 to test on."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x, y = torch.tensor(bunch.data, dtype=torch.float32) / 16, torch.tensor(bunch.target)
    return Splits(
        train=Tensors(x=x[:300], y=y[:300]),
        test=Tensors(x=x[300:500], y=y[300:500]),
        dims={"features": 64, "classes": 10},
    )
