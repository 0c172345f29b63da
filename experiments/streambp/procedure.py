"""Gradients compared, time measured, and training with streamed gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric

from experiments.streambp.backward import Method, backward
from experiments.streambp.model import Decoder
from experiments.streambp.objectives import (
    DPO,
    GRPO,
    SFT,
    Objective,
    log_probabilities,
    next_tokens,
)
from harness.loading.splits import Batch
from harness.procedures.base import Outcome, Progress, Trial
from harness.procedures.cost import interleaved
from harness.procedures.fit import Fit
from harness.procedures.recipe import At
from harness.records import Series
from harness.seeding import seed_all

Gradients = dict[str, Tensor]
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}


def objective(name: str, tokens: Tensor, valid: Tensor | None, logits: Tensor) -> Objective:
    """An objective on random tokens whose old and reference policies are near the model.

    Args:
        name: ``sft``, ``dpo`` or ``grpo``.
        tokens: (B, T).
        valid: (B, T), false at padding.
        logits: the model's own (B, T, C), from which the other policies differ by noise.
    """
    labels = next_tokens(tokens, valid)
    if name == "sft":
        return SFT(labels)
    own = log_probabilities(logits, labels).double()
    old, reference = (own + 0.1 * torch.randn_like(own) for _ in range(2))
    if name == "dpo":
        return DPO(labels, reference)
    return GRPO(labels, old, reference, torch.randn(len(tokens), dtype=torch.float64))


class Exactness:
    """How far gradients are from those of standard backpropagation in higher precision.

    Args:
        method: how to backpropagate.
        model: arguments of the decoder.
        objectives: of ``sft``, ``dpo``, ``grpo``; the worst counts.
        length: tokens T.
        sequences: B, of which all but the first end in padding.
        chunks: layer chunks to try instead of the method's; the worst counts.
        dtype: what the method computes in.
        truth: what standard backpropagation, which it is compared with, computes in.
    """

    def __init__(
        self,
        method: Method,
        model: dict[str, Any],
        objectives: Sequence[str] = ("sft", "dpo", "grpo"),
        length: int = 37,
        sequences: int = 4,
        chunks: Sequence[int] = (),
        dtype: Literal["float64", "float32", "bfloat16"] = "float64",
        truth: Literal["float64", "float32"] = "float64",
    ) -> None:
        self.method, self.model = method, model
        self.objectives, self.length, self.sequences = list(objectives), length, sequences
        self.chunks = list(chunks) or [method.layer_chunk]
        self.dtype, self.truth = DTYPES[dtype], DTYPES[truth]

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        parts = ("head", "layer")
        return {"deviation", *(f"{p}_{e}_error" for p in parts for e in ("absolute", "relative"))}

    def run(self, trial: Trial) -> Outcome:
        model = Decoder(**self.model)
        tokens = torch.randint(model.embedding.num_embeddings, (self.sequences, self.length))
        lengths = self.length - torch.arange(self.sequences) * (self.length // 6)
        valid = torch.arange(self.length) < lengths[:, None]
        rows = []
        for done, name in enumerate(self.objectives):
            trial.report(Progress(done, len(self.objectives)))
            seed_all(trial.seed, name)
            with torch.no_grad():
                goal = objective(name, tokens, valid, model.to(self.truth)(tokens, valid))
            true = self._gradients(model, self.truth, tokens, goal, Method("standard"), valid)
            for rows_at_once in self.chunks:
                method = Method(**{**vars(self.method), "layer_chunk": rows_at_once})
                found = self._gradients(model, self.dtype, tokens, goal, method, valid)
                rows.append(compare(found, true))
        return Outcome({name: max(row[name] for row in rows) for name in rows[0]})

    def _gradients(
        self,
        model: Decoder,
        dtype: torch.dtype,
        tokens: Tensor,
        goal: Objective,
        method: Method,
        valid: Tensor,
    ) -> Gradients:
        """The gradients of a copy of the model in another precision, as float64."""
        copy = Decoder(**self.model)
        copy.load_state_dict(model.state_dict())
        backward(copy.to(dtype), tokens, goal, method, valid)
        return {n: p.grad.double() for n, p in copy.named_parameters() if p.grad is not None}


def compare(found: Gradients, true: Gradients) -> dict[str, float]:
    """The paper's errors (appendix D): means of ``|g - t|`` and of ``|g - t| / (|t| + 1e-10)``.

    At the head, and averaged over the first layer's query and key projections. ``deviation`` is
    the largest difference of all, relative to the largest gradient of its parameter.
    """

    def errors(names: Sequence[str]) -> tuple[float, float]:
        gaps = [(found[n] - true[n]).abs() for n in names]
        relative = [gap / (true[n].abs() + 1e-10) for n, gap in zip(names, gaps, strict=True)]
        return tuple(fmean(float(x.mean()) for x in each) for each in (gaps, relative))  # type: ignore[return-value]

    head, layer = errors(["head.weight"]), errors(["layers.0.q.weight", "layers.0.k.weight"])
    worst = max(float((found[n] - t).abs().max() / t.abs().max()) for n, t in true.items())
    return {
        "deviation": worst,
        "head_absolute_error": head[0],
        "head_relative_error": head[1],
        "layer_absolute_error": layer[0],
        "layer_relative_error": layer[1],
    }


class Speed:
    """Seconds of gradient checkpointing over those of a method, in turns, over the length.

    Args:
        method: how to backpropagate; with ``divisions`` its layer chunk is T / D.
        model: arguments of the decoder.
        lengths: T.
        divisions: D.
        repeats: timed runs of each, of which the median counts.
    """

    def __init__(
        self,
        method: Method,
        model: dict[str, Any],
        lengths: Sequence[int] = (512, 1024, 2048, 4096),
        divisions: int = 3,
        repeats: int = 3,
    ) -> None:
        self.method, self.model, self.lengths = method, model, list(lengths)
        self.divisions, self.repeats = divisions, repeats

    @classmethod
    def produces(cls, init_args: Mapping[str, Any]) -> set[str]:
        return {"speedup", "speedup_longest", "speedup_shortest"}

    def run(self, trial: Trial) -> Outcome:
        model = Decoder(**self.model).to(trial.device)
        gains = []
        for done, length in enumerate(self.lengths):
            trial.report(Progress(done, len(self.lengths)))
            chunk = -(-length // self.divisions)
            method = Method(**{**vars(self.method), "layer_chunk": chunk})
            runs = {
                "checkpoint": self._run(model, length, Method("checkpoint")),
                "method": self._run(model, length, method),
            }
            seconds = interleaved(runs, self.repeats)
            gains.append(seconds["checkpoint"] / seconds["method"])
        return Outcome(
            {"speedup_shortest": gains[0], "speedup_longest": gains[-1]},
            {"speedup": Series(over="length", x=list(map(float, self.lengths)), y=gains)},
        )

    def _run(self, model: Decoder, length: int, method: Method) -> Callable[[], object]:
        device = next(model.parameters()).device
        tokens = torch.randint(model.embedding.num_embeddings, (1, length), device=device)
        goal = SFT(next_tokens(tokens))

        def run() -> None:
            model.zero_grad()
            backward(model, tokens, goal, method)

        return run


class _Backward(torch.autograd.Function):
    """A loss whose gradients were gathered in the forward pass; backward hands them on."""

    @staticmethod
    def forward(ctx: Any, run: Callable[[], Tensor], *parameters: nn.Parameter) -> Tensor:
        before = [p.grad for p in parameters]
        for parameter in parameters:
            parameter.grad = None
        with torch.enable_grad():
            loss = run()
        ctx.save_for_backward(*(p.grad for p in parameters))
        for parameter, grad in zip(parameters, before, strict=True):
            parameter.grad = grad
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, *(g if g is None else g * gradients[0] for g in ctx.saved_tensors)


class TokenLoss(Metric):
    """Mean cross-entropy of the next token in nats, over all tokens of all batches."""

    higher_is_better = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Logits (B, C, T) and labels (B, T)."""
        self.total += F.cross_entropy(logits, labels, reduction="sum")
        self.count += labels.numel()

    def compute(self) -> Tensor:
        return self.total / self.count


class Training(Fit):
    """Fit on next tokens with gradients of a chosen method.

    Args:
        method: how to backpropagate.
        fit: arguments of :class:`harness.procedures.fit.Fit`.
    """

    def __init__(self, method: Method, **fit: Any) -> None:
        super().__init__(**fit)
        self.method = method

    def training_loss(self, model: nn.Module, batch: Batch, at: At) -> Tensor:
        assert isinstance(model, Decoder)
        tokens, goal = batch["x"], SFT(batch["y"])
        parameters = [p for p in model.parameters() if p.requires_grad]
        loss = _Backward.apply(lambda: backward(model, tokens, goal, self.method), *parameters)  # type: ignore[no-untyped-call]
        return loss  # type: ignore[no-any-return]

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits (B, C, T), as ``CrossEntropyLoss`` wants classes."""
        logits: Tensor = model(batch["x"])
        return logits.transpose(1, 2)
