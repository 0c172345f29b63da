"""Training a hypernetwork with one γ a batch, at several learning rates."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

from experiments.mip_hypernets.data import TurnedDigits, Turning, turned
from experiments.mip_hypernets.magnitude import dependence, log_slope
from experiments.mip_hypernets.model import HyperConvNet
from harness.loading.splits import Batch, Tensors
from harness.procedures.base import Outcome, Trial
from harness.procedures.recipe import At, Recipe
from harness.procedures.training import Trained, train_together
from harness.records import Series
from harness.seeding import seed_all

Optimizer = Literal["adam", "sgd"]
SIZES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0)  # of γ_1, the other coordinates in proportion
CHANCE = math.log(10)
WINDOW = 25  # steps in which the spread of gradient norms is taken


class OneGamma(Recipe):
    """Every training batch is turned by a γ of its own, which the network is given.

    Attributes:
        norms: of the gradient at every step so far, (models,) each.
    """

    scores_diverged = True

    def __init__(
        self,
        turning: Turning,
        rate: float,
        optimizer: Optimizer,
        steps: int,
        batch_size: int,
        eval_steps: int,
    ) -> None:
        adam, sgd = torch.optim.Adam, partial(torch.optim.SGD, momentum=0.9, nesterov=True)
        super().__init__(
            loss=nn.CrossEntropyLoss(),
            metrics={"loss": MeanMetric(), "accuracy": MulticlassAccuracy(10, average="micro")},
            optimizer=partial(adam if optimizer == "adam" else sgd, lr=rate),
            steps=steps,
            batch_size=batch_size,
            drop_last=True,
            eval_steps=eval_steps,
            eval_batch_size=turning.block,
            mode={"loss": "min"},
        )
        self.turning = turning
        self.norms: list[Tensor] = []

    def augment(self, batch: Batch, at: At) -> Batch:
        gamma, degrees = self.turning.drawn(at.generator)
        x = turned(batch["x"], degrees)
        return {"x": x, "gamma": gamma.expand(len(x), -1), "y": batch["y"]}

    def scored(self, meter: Metric, output: Tensor, batch: Batch) -> None:
        if isinstance(meter, MeanMetric):
            meter.update(losses(output, batch["y"]))
        else:
            meter.update(output.nan_to_num(), batch["y"])

    def gradients_together(self, gradients: Mapping[str, Tensor], at: Sequence[At]) -> None:
        norms = [gradient.flatten(1).norm(dim=1) for gradient in gradients.values()]
        self.norms.append(torch.stack(norms).norm(dim=0))


def losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each example (n,); that of chance where a logit is no finite number."""
    each = cross_entropy(logits, labels, reduction="none")
    return torch.where(logits.isfinite().all(1), each, CHANCE)


def variation(norms: Tensor) -> Tensor:
    """Standard deviation over mean of the gradient's norm (T, R) within windows of steps, (R,).

    The mean over windows; what is left over of the first steps is left out.
    """
    windows = norms[len(norms) % WINDOW :].unfold(0, WINDOW, WINDOW)
    return (windows.std(2) / windows.mean(2)).mean(0)


def steps_until(curve: Sequence[tuple[float, float]], target: float) -> float:
    """When a curve of (step, loss), from step 0 on, first falls to the target.

    Linear between evaluations; the last step where it does not.
    """
    for (before, high), (after, low) in itertools.pairwise(curve):
        if low <= target:
            return before + (after - before) * (high - target) / (high - low)
    return curve[-1][0]


