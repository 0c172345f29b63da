"""What holds of the flows without training: identities, sizes, and what sampling costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from experiments.starflow.guidance import Rule, guided
from experiments.starflow.model import Block, Flow, STARFlowBlock
from harness.procedures.base import Outcome, Trial, exact
from harness.procedures.cost import interleaved, parameters


class Peeking(STARFlowBlock):
    """Reads token n where token n - 1 should be: no autoregressive flow any more."""

    def _before(self, x: Tensor) -> Tensor:
        return x


class PeekingFlow(Flow):
    """A flow of such blocks."""

    kinds: ClassVar[dict[str, type[Block]]] = {"starflow": Peeking}


class Identities:
    """``inverse_error`` and ``logdet_error`` of a flow with random weights, double precision.

    The largest |decode(encode(x)) - x|, and the largest difference of the log-determinant to that
    of the Jacobian by automatic differentiation, over ``examples`` sequences and their classes.
    """

    def __init__(self, examples: int = 4) -> None:
        self.examples = examples

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"inverse_error", "logdet_error"}

    def run(self, trial: Trial) -> Outcome:
        flow = trial.model().double()
        assert isinstance(flow, Flow)
        for parameter in flow.parameters():
            parameter.requires_grad_(False)
            parameter.add_(0.1 * torch.randn_like(parameter))
        x = torch.randn(self.examples, *flow.shape, dtype=torch.float64)
        label = torch.arange(self.examples) % max(flow.classes, 1)
        z, logdet = flow.encode(x, label)
        inverse = (flow.decode(z, label) - x).abs().max()
        gaps = []
        for i in range(self.examples):

            def encoded(one: Tensor, i: int = i) -> Tensor:
                return flow.encode(one[None], label[i : i + 1])[0].flatten()

            jacobian = torch.autograd.functional.jacobian(encoded, x[i])  # type: ignore[no-untyped-call]
            gaps.append((torch.linalg.slogdet(jacobian.flatten(1))[1] - logdet[i]).abs())
        return Outcome({"inverse_error": float(inverse), "logdet_error": float(max(gaps))})


class GuidedGaussians:
    """Proposition 2 on random Gaussians, in double precision.

    ``score_error``: the largest difference between d log N(x; μ~, σ~) / dx and
    (1 + w) d log p_c / dx - w d log p_u / dx where σ_c <= σ_u, relative to the larger one or 1.
    ``least_scale``: the least σ~ / σ_c of all, also where σ_c > σ_u.

    Args:
        rule: of guidance.
        draws: pairs of Gaussians, a weight w between 0 and 10 and a place x for each.
    """

    def __init__(self, rule: Rule = "product", draws: int = 1000) -> None:
        self.rule, self.draws = rule, draws

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"score_error", "least_scale"}

    def run(self, trial: Trial) -> Outcome:
        draw = torch.randn(5, self.draws, dtype=torch.float64)
        told, free = (draw[0], draw[1].exp()), (draw[2], draw[3].exp())
        x = draw[4].requires_grad_()
        errors, scales = [], []
        for weight in torch.linspace(0, 10, 21).tolist():
            mean, scale = guided(told, free, weight, self.rule)
            scales.append((scale / told[1]).min())
            wanted = (1 + weight) * _score(x, *told) - weight * _score(x, *free)
            found = (
                mean - x.detach()
            ) / scale**2  # a Gaussian's also where the scale has turned negative
            gap = (found - wanted).abs() / wanted.abs().clamp(min=1)
            errors.append(gap[told[1] <= free[1]].max())
        return Outcome({"score_error": float(max(errors)), "least_scale": float(min(scales))})


def _score(x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    (slope,) = torch.autograd.grad(Normal(mean, scale).log_prob(x).sum(), x)  # type: ignore[no-untyped-call]
    return slope


class Size:
    """``parameters`` of the model; nothing is computed."""

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"parameters"}

    def run(self, trial: Trial) -> Outcome:
        return Outcome({"parameters": exact(parameters(trial.model))})


class Times:
    """Seconds of one flow over those of another, in turns in one process.

    ``sampling_ratio``: of drawing ``batch`` samples with guidance, with keys and values kept;
    ``unguided_ratio``: without guidance; ``step_ratio``: of one training step, forward and
    backward; ``parameter_ratio``: of their parameters.

    Args:
        of: arguments of the flow whose seconds are divided; all its blocks are told the class.
        by: arguments of the other, of which the last block is told.
        shared: arguments of both.
        batch: sequences.
        repeats: timed runs of each, of which the median counts.
        weight: of guidance.
    """

    def __init__(
        self,
        of: dict[str, Any],
        by: dict[str, Any],
        shared: dict[str, Any],
        batch: int = 16,
        repeats: int = 3,
        weight: float = 2.0,
    ) -> None:
        self.settings = {"of": {"told": "all"} | shared | of, "by": shared | by}
        self.batch, self.repeats, self.weight = batch, repeats, weight

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"sampling_ratio", "unguided_ratio", "step_ratio", "parameter_ratio"}

    def run(self, trial: Trial) -> Outcome:
        flows = {name: Flow(**given).to(trial.device) for name, given in self.settings.items()}
        counts = {n: sum(p.numel() for p in flow.parameters()) for n, flow in flows.items()}
        z = torch.randn(self.batch, *flows["of"].shape, device=trial.device)
        label = torch.zeros(self.batch, dtype=torch.long, device=trial.device)

        def ratio(run: Callable[[Flow], object]) -> float:
            runs = {name: lambda flow=flow: run(flow) for name, flow in flows.items()}
            seconds = interleaved(runs, self.repeats)
            return seconds["of"] / seconds["by"]

        return Outcome(
            {
                "sampling_ratio": ratio(lambda flow: flow.decode(z, label, self.weight)),
                "unguided_ratio": ratio(lambda flow: flow.decode(z, label)),
                "step_ratio": ratio(lambda flow: _step(flow, z, label)),
                "parameter_ratio": exact(counts["of"] / counts["by"]),
            }
        )


def _step(flow: nn.Module, x: Tensor, label: Tensor) -> None:
    flow.zero_grad()
    flow(x, label).mean().backward()
