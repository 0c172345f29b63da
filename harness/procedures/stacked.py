"""Models that differ only by seed, trained as one."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from harness.loading.splits import Batch, Tensors
from harness.procedures.base import Separately
from harness.procedures.batches import Batches
from harness.procedures.networks import Objective, fused
from harness.procedures.outside import Outside, Unkept, same
from harness.procedures.recipe import At, Recipe

# Each element's update depends on that element's gradients only, so that the parameters of
# several models may be stacked into one tensor.
ELEMENTWISE = (
    *(torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam, torch.optim.RAdam),
    *(torch.optim.Adamax, torch.optim.Adagrad, torch.optim.Adadelta, torch.optim.RMSprop),
)
CHECKED = 16  # models that are compared with themselves alone
TOLERANCE = 1e-4  # of the norm: float32 sums taken in another order, and the network behind them


class Stacked:
    """R models of equal shape, their parameters stacked to (R, …), trained as one.

    Raises:
        Separately: see :func:`harness.procedures.training.train_together`.
    """

    rank, ranks = 0, 1

    def __init__(self, recipe: Recipe, models: Sequence[nn.Module], device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.alone = [Objective(recipe, model.to(device)) for model in models]
        try:
            self.parameters, self.buffers = stack_module_state(self.alone)
        except RuntimeError as error:
            raise Separately(str(error)) from error
        self.base = copy.deepcopy(self.alone[0])
        self.optimizer = fused(recipe.optimizer(self._groups()))
        if type(self.optimizer) not in ELEMENTWISE:
            raise Separately(f"{type(self.optimizer).__name__} does not work element by element")
        self._augments = recipe.overrides("augment")
        self._changes = recipe.overrides("gradients", "gradients_together")
        self._outside = Outside(self.base.model, recipe)

    def _groups(self) -> Iterable[Any]:
        """The recipe's parameter groups of the first model, of stacked parameters."""
        if not self.recipe.overrides("parameter_groups"):
            return iter([p for p in self.parameters.values() if p.requires_grad])
        stacked = {id(p): self.parameters[name] for name, p in self.alone[0].named_parameters()}
        groups = list(self.recipe.parameter_groups(self.alone[0].model))
        if isinstance(groups[0], dict):
            return [g | {"params": [stacked[id(p)] for p in g["params"]]} for g in groups]
        return [stacked[id(p)] for p in groups]

    def train(self, mode: bool = True) -> None:
        self.base.train(mode)

    def step(self, batch: Batch, at: Sequence[At]) -> Tensor:
        batch = self._augmented(batch, at)
        losses = self._losses(batch, at)
        self.optimizer.zero_grad()
        losses.sum().backward()  # type: ignore[no-untyped-call]
        self._clip()
        if self._changes:
            self._change(at)
        self.optimizer.step()
        return losses.detach()

    def _augmented(self, batch: Batch, at: Sequence[At]) -> Batch:
        if not self._augments:
            return batch
        parts = [
            self.recipe.augment({name: column[index] for name, column in batch.items()}, each)
            for index, each in enumerate(at)
        ]
        return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}

    @torch.no_grad()
    def _change(self, at: Sequence[At]) -> None:
        """Let the recipe change the gradients: models of their own see their rows."""
        if not self.recipe.overrides("gradients"):
            found = {n.removeprefix("model."): p.grad for n, p in self.parameters.items()}
            self.recipe.gradients_together({n: g for n, g in found.items() if g is not None}, at)
            return
        for index, objective in enumerate(self.alone):
            rows = []
            for name, parameter in objective.named_parameters():
                whole = self.parameters[name].grad
                parameter.grad = None if whole is None else whole[index]
                rows.append(parameter.grad)
            self.recipe.gradients(objective.model, at[index])
            for row, parameter in zip(rows, objective.parameters(), strict=True):
                if row is not None and parameter.grad is not None and parameter.grad is not row:
                    row.copy_(parameter.grad)
                parameter.grad = None

    def _tie(self) -> None:
        """Let the models by themselves have the stacked tensors' rows as theirs."""
        for index, objective in enumerate(self.alone):
            for name, parameter in objective.named_parameters():
                parameter.data = self.parameters[name].detach()[index]
            for name, buffer in objective.named_buffers():
                buffer.data = self.buffers[name][index]

    def _losses(self, batch: Batch, at: Sequence[At]) -> Tensor:
        self.base.at = at[0]  # where a model's own would matter, the check finds out

        def loss(parameters: Any, buffers: Any, batch: Batch) -> Tensor:
            found: Tensor = functional_call(self.base, (parameters, buffers), (batch,))
            return found

        mapped = vmap(loss, randomness="error")
        losses: Tensor = mapped(self.parameters, self.buffers, batch)
        return losses

    def _outputs(self, batch: Batch, shared: bool) -> Tensor:
        def output(parameters: Any, buffers: Any, batch: Batch) -> Tensor:
            state = (parameters, buffers)
            found: Tensor = functional_call(self.base, state, (batch,), {"predict": True})
            return found

        over = (0, 0, None if shared else 0)
        mapped = vmap(output, in_dims=over, randomness="error")
        outputs: Tensor = mapped(self.parameters, self.buffers, batch)
        return outputs

    def _clip(self) -> None:
        """As torch's clipping does for each model."""
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        if self.recipe.clip_value is not None:
            nn.utils.clip_grad_value_(
                self.optimizer.param_groups[0]["params"], self.recipe.clip_value
            )
        if self.recipe.clip_norm is not None:
            norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients], 1).norm(dim=1)
            factor = (self.recipe.clip_norm / (norms + 1e-6)).clamp(max=1.0)
            for gradient in gradients:
                gradient.mul_(factor.view(-1, *[1] * (gradient.ndim - 1)))

    def batches(self, splits: Sequence[Batches], first: int = 0) -> Iterator[Batch]:
        """Batches (R, B, …) in which every model has its own order."""
        split = splits[0].split
        if isinstance(split, Tensors) and all(each.split is split for each in splits):
            orders = torch.stack([each.order() for each in splits])
            parts = torch.split(orders, splits[0].batch_size, dim=1)[first : len(splits[0])]
            yield from (self._moved(split[indices]) for indices in parts)
        else:
            for parts in zip(*(each.starting(first) for each in splits), strict=True):
                yield self._moved({k: torch.stack([p[k] for p in parts]) for k in parts[0]})

    def outputs(self, splits: Sequence[Batches]) -> Iterator[list[tuple[Tensor, Batch]]]:
        count = range(len(splits))
        shared = all(each.split is splits[0].split for each in splits)
        for batch in map(self._moved, splits[0]) if shared else self.batches(splits):
            outputs = self._outputs(batch, shared)
            own = (
                [batch] * len(splits)
                if shared
                else [{k: v[i] for k, v in batch.items()} for i in count]
            )
            yield list(zip(outputs, own, strict=True))

    def _moved(self, batch: Batch) -> Batch:
        return {name: column.to(self.device) for name, column in batch.items()}

    def check(
        self, training: Sequence[Batches], evaluation: Sequence[Batches], at: Sequence[At]
    ) -> None:
        """Compare a step and an evaluation with those of each model by itself; undo the step.

        Raises:
            Separately: the models cannot be vectorised, or something came out otherwise.
        """
        before = {name: buffer.clone() for name, buffer in self.buffers.items()}
        outside = self._kept()
        outputs: list[tuple[Tensor, Batch]] = []
        try:
            batch = self._augmented(next(iter(self.batches(training))), at)
            self.train()
            losses = self._losses(batch, at)
            losses.sum().backward()  # type: ignore[no-untyped-call]
            self.train(False)
            with torch.inference_mode():
                outputs = next(self.outputs(evaluation)) if evaluation else []
        except Exception as error:  # whatever a model does that vmap cannot
            raise Separately(str(error).splitlines()[0] if str(error) else repr(error)) from error
        if not same(outside, self._kept()):
            raise Separately("the model has state outside its parameters and buffers")
        for index, objective in enumerate(self.alone[:CHECKED]):
            mine = {name: column[index] for name, column in batch.items()}
            self._compare_step(index, objective, mine, losses[index], at[index])
            if evaluation:
                test = self._moved(next(iter(evaluation[index])))
                with torch.inference_mode():
                    _compare(outputs[index][0], objective.eval()(test, True), "the output")
            objective.zero_grad()
        self.optimizer.zero_grad()
        with torch.no_grad():
            for name, buffer in self.buffers.items():
                buffer.copy_(before[name])
        self._tie()

    def _compare_step(
        self, index: int, objective: Objective, batch: Batch, stacked: Tensor, at: At
    ) -> None:
        objective.at = at
        loss = objective.train()(batch)
        loss.backward()
        _compare(stacked, loss, "the loss")
        gradients = [
            (self.parameters[name].grad, parameter.grad)
            for name, parameter in objective.named_parameters()
        ]
        together = _flat(None if both is None else both[index] for both, _ in gradients)
        _compare(together, _flat(one for _, one in gradients), "the gradient")
        for name, buffer in objective.named_buffers():
            _compare(self.buffers[name][index], buffer, name)

    def _kept(self) -> dict[str, Any]:
        try:
            return self._outside.state()
        except Unkept as error:
            raise Separately(str(error)) from error

    def models(self) -> list[nn.Module]:
        return [objective.model for objective in self.alone]

    def released(self) -> list[nn.Module]:
        for objective in self.alone:
            for tensor in (*objective.parameters(), *objective.buffers()):
                tensor.data = tensor.detach().clone()
        return self.models()

    def weights(self, index: int) -> dict[str, Tensor]:
        tensors = {**self.parameters, **self.buffers}
        return {name: tensor.detach()[index] for name, tensor in tensors.items()}

    def state(self) -> dict[str, Any]:
        tensors = {**self.parameters, **self.buffers}
        return {
            "model": {name: tensor.detach() for name, tensor in tensors.items()},
            "optimizer": self.optimizer.state_dict(),
            "outside": self._outside.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        with torch.no_grad():
            for name, tensor in {**self.parameters, **self.buffers}.items():
                tensor.copy_(state["model"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self._outside.load(state["outside"])

    def agreed(self, value: tuple[bool, bool]) -> tuple[bool, bool]:
        return value

    def mean(self, value: Tensor) -> Tensor:
        return value

    def gathered(self, value: list[Any]) -> list[Any]:
        return value


def _flat(tensors: Iterable[Tensor | None]) -> Tensor:
    """As one vector; ``None`` where an objective does not depend on a parameter."""
    return torch.cat([t.flatten() for t in tensors if t is not None])


def _compare(stacked: Tensor, alone: Tensor, what: str) -> None:
    one, other = stacked.detach().double(), alone.detach().double()
    close = (one - other).norm() <= TOLERANCE * other.norm() + 1e-8
    if not close and (one.isfinite().all() or other.isfinite().all()):  # else it diverges anyway
        raise Separately(f"{what} is another one when models are trained together")
