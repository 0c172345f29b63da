"""The training loop: steps, evaluations, and the checkpoints from which it goes on."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from harness.loading.splits import Split, Splits
from harness.procedures.base import Diverged, Progress, Separately, Trial
from harness.procedures.batches import Batches
from harness.procedures.checkpoints import Checkpoints, Stopped
from harness.procedures.course import Course, Row
from harness.procedures.evaluation import Evaluation
from harness.procedures.networks import Networks
from harness.procedures.outside import Unkept
from harness.procedures.recipe import At, Recipe
from harness.procedures.selection import Average, refuse_undecided
from harness.seeding import derive, seed_all

_log = logging.getLogger(__name__)


class Loop:
    """Training of one model, or of several as one.

    Args:
        recipe: settings and hooks.
        data: for each model.
        trials: whose training this is; several if models are trained as one.
        networks: the models.
        name: of this training, where a trial has several.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Sequence[Splits],
        trials: Sequence[Trial],
        networks: Networks,
        name: str = "",
    ) -> None:
        self.recipe, self.data, self.trials, self.networks = recipe, data, trials, networks
        self.name = name
        self.device = trials[0].device
        self.seeds = [seed_of(trial, name) for trial in trials]
        self.train = [self._training(index) for index in range(len(trials))]
        self.course = Course(recipe, self.seeds, len(self.train[0]), self.device)
        self.schedule: Any = recipe.schedule(networks.optimizer) if recipe.schedule else None
        self.evaluation = self._evaluations()
        _refuse_unequal(self.train, *(each.splits for each in self.evaluation.values()))
        refuse_undecided(recipe, self.schedule, "val_" in self.evaluation)
        if isinstance(self.schedule, ReduceLROnPlateau) and len(trials) > 1:
            raise Separately("ReduceLROnPlateau treats every model in its own way")
        first = next(iter(reversed(self.evaluation.values())), None)
        networks.check(self.train, first.splits if first else [], self._at())
        weights = [networks.weights(index) for index in range(len(trials))]
        self.average = Average(recipe.ema, weights) if recipe.ema is not None else None
        self.checkpoints = _checkpoints(trials[0], name)
        self._resume()

    def run(self) -> None:
        """Train to the end, or until every model has stopped or diverged."""
        while not self.course.over:
            self._stretch()
            self._close()
            self._save()
        self._finish()

    def samples(self, index: int) -> int:
        """Examples that a model was trained on so far."""
        ended = self.course.members[index].ended
        epochs, rest = divmod(self.course.step if ended is None else ended, self.course.per_epoch)
        return epochs * self.train[index].examples + rest * self.recipe.batch_size

    def _training(self, index: int) -> Batches:
        recipe, networks = self.recipe, self.networks
        return Batches(
            self.data[index].train,
            recipe.batch_size,
            lambda: (self.seeds[index], self.course.epoch),
            recipe.drop_last,
            lambda: (networks.rank, networks.ranks),
        )

    def _evaluations(self) -> dict[str, Evaluation]:
        """By the prefix of its figures: validation first, then test."""
        if not self.recipe.metrics:
            return {}
        found = {}
        for prefix, splits in (
            ("val_", [data.val for data in self.data]),
            ("", [data.test for data in self.data]),
        ):
            if all(split is not None for split in splits):
                found[prefix] = self.evaluated(splits)  # type: ignore[arg-type]
        return found

    def evaluated(self, splits: Sequence[Split]) -> Evaluation:
        """Metrics over further splits, one for each model."""
        networks, size = self.networks, self.recipe.eval_batch_size
        shard = lambda: (networks.rank, networks.ranks)  # noqa: E731
        batches = [Batches(split, size, shard=shard) for split in splits]
        return Evaluation(self.recipe, networks, batches, [t.device for t in self.trials])

    def _at(self) -> list[At]:
        """Where the training of each model is."""
        course, rank = self.course, self.networks.rank
        step, epoch = course.step, course.epoch
        seeds = [derive(seed, "rank", rank) if rank else seed for seed in self.seeds]
        return [At(s, step, epoch, course.steps, course.epochs, self.device) for s in seeds]

    def _stretch(self) -> None:
        """Steps until there is something to evaluate, report or save."""
        networks, course = self.networks, self.course
        by_step = self.schedule is not None and self.recipe.schedule_every == "step"
        first = course.step % course.per_epoch
        within = ["step", first] if first else []
        rank = [networks.rank] if networks.rank else []  # ranks draw different noise
        seed_all(self.seeds[0], "epoch", course.epoch, *within, *rank)
        networks.train()
        count = course.until() - course.step
        if first == 0 and not self.recipe.eval_steps:
            course.forget()
        batches = itertools.islice(networks.batches(self.train, first), count)
        for index, batch in enumerate(batches, first):
            course.add(networks.step(batch, self._at()), self.train[0].size(index))
            course.step += 1
            if self.average is not None:
                self.average.update()
            if by_step and not isinstance(self.schedule, ReduceLROnPlateau):
                self.schedule.step()

    def _close(self) -> None:
        """Evaluate if it is time to, add to the curves, advance the schedule, and report."""
        course = self.course
        losses = course.mean(self.networks.mean(course.total))
        for index in course.alive:
            if not math.isfinite(losses[index]) and not self.recipe.scores_diverged:
                text = f"the training loss became {losses[index]} in epoch {self._counted()}"
                course.members[index].error = Diverged(text)
        rows = {index: course.place() | {"train_loss": losses[index]} for index in course.alive}
        evaluated = course.evaluates
        if evaluated:
            self._evaluate(rows)
        stopping = {index for index in course.alive if self.recipe.converged(rows[index])}
        if stopping and not evaluated:
            self._evaluate({index: rows[index] for index in stopping})
        self._advance(rows)
        for index in course.alive:
            if evaluated or index in stopping:
                self._keep(index, rows[index], index in stopping)
        if evaluated and self.recipe.eval_steps:
            course.forget()
        self._report(rows)

    def _counted(self) -> int:
        """The epoch that a step just made belongs to, counted from 1."""
        return -(-self.course.step // self.course.per_epoch)

    def _evaluate(self, rows: Mapping[int, Row]) -> None:
        """Add figures to rows; models with outputs that are no numbers have diverged."""
        self._swap()
        self.networks.train(False)
        with torch.inference_mode():
            for prefix, evaluation in self.evaluation.items():
                alive = [index for index in self.course.alive if index in rows]
                for index, found in evaluation(alive).items():
                    if isinstance(found, Diverged):
                        where = f"{found} after epoch {self._counted()}"
                        self.course.members[index].error = Diverged(where)
                    else:
                        rows[index].update({prefix + k: v for k, v in found.items()})
        if self.recipe.overrides("watch"):
            at, models = self._at(), self.networks.models()
            for index in (index for index in self.course.alive if index in rows):
                models[index].eval()
                with torch.no_grad():
                    watched = self.recipe.watch(models[index], self.data[index], at[index])
                rows[index].update(watched)
        self._swap()

    def _swap(self) -> None:
        if self.average is not None:
            self.average.swap()

    def _keep(self, index: int, row: Row, stopping: bool) -> None:
        """Add a row to a model's curves; it may be its best one, or its last."""
        member = self.course.members[index]
        member.rows.append(row)
        self._swap()
        weights = self.networks.weights(index)
        member.selection.look(row, weights)
        if (stopping or member.selection.tired) and self.course.step < self.course.steps:
            member.end(self.course.step, weights)
        self._swap()

    def _advance(self, rows: Mapping[int, Row]) -> None:
        """One step of a schedule that goes by epochs, or by the figure that it wants."""
        by_epoch = self.recipe.schedule_every == "epoch" and self.course.epoch_ended
        if isinstance(self.schedule, ReduceLROnPlateau):
            for row in rows.values():
                if self.recipe.monitor in row:
                    self.schedule.step(row[self.recipe.monitor])
        elif self.schedule is not None and by_epoch:
            self.schedule.step()

    def _report(self, rows: Mapping[int, Row]) -> None:
        course, begun = self.course, f"{self.name} " if self.name else ""
        by_steps = self.recipe.eval_steps or self.recipe.steps
        done, of = (course.step, course.steps) if by_steps else (course.epoch, course.epochs)
        for index, row in rows.items():
            if course.members[index].error is None:
                shown = {begun + k: v for k, v in row.items() if k != "step"}
                self.trials[index].report(Progress(done, of, shown))

    def _finish(self) -> None:
        """Leave each model with the weights that its recipe selects, in evaluation mode."""
        self._swap()
        for index, member in enumerate(self.course.members):
            if member.error is not None:
                continue
            try:
                chosen = member.selection.chosen()
            except Diverged as error:
                member.error = error
                continue
            weights = chosen[1] if chosen else member.weights
            if weights is not None:
                for name, tensor in self.networks.weights(index).items():
                    tensor.copy_(weights[name])
        self.networks.train(False)
        seed_all(self.seeds[0], "trained")  # the same whether it was resumed or not

    def _save(self) -> None:
        """Keep a checkpoint, if the time has come.

        Raises:
            Stopped: the trial was asked to stop.
        """
        checkpoints = self.checkpoints
        if checkpoints is None:
            return
        due, stopping = self.networks.agreed((checkpoints.due(), checkpoints.stopping()))
        if due and self.networks.rank == 0:
            try:
                checkpoints.write(self.course.step, self._state())
            except Unkept as error:
                _log.warning("no checkpoint of step %d: %s", self.course.step, error)
        if stopping:
            raise Stopped(f"stopped after epoch {self._counted()}")

    def _state(self) -> dict[str, Any]:
        return {
            "course": self.course.state(),
            "schedule": self.schedule.state_dict() if self.schedule else None,
            "networks": self.networks.state(),
            "average": self.average.state() if self.average else None,
        }

    def _resume(self) -> None:
        state = self.checkpoints.load() if self.checkpoints else None
        if state is None or state["course"]["seeds"] != self.seeds:
            return  # of this trial in other company, where floating-point sums may differ
        self.course.load(state["course"])
        self.networks.load(state["networks"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        if self.average is not None:
            self.average.load(state["average"])


def seed_of(trial: Trial, name: str) -> int:
    """Of a training: the trial's own, or one that depends on the training's name as well."""
    return derive(trial.seed, "training", name) if name else trial.seed


def _checkpoints(trial: Trial, name: str) -> Checkpoints | None:
    if trial.checkpoints is None or not name:
        return trial.checkpoints
    return trial.checkpoints.named(name)


def _refuse_unequal(*kinds: Sequence[Batches]) -> None:
    """Models that are trained together make the same steps."""
    for splits in kinds:
        if len({len(each.split) for each in splits}) > 1:
            raise Separately("the trials have different numbers of examples")
