"""Models that differ only by seed, trained as one."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from harness.loading.splits import Batch, Tensors
from harness.procedures.base import Separately, Trial
from harness.procedures.batches import Batches
from harness.procedures.networks import Objective, fused
from harness.seeding import seed_all

if TYPE_CHECKING:
    from harness.procedures.fit import Fit

# Each element's update depends on that element's gradients only, so that the parameters of
# several models may be stacked into one tensor.
ELEMENTWISE = (
    *(torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam, torch.optim.RAdam),
    *(torch.optim.Adamax, torch.optim.Adagrad, torch.optim.Adadelta, torch.optim.RMSprop),
)
TOLERANCE = 1e-4  # of the norm: float32 sums taken in another order, and the network behind them


class Stacked:
    """R models of equal shape, their parameters stacked to (R, …), trained as one.

    Raises:
        Separately: see :meth:`Fit.run_together`.
    """

    rank, ranks = 0, 1

    def __init__(self, fit: Fit, trials: Sequence[Trial]) -> None:
        self.fit = fit
        self.device = trials[0].device
        self.alone = []
        for trial in trials:
            seed_all(trial.seed, "model")
            self.alone.append(Objective(fit, trial.model().to(self.device)))
        try:
            self.parameters, self.buffers = stack_module_state(self.alone)
        except RuntimeError as error:
            raise Separately(str(error)) from error
        self.base = copy.deepcopy(self.alone[0])
        trained = [p for p in self.parameters.values() if p.requires_grad]
        self.optimizer = fused(fit.optimizer(iter(trained)))
        if type(self.optimizer) not in ELEMENTWISE:
            raise Separately(f"{type(self.optimizer).__name__} does not work element by element")

    def train(self, mode: bool = True) -> None:
        self.base.train(mode)

    def step(self, batch: Batch, index: int) -> Tensor:
        losses = self._losses(batch)
        self.optimizer.zero_grad()
        losses.sum().backward()  # type: ignore[no-untyped-call]
        self._clip()
        self.optimizer.step()
        return losses.detach()

    def _losses(self, batch: Batch) -> Tensor:
        def loss(parameters: Any, buffers: Any, batch: Batch) -> Tensor:
            found: Tensor = functional_call(self.base, (parameters, buffers), (batch,))
            return found

        losses: Tensor = vmap(loss, randomness="error")(self.parameters, self.buffers, batch)
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
        if self.fit.clip_value is not None:
            nn.utils.clip_grad_value_(self.optimizer.param_groups[0]["params"], self.fit.clip_value)
        if self.fit.clip_norm is not None:
            norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients], 1).norm(dim=1)
            factor = (self.fit.clip_norm / (norms + 1e-6)).clamp(max=1.0)
            for gradient in gradients:
                gradient.mul_(factor.view(-1, *[1] * (gradient.ndim - 1)))

    def batches(self, splits: Sequence[Batches]) -> Iterator[Batch]:
        """Batches (R, B, …) in which every model has its own order."""
        first = splits[0].split
        if isinstance(first, Tensors) and all(each.split is first for each in splits):
            orders = torch.stack([each.order() for each in splits])
            for indices in torch.split(orders, splits[0].batch_size, dim=1)[: len(splits[0])]:
                yield self._moved(first[indices])
        else:
            for parts in zip(*splits, strict=True):
                yield self._moved({k: torch.stack([p[k] for p in parts]) for k in parts[0]})

    def outputs(self, splits: Sequence[Batches]) -> Iterator[list[tuple[Tensor, Tensor]]]:
        shared = all(each.split is splits[0].split for each in splits)
        for batch in map(self._moved, splits[0]) if shared else self.batches(splits):
            outputs = self._outputs(batch, shared)
            targets = [batch["y"]] * len(splits) if shared else batch["y"]
            yield list(zip(outputs, targets, strict=True))

    def _moved(self, batch: Batch) -> Batch:
        return {name: column.to(self.device) for name, column in batch.items()}

    def check(self, training: Sequence[Batches], evaluation: Sequence[Batches]) -> None:
        """Compare a step and an evaluation with those of each model by itself; undo the step.

        Raises:
            Separately: the models cannot be vectorised, or something came out otherwise.
        """
        before = {name: buffer.clone() for name, buffer in self.buffers.items()}
        try:
            batch = next(iter(self.batches(training)))
            self.train()
            losses = self._losses(batch)
            losses.sum().backward()  # type: ignore[no-untyped-call]
            self.train(False)
            with torch.inference_mode():
                outputs = next(self.outputs(evaluation))
        except Exception as error:  # whatever a model does that vmap cannot
            raise Separately(str(error).splitlines()[0] if str(error) else repr(error)) from error
        test = [self._moved(next(iter(each))) for each in evaluation]
        for index, objective in enumerate(self.alone):
            mine = {name: column[index] for name, column in batch.items()}
            loss = objective.train()(mine)
            loss.backward()
            _compare(losses[index], loss, "the loss")
            gradients = [
                (self.parameters[name].grad, parameter.grad)
                for name, parameter in objective.named_parameters()
            ]
            stacked = _flat(None if both is None else both[index] for both, _ in gradients)
            _compare(stacked, _flat(one for _, one in gradients), "the gradient")
            for name, buffer in objective.named_buffers():
                _compare(self.buffers[name][index], buffer, name)
            with torch.inference_mode():
                _compare(outputs[index][0], objective.eval()(test[index], True), "the output")
            objective.zero_grad()
        self.optimizer.zero_grad()
        with torch.no_grad():
            for name, buffer in self.buffers.items():
                buffer.copy_(before[name])

    def models(self) -> list[nn.Module]:
        with torch.no_grad():
            for index, objective in enumerate(self.alone):
                for name, parameter in objective.named_parameters():
                    parameter.copy_(self.parameters[name][index])
                for name, buffer in objective.named_buffers():
                    buffer.copy_(self.buffers[name][index])
        return [objective.model for objective in self.alone]

    def state(self) -> dict[str, Any]:
        tensors = {**self.parameters, **self.buffers}
        return {
            "model": {name: tensor.detach() for name, tensor in tensors.items()},
            "optimizer": self.optimizer.state_dict(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        with torch.no_grad():
            for name, tensor in {**self.parameters, **self.buffers}.items():
                tensor.copy_(state["model"][name])
        self.optimizer.load_state_dict(state["optimizer"])

    def agreed(self, value: tuple[bool, bool]) -> tuple[bool, bool]:
        return value

    def mean(self, value: Tensor) -> Tensor:
        return value


def _flat(tensors: Iterable[Tensor | None]) -> Tensor:
    """As one vector; ``None`` where an objective does not depend on a parameter."""
    return torch.cat([t.flatten() for t in tensors if t is not None])


def _compare(stacked: Tensor, alone: Tensor, what: str) -> None:
    one, other = stacked.detach().double(), alone.detach().double()
    close = (one - other).norm() <= TOLERANCE * other.norm() + 1e-8
    if not close and (one.isfinite().all() or other.isfinite().all()):  # else it diverges anyway
        raise Separately(f"{what} is another one when models are trained together")