class BestRate:
    """Train with every learning rate from one initialisation, and choose by validation images.

    Of the rate whose last validation loss is least, after the last step: ``loss`` (cross-entropy,
    nats) and ``accuracy`` on test images, ``val_loss``; ``misled_loss``, the test loss where
    the network is given γ_1 ± 1/2 instead of γ_1; ``norm_slope`` of log ‖θ‖ on log γ;
    ``dependence`` of θ on γ; ``gradient_variation`` over training, see :func:`variation`;
    ``log_rate``, its decimal logarithm.

    ``early_loss``: mean test loss over the evaluations, of the rate whose mean validation loss is
    least. ``steps_to_target``: steps until the test loss falls to ``target``, of the rate
    that takes the fewest on validation images. ``usable``: share of the rates at which it does by
    the last step; ``failed``: share at which the loss ends within 10 % of chance, or above it.

    Series: ``curve``, test loss over steps; ``loss_by_rate``, last test loss of every rate.

    Args:
        learning_rates: the search.
        optimizer: ``adam``, or ``sgd`` with Nesterov momentum 0.9.
        steps: of each training.
        batch_size: images with one γ.
        eval_steps: steps between evaluations.
        target: of the test loss.

    Raises:
        ValueError: fewer steps than a window of :func:`variation`.
    """

    def __init__(
        self,
        learning_rates: Sequence[float],
        optimizer: Optimizer = "adam",
        steps: int = 600,
        batch_size: int = 32,
        eval_steps: int = 100,
        target: float = 1.0,
    ) -> None:
        if steps < WINDOW:
            raise ValueError(f"gradients are compared over {WINDOW} steps, and there are {steps}")
        self.learning_rates = sorted(learning_rates)
        self.optimizer: Optimizer = optimizer
        self.steps, self.batch_size, self.eval_steps = steps, batch_size, eval_steps
        self.target = target

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        chosen = {"loss", "accuracy", "val_loss", "misled_loss", "log_rate"}
        inside = {"norm_slope", "dependence", "gradient_variation"}
        speed = {"early_loss", "steps_to_target", "usable", "failed"}
        return chosen | inside | speed | {"curve", "loss_by_rate"}

    def run(self, trial: Trial) -> Outcome:
        return self.run_together([trial])[0]

    def run_together(self, trials: Sequence[Trial]) -> list[Outcome]:
        initial = []
        for trial in trials:
            seed_all(trial.seed, "initial")
            initial.append(trial.model())
        runs = [self._trained(trials, initial, rate) for rate in self.learning_rates]
        each = zip(*runs, strict=True)
        return [self._outcome(trial, own) for trial, own in zip(trials, each, strict=True)]

    def _trained(
        self, trials: Sequence[Trial], initial: Sequence[nn.Module], rate: float
    ) -> list[tuple[Trained, float]]:
        """Each trial's network at one rate, and the variation of its gradients."""
        settings = (rate, self.optimizer, self.steps, self.batch_size, self.eval_steps)
        recipe = OneGamma(trials[0].data.turning, *settings)
        models, data = [copy.deepcopy(model) for model in initial], [t.data for t in trials]
        found = train_together(models, data, recipe, trials, f"rate-{rate:g}")
        varied = variation(torch.stack(recipe.norms)).tolist()
        return list(zip(cast(list[Trained], found), varied, strict=True))  # for scores_diverged

    def _outcome(self, trial: Trial, runs: Sequence[tuple[Trained, float]]) -> Outcome:
        rows = [trained.curves for trained, _ in runs]
        curves = {m: [_curve(each, m) for each in rows] for m in ("loss", "val_loss")}
        last = [curve[-1][1] for curve in curves["loss"]]
        speed = [steps_until(curve, self.target) for curve in curves["val_loss"]]
        means = {name: [_mean(curve) for curve in found] for name, found in curves.items()}
        ends = [curve[-1][1] for curve in curves["val_loss"]]
        at, at_speed = _least(ends), _least(list(zip(speed, ends, strict=True)))
        trained, varied = runs[at]
        metrics = {
            **{name: trained.row[name] for name in ("loss", "accuracy", "val_loss")},
            **inspected(cast(HyperConvNet, trained.model), trial.data),
            "log_rate": math.log10(self.learning_rates[at]),
            "gradient_variation": varied,
            "early_loss": means["loss"][_least(means["val_loss"])],
            "steps_to_target": steps_until(curves["loss"][at_speed], self.target),
            "usable": sum(loss <= self.target for loss in last) / len(last),
            "failed": sum(loss >= 0.9 * CHANCE for loss in last) / len(last),
        }
        steps, values = zip(*curves["loss"][at], strict=True)
        series = {
            "curve": Series(over="step", x=list(steps), y=list(values)),
            "loss_by_rate": Series(over="learning rate", x=self.learning_rates, y=last),
        }
        return Outcome(metrics, series, sum(each.samples for each, _ in runs))


@torch.no_grad()
def inspected(model: HyperConvNet, data: TurnedDigits) -> dict[str, float]:
    """What γ does to a trained network's θ, and a wrong γ to its loss."""
    test = cast(Tensors, data.test)
    x, gamma, y = (test.columns[name] for name in ("x", "gamma", "y"))
    misled = gamma.clone()
    misled[:, 0] = (gamma[:, 0] + 0.5) % 1
    parts = zip(*(torch.split(c, data.turning.block) for c in (x, misled, y)), strict=True)
    wrong = torch.cat([losses(model(images, g), labels) for images, g, labels in parts])
    sizes = torch.tensor(SIZES)
    thetas = model.theta(sizes[:, None].expand(-1, data.turning.inputs)).nan_to_num()
    return {
        "misled_loss": float(wrong.mean()),
        "norm_slope": log_slope(sizes, thetas.norm(dim=1).clamp_min(1e-30)),
        "dependence": dependence(thetas.double()),
    }


def _curve(rows: Sequence[Mapping[str, float]], metric: str) -> list[tuple[float, float]]:
    return [(0.0, CHANCE), *((row["step"], row[metric]) for row in rows)]


def _mean(curve: Sequence[tuple[float, float]]) -> float:
    return sum(loss for _, loss in curve[1:]) / (len(curve) - 1)


def _least(values: Sequence[Any]) -> int:
    return min(range(len(values)), key=values.__getitem__)
