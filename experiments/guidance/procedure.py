"""Training under guidance (Section 3): L = L_task + α Σ (1 - CKA(target's layer, guide's layer)).

The guide is frozen. Where training examples are not changed from epoch to epoch, its part of every
CKA is computed once for all of them, and guided steps cost little more than plain ones.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.augmentation import flipped, shifted, shuffled_pixels
from experiments.guidance.alignment import gram, pairs, recorded, similarities
from harness.loading.splits import Batch, Split, Splits
from harness.procedures.base import Outcome, Separately, Trial
from harness.procedures.fit import Fit
from harness.procedures.recipe import At
from harness.procedures.training import Trained, train
from harness.records import Measured
from harness.seeding import derive, seed_all

Guide = Literal["none", "untrained", "trained", "shuffled", "noise"]
AT_ONCE = 256  # examples in a pass of the guide


class OneHotBCE(nn.Module):
    """Binary cross-entropy of every class by itself: logits (batch, classes), classes (batch,)."""

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, F.one_hot(y, logits.shape[1]).float())


class Accompanied:
    """A split whose batches have what the frozen guide makes of them.

    Args:
        split: the examples.
        kernels: Gram matrices (pairs, n, n) of the guide's activations on all of them; a batch
            gets ``kernels`` (pairs, batch, batch).
        scores: the guide's logits (n, classes), for distillation; a batch gets ``scores``.
    """

    def __init__(self, split: Split, kernels: Tensor | None, scores: Tensor | None) -> None:
        self.split, self.kernels, self.scores = split, kernels, scores

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, indices: Tensor) -> Batch:
        batch = self.split[indices]
        if self.kernels is not None:
            here = indices.to(self.kernels.device)
            batch["kernels"] = self.kernels[:, here[:, None], here]
        if self.scores is not None:
            batch["scores"] = self.scores[indices.to(self.scores.device)]
        return batch


class Guided(Fit):
    """Fit under the guidance of another network; with several rates, by the best of them.

    Besides what Fit reports: ``train_accuracy``, ``gap`` (that minus ``accuracy``), ``rate``; of a
    guided target ``alignment`` (mean CKA over the pairs on training examples); of a trained guide
    ``guide_accuracy`` on the test split.

    Args:
        guide: makes the guide.
        kind: ``untrained``; ``trained``, on the same examples; ``shuffled``, untrained, and it
            sees the images with their pixels in another order; ``noise``, untrained, and it sees
            random images or tokens in place of the examples.
        padding: the token, the largest, that fills sequences up; noise leaves it in its place.
        alpha: weight of the guidance.
        guided_steps: after these the target goes on without the guide.
        distil: the trained guide's logits teach in place of its layers.
        temperature: of distillation.
        live: compute the guide's activations batch by batch, not once for all examples.
        augments: flip and shift training images (only ``live``).
        rates: learning rates; the target is trained with each, and the one counts whose lowest
            validation loss is least. Without, that of the optimizer.
        guide_epochs, guide_rate: of the trained guide, by Adam.

    Raises:
        ValueError: for settings that contradict each other.
    """

    def __init__(
        self,
        guide: Callable[[], nn.Module] | None = None,
        kind: Guide = "none",
        alpha: float = 1.0,
        guided_steps: int | None = None,
        distil: bool = False,
        temperature: float = 4.0,
        live: bool = False,
        augments: bool = False,
        rates: list[float] | None = None,
        padding: int | None = None,
        guide_epochs: int = 10,
        guide_rate: float = 1e-3,
        **fit: Any,
    ) -> None:
        super().__init__(**fit)
        if kind != "none" and guide is None:
            raise ValueError(f"a guide that is {kind} has to be named")
        if distil and kind != "trained":
            raise ValueError("only a trained guide is distilled")
        if augments and kind != "none" and not live:
            raise ValueError("images that change need the guide in every step: live")
        self.guide, self.kind, self.alpha, self.guided_steps = guide, kind, alpha, guided_steps
        self.distil, self.temperature, self.live, self.augments = (
            distil,
            temperature,
            live,
            augments,
        )
        self.rates, self.guide_epochs, self.guide_rate = rates or [], guide_epochs, guide_rate
        self.padding = padding
        self.role = "guide"  # the argument that it is named by
        self.layers: list[int] = []  # of the target, one for each pair
        self.beside: list[int] = []  # of the guide
        self.network: nn.Module | None = None  # the guide, where it is live
        self.order = 0  # seed of the shuffled pixels

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        names = super().produces(init_args) | {"train_accuracy", "gap", "rate"}
        kind = init_args.get("kind") or "none"
        if kind != "none" and not init_args.get("distil"):
            names.add("alignment")
        return names | ({"guide_accuracy"} if kind == "trained" else set())

    def run(self, trial: Trial) -> Outcome:
        recipe, data, further = self._prepared(trial)
        trained, rate = recipe.best(data, trial)
        outcome = recipe._outcome(trained, replace(trial, data=data))
        metrics = {**outcome.metrics, **further, "rate": rate}
        learned, told = (figure(metrics[name]) for name in ("train_accuracy", "accuracy"))
        metrics["gap"] = learned - told
        return replace(outcome, metrics=metrics)

    def run_together(self, trials: Sequence[Trial]) -> list[Any]:
        raise Separately("every seed has a guide and a rate of its own")

    def best(self, data: Splits, trial: Trial) -> tuple[Trained, float]:
        """The target with the rate whose lowest validation loss is least, and that rate."""
        own = float(self.optimizer([nn.Parameter(torch.zeros(1))]).defaults["lr"])
        tried = []
        for index, rate in enumerate(self.rates or [own]):
            seed_all(trial.seed, "initial")  # the same weights for every rate and every guide
            recipe = copy.copy(self)
            recipe.optimizer = partial(self.optimizer, lr=rate)  # type: ignore[call-arg]
            trained = train(trial.model(), data, recipe, trial, f"under-{self.role}-{index}")
            tried.append((trained, rate))
        if len(tried) == 1:
            return tried[0]
        return min(tried, key=lambda each: each[0].best("val_loss", more=False)["val_loss"])

    def _prepared(self, trial: Trial) -> tuple[Guided, Splits, dict[str, float]]:
        """This recipe for the trial, its data with what the guide makes of them, and figures."""
        if self.kind == "none":
            return self, trial.data, {}
        guide = self._guide(trial).to(trial.device)
        further = {}
        if self.kind == "trained":
            further["guide_accuracy"] = self._accuracy(guide, trial.data.test, trial.device)
        recipe = copy.copy(self)
        recipe.order = derive(trial.seed, "pixels")
        if not self.distil:
            recipe.beside, recipe.layers = places(guide, trial)
        if self.live:
            recipe.network = guide
            return recipe, trial.data, further
        kernels, scores = recipe._of_all(guide, trial)
        accompanied = Accompanied(trial.data.train, kernels, scores)
        return recipe, replace(trial.data, train=accompanied), further

    def _guide(self, trial: Trial) -> nn.Module:
        """The frozen guide, in evaluation mode."""
        assert self.guide is not None
        weights = None
        if self.kind == "trained":
            arguments = trial.config["procedure"]["init_args"]
            named = (self.role, "guide_epochs", "guide_rate", "loss", "batch_size", "augments")
            settings = {name: arguments.get(name) for name in named}
            weights = trial.part(self.role, settings, self._taught)
        seed_all(trial.seed, self.role)
        guide = self.guide()
        if weights is not None:
            guide.load_state_dict(weights)
        return guide.eval().requires_grad_(False)

    def _taught(self, trial: Trial) -> dict[str, Tensor]:
        """Weights of the guide, trained on the examples that the target will see."""
        assert self.guide is not None
        recipe = Guided(
            loss=copy.deepcopy(self.loss),
            optimizer=partial(torch.optim.Adam, lr=self.guide_rate),
            epochs=self.guide_epochs,
            batch_size=self.batch_size,
            augments=self.augments,
        )
        return train(self.guide, trial.data.train, recipe, trial, "guide").model.state_dict()

    @torch.no_grad()
    def _of_all(self, guide: nn.Module, trial: Trial) -> tuple[Tensor | None, Tensor | None]:
        """Gram matrices (pairs, n, n) over the training examples, or the guide's logits."""
        if self.distil:
            return None, torch.cat([guide(x) for x in inputs(trial.data.train, trial.device)])
        generator = torch.Generator(trial.device).manual_seed(derive(trial.seed, "noise"))
        found: list[list[Tensor]] = []
        for x in inputs(trial.data.train, trial.device):
            layers = recorded(guide, self._shown(x, generator))[1]
            found.append([layers[index] for index in self.beside])
        return torch.stack([gram(torch.cat(layer)) for layer in zip(*found, strict=True)]), None

    def _shown(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """What the guide sees of the examples."""
        if self.kind == "shuffled":
            fixed = torch.Generator(x.device).manual_seed(self.order)
            return shuffled_pixels(x, fixed)
        if self.kind == "noise":
            if x.is_floating_point():
                return torch.randn(x.shape, generator=generator, device=x.device)
            most = int(x.max()) + 1 if self.padding is None else self.padding
            drawn = torch.randint(most, x.shape, generator=generator, device=x.device)
            return drawn if self.padding is None else torch.where(x == self.padding, x, drawn)
        return x

    def augment(self, batch: Batch, at: At) -> Batch:
        if not self.augments:
            return batch
        return {**batch, "x": shifted(flipped(batch["x"], at.generator), at.generator)}

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        output: Tensor = model(batch["x"])
        return output

    def training_loss(self, model: nn.Module, batch: Batch, at: At) -> Tensor:
        guided = self.guided_steps is None or at.step < self.guided_steps
        kernels, scores = self._signal(batch, at) if guided else (None, None)
        if kernels is None:
            output = self.predict(model, batch)
        else:
            output, layers = recorded(model, batch["x"])
        loss: Tensor = self.loss(output, batch["y"])
        if kernels is not None:
            found = similarities([layers[index] for index in self.layers], kernels)
            loss = loss + self.alpha * (1 - found).sum()
        if scores is not None:
            loss = loss + self.alpha * distillation(output, scores, self.temperature)
        return loss

    def _signal(self, batch: Batch, at: At) -> tuple[Tensor | None, Tensor | None]:
        """What the guide makes of a batch: Gram matrices (pairs, batch, batch), or logits."""
        if self.network is None:
            return batch.get("kernels"), batch.get("scores")
        with torch.no_grad():
            shown = self._shown(batch["x"], at.generator)
            if self.distil:
                return None, self.network.eval()(shown)
            layers = recorded(self.network.eval(), shown)[1]
            return torch.stack([gram(layers[index]) for index in self.beside]), None

    @torch.no_grad()
    def measure(self, model: nn.Module, trial: Trial) -> Outcome:
        train, device = trial.data.train, trial.device
        found = {"train_accuracy": self._accuracy(model, train, device)}
        if self.layers:
            batch = train[torch.arange(min(AT_ONCE, len(train)))]
            batch = {name: column.to(device) for name, column in batch.items()}
            kernels, _ = self._signal(batch, At(trial.seed, 0, 0, 1, 1, device))
            layers = recorded(model, batch["x"])[1]
            assert kernels is not None
            mine = similarities([layers[index] for index in self.layers], kernels)
            found["alignment"] = float(mine.mean())
        return Outcome(found)

    @torch.no_grad()
    def _accuracy(self, model: nn.Module, split: Split, device: torch.device) -> float:
        meter = copy.deepcopy(self.metrics["accuracy"]).to(device)
        meter.reset()
        for rows in torch.split(torch.arange(len(split)), AT_ONCE):
            batch = split[rows]
            meter.update(model(batch["x"].to(device)), batch["y"].to(device))
        return float(meter.compute())


def figure(value: float | Measured) -> float:
    return value.value if isinstance(value, Measured) else value


def places(guide: nn.Module, trial: Trial) -> tuple[list[int], list[int]]:
    """Layers of the guide and of the target, pair by pair."""
    x = trial.data.train[torch.arange(2)]["x"].to(trial.device)
    target = trial.model().eval().to(trial.device)
    with torch.no_grad():
        counts = [len(recorded(network, x)[1]) for network in (guide, target)]
    chosen = pairs(*counts)
    return [first for first, _ in chosen], [second for _, second in chosen]


def inputs(split: Split, device: torch.device) -> Iterator[Tensor]:
    """The examples of a split, batch by batch in their order."""
    for rows in torch.split(torch.arange(len(split)), AT_ONCE):
        yield split[rows]["x"].to(device)


def distillation(logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """T² KL(taught / T || logits / T), the mean over examples (Hinton et al., 2015)."""
    ours, theirs = ((z / temperature).log_softmax(1) for z in (logits, taught))
    divergence = F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    return temperature**2 * divergence
