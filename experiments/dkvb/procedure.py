"""Learning class by class on frozen features, and references that do not learn by gradients."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from experiments.dkvb.data import Stream
from experiments.dkvb.encoders import Positional, encoded
from experiments.dkvb.model import Bottleneck
from harness.loading.splits import Tensors
from harness.procedures.base import Outcome, Trial
from harness.procedures.recipe import Recipe
from harness.procedures.training import train
from harness.records import Series
from harness.seeding import derive, seed_all

Features = dict[str, Tensor]
KEYS = ("keys", "key_epochs", "key_batch", "threshold")
OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}


class ClassIncremental:
    """Train on splits of the classes, one after the other, and test on all classes after each.

    Every rate and weight decay is tried on the whole stream, and the validation accuracy at its
    end, over all classes, decides. ``accuracy`` is the mean over classes of test accuracies at
    the end, ``accuracy_after`` that after each split, ``first_accuracy`` over the first split's
    classes alone. ``forgetting`` is the mean over splits, but the last one, of the accuracy on a
    split's classes right after it less that at the end. ``val_by_rate`` are the validation
    accuracies (of the best decay), ``fetched`` is the share of pairs that training has fetched.

    Args:
        split_size: classes in a split; ``None`` for all of them at once, the i.i.d. setting.
        epochs: passes over each split.
        rates: learning rates.
        weight_decays: of L2 regularisation.
        optimizer: of the splits; ``one_optimizer`` for all of them, or a new one for each.
        clip_norm: bound of the gradient's norm.
        keys: inputs that keys are initialised with: ``own``, ``other``, ``far`` (see ``data.py``).
        key_epochs, key_batch: passes over these, and inputs at a time.
        threshold: keys that get less than this share of what is even are replaced.
    """

    def __init__(
        self,
        split_size: int | None = 2,
        epochs: int = 2000,
        batch_size: int = 256,
        rates: Sequence[float] = (0.3,),
        weight_decays: Sequence[float] = (0.0,),
        optimizer: Literal["sgd", "adam"] = "sgd",
        one_optimizer: bool = True,
        clip_norm: float | None = 1.0,
        label_smoothing: float = 0.1,
        keys: Literal["own", "other", "far"] = "other",
        key_epochs: int = 10,
        key_batch: int = 256,
        threshold: float = 0.1,
    ) -> None:
        self.split_size, self.epochs, self.batch_size = split_size, epochs, batch_size
        self.rates, self.weight_decays = rates, weight_decays
        self.optimizer, self.one_optimizer = optimizer, one_optimizer
        self.clip_norm, self.label_smoothing = clip_norm, label_smoothing
        self.keys, self.key_epochs = keys, key_epochs
        self.key_batch, self.threshold = key_batch, threshold

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"accuracy", "val_accuracy", "rate", "weight_decay"} | cls.sometimes(init_args)

    @classmethod
    def sometimes(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"forgetting", "accuracy_after", "first_accuracy", "val_by_rate", "fetched"}

    def run(self, trial: Trial) -> Outcome:
        splits = splits_of(trial.data, self.split_size, trial.seed)
        keys, stages = self._prepared(trial, splits)
        tried = {
            setting: self._learned(trial, keys, stages, *setting)
            for setting in itertools.product(self.rates, self.weight_decays)
        }
        best = max(tried, key=lambda setting: mean_accuracy(tried[setting][1]["val"]))
        model, found = tried[best]
        trial.keep(model)
        metrics = {
            "accuracy": mean_accuracy(found["test"]),
            "val_accuracy": mean_accuracy(found["val"]),
            "rate": best[0],
            "weight_decay": best[1],
        }
        series = {}
        if isinstance(model, Bottleneck):
            metrics["fetched"] = float(model.fetched.float().mean())
        if len(self.rates) > 1:
            values = [
                max(mean_accuracy(tried[rate, d][1]["val"]) for d in self.weight_decays)
                for rate in self.rates
            ]
            series["val_by_rate"] = Series(over="rate", x=list(self.rates), y=values)
        if len(splits) > 1:
            metrics["forgetting"] = forgetting(found["test"], splits)
            series |= self._course(found["test"], splits)
        examples = sum(len(stage["train_y"]) for stage in stages)
        return Outcome(metrics, series, self.epochs * examples * len(tried))

    def _course(self, found: Tensor, splits: Sequence[Sequence[int]]) -> dict[str, Series]:
        after = [float(i) for i in range(1, len(splits) + 1)]
        first = found[:, list(splits[0])].mean(1)
        return {
            "accuracy_after": Series(over="split", x=after, y=found.mean(1).tolist()),
            "first_accuracy": Series(over="split", x=after, y=first.tolist()),
        }

    def _prepared(
        self, trial: Trial, splits: Sequence[Sequence[int]]
    ) -> tuple[Features, list[Features]]:
        """Buffers of a bottleneck (of other models none), and what is trained and tested on in
        each split.

        With frozen keys that is which pairs are fetched, looked up once for all epochs and rates.
        """
        seed_all(trial.seed, "initial")
        model = trial.model()
        if not isinstance(model, Bottleneck):
            return {}, self._stages(trial, None, splits)
        settings = {**trial.settings(*KEYS), "model": trial.config.get("model")}
        keys = trial.part("keys", settings, self._initialised)
        if not model.frozen:
            return keys, self._stages(trial, None, splits)

        def looked_up(inside: Trial) -> dict[str, Any]:
            seed_all(trial.seed, "initial")
            model = inside.model().to(inside.device)
            assert isinstance(model, Bottleneck)
            model.load_state_dict(keys, strict=False)
            stages = self._stages(inside, model, splits)
            return {"fetched": model.fetched, "stages": stages}

        found = trial.part("pairs", {**settings, **trial.settings("split_size")}, looked_up)
        return {**keys, "fetched": found["fetched"]}, found["stages"]

    def _stages(
        self, trial: Trial, model: Bottleneck | None, splits: Sequence[Sequence[int]]
    ) -> list[Features]:
        features = features_of(trial)
        stages = []
        for classes in splits:
            rows = torch.isin(features["train_y"], torch.tensor(classes, device=trial.device))
            stage = features | {name: features[name][rows] for name in ("train_x", "train_y")}
            if model is not None:
                stage["train_x"] = model.snap(stage["train_x"])
                model.note(stage["train_x"])
                for name in ("val_x", "test_x"):
                    stage[name] = model.snap(stage[name], known=True)
            wanted = [f"{name}_{letter}" for name in ("train", "val", "test") for letter in "xy"]
            stages.append({name: stage[name] for name in wanted})
        return stages

    @torch.no_grad()
    def _initialised(self, trial: Trial) -> dict[str, Tensor]:
        z = features_of(trial)[f"keys_{self.keys}"]
        seed_all(trial.seed, "keys")
        model = trial.model().to(trial.device)
        assert isinstance(model, Bottleneck)
        threshold = self.threshold * self.key_batch / model.keys.shape[1]
        for _ in range(self.key_epochs):
            for rows in torch.split(torch.randperm(len(z), device=z.device), self.key_batch):
                model.follow(z[rows], threshold)
        return dict(model.named_buffers())

    def _learned(
        self,
        trial: Trial,
        keys: Mapping[str, Tensor],
        stages: Sequence[Features],
        rate: float,
        decay: float,
    ) -> tuple[nn.Module, dict[str, Tensor]]:
        """The model at the end of the stream, and its accuracies (splits, classes)."""
        seed_all(trial.seed, "initial")
        model = trial.model().to(trial.device)
        model.load_state_dict(keys, strict=False)
        read = model.values if isinstance(model, Bottleneck) and model.frozen else model
        recipe = self._recipe(rate, decay)
        found: dict[str, list[Tensor]] = {"val": [], "test": []}
        for index, stage in enumerate(stages):
            data = Tensors(x=stage["train_x"], y=stage["train_y"])
            train(read, data, recipe, trial, f"rate-{rate}-{decay}-split-{index}")
            for name, accuracies in found.items():
                accuracies.append(by_class(read, stage[f"{name}_x"], stage[f"{name}_y"]))
        return model, {name: torch.stack(accuracies) for name, accuracies in found.items()}

    def _recipe(self, rate: float, decay: float) -> Recipe:
        kept: list[torch.optim.Optimizer] = []

        def optimizer(parameters: Iterable[Any]) -> torch.optim.Optimizer:
            if not (kept and self.one_optimizer):
                kept[:] = [OPTIMIZERS[self.optimizer](parameters, lr=rate, weight_decay=decay)]
            return kept[0]

        return Positional(
            loss=nn.CrossEntropyLoss(label_smoothing=self.label_smoothing),
            optimizer=optimizer,
            epochs=self.epochs,
            batch_size=self.batch_size,
            clip_norm=self.clip_norm,
            eval_every=self.epochs,
        )


class Reference:
    """Class means, or stored examples, of the same features: nothing to forget by.

    ``accuracy`` is the mean over classes of test accuracies; the number of neighbours is that of
    the highest validation accuracy.

    Args:
        kind: the nearest class ``mean``, or the vote of the nearest training ``examples``.
        neighbours: numbers of them to choose from.
    """

    def __init__(
        self, kind: Literal["mean", "examples"] = "mean", neighbours: Sequence[int] = (1, 3, 5, 9)
    ) -> None:
        self.kind, self.neighbours = kind, neighbours

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"accuracy", "val_accuracy"}

    def run(self, trial: Trial) -> Outcome:
        data: Stream = trial.data
        features, classes = features_of(trial), data.dims["classes"]
        tried = [
            [
                by_class(vote, features[f"{name}_x"], features[f"{name}_y"]).mean().item()
                for name in ("val", "test")
            ]
            for vote in self._votes(features["train_x"], features["train_y"], classes)
        ]
        val, test = max(tried, key=lambda found: found[0])
        return Outcome({"accuracy": test, "val_accuracy": val})

    def _votes(self, z: Tensor, y: Tensor, classes: int) -> Iterator[Votes]:
        if self.kind == "mean":
            means = torch.stack([z[y == label].mean(0) for label in range(classes)])
            yield Votes(means, torch.arange(classes, device=y.device), 1, classes)
        else:
            for count in self.neighbours:
                yield Votes(z, y, count, classes)


class Votes(nn.Module):
    """How many of the nearest stored examples are of each class; the nearest decides ties."""

    def __init__(self, z: Tensor, y: Tensor, neighbours: int, classes: int) -> None:
        super().__init__()
        self.z, self.y, self.neighbours, self.classes = z, y, neighbours, classes

    def forward(self, x: Tensor) -> Tensor:
        nearest = torch.cdist(x, self.z).topk(self.neighbours, largest=False).indices
        found = nn.functional.one_hot(self.y[nearest], self.classes).float()
        rank = torch.arange(self.neighbours, device=x.device, dtype=x.dtype)
        return torch.einsum("bnk,n->bk", found, 1 - 1e-3 * rank / self.neighbours)


def features_of(trial: Trial) -> Features:
    """All images of the trial's data as features, by a frozen encoder; labels as they are."""
    return trial.part("features", {}, _encoded)


def _encoded(trial: Trial) -> Features:
    data: Stream = trial.data
    images = {name: column.to(trial.device) for name, column in data.images().items()}
    encoder = data.encoder.fitted(trial, images)
    return {
        name: column if name.endswith("_y") else encoded(encoder, column)
        for name, column in images.items()
        if not name.startswith("elsewhere")
    }


def splits_of(data: Stream, size: int | None, seed: int) -> list[list[int]]:
    """Classes of each split: in the data's own order, or in one that the seed draws.

    Raises:
        ValueError: the classes cannot be cut into splits of that size.
    """
    classes = data.dims["classes"]
    if size is None:
        return [list(range(classes))]
    if data.splits:
        return [list(split) for split in data.splits]
    if classes % size:
        raise ValueError(f"{classes} classes are not splits of {size}")
    generator = torch.Generator().manual_seed(derive(seed, "order"))
    order: list[int] = torch.randperm(classes, generator=generator).tolist()
    return [order[first : first + size] for first in range(0, classes, size)]


@torch.no_grad()
def by_class(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Accuracy on each class, (classes,); an answer that ties with another is wrong."""
    logits = torch.cat([model.eval()(part) for part in torch.split(x, 500)])
    own = logits.gather(1, y[:, None])
    right = ((logits >= own).sum(1) == 1).double()
    hits = torch.zeros(logits.shape[1], dtype=torch.double, device=y.device)
    return hits.index_add(0, y, right) / y.bincount(minlength=logits.shape[1]).clamp(min=1)


def mean_accuracy(found: Tensor) -> float:
    """At the end of the stream, of accuracies (splits, classes)."""
    return float(found[-1].mean())


def forgetting(found: Tensor, splits: Sequence[Sequence[int]]) -> float:
    """Accuracy on a split's classes right after it, less that at the end; mean over all splits
    but the last.

    Args:
        found: accuracies (splits, classes).
    """
    lost = [
        found[index, list(classes)].mean() - found[-1, list(classes)].mean()
        for index, classes in enumerate(splits[:-1])
    ]
    return float(torch.stack(lost).mean())
