"""LMUFormer one frame at a time: the same outputs as on the whole sequence, five frames later."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from experiments.lmuformer.model import ConvEmbedding, LMUFormer


class CentredConvolution:
    """A convolution over 3 frames, fed frame by frame: it answers for the frame before.

    Args:
        then: what follows it, frame by frame (activation, normalisation).
    """

    def __init__(self, convolution: nn.Conv1d, then: nn.Module, batch: int) -> None:
        self.convolution = convolution
        self.then = then
        zero = convolution.weight.new_zeros(batch, convolution.in_channels)
        self.seen = [zero]  # the padding before the first frame

    def push(self, x: Tensor) -> Tensor | None:
        """Frame t (batch, channels) -> output at t - 1, or ``None`` at the first frame."""
        self.seen.append(x)
        if len(self.seen) < 3:
            return None
        window = torch.stack(self.seen[-3:], dim=-1)
        self.seen = self.seen[-2:]
        weight, bias = self.convolution.weight, self.convolution.bias
        convolved = torch.nn.functional.conv1d(window, weight, bias)
        output: Tensor = self.then(convolved).squeeze(-1)
        return output

    def finish(self) -> Tensor | None:
        """The output at the last frame, after which there is padding."""
        return self.push(torch.zeros_like(self.seen[-1]))


class StreamingEmbedding:
    """:class:`ConvEmbedding`, frame by frame."""

    def __init__(self, embedding: ConvEmbedding, batch: int) -> None:
        layers = list(embedding.layers)
        self.stages = [
            CentredConvolution(layers[i], nn.Sequential(*layers[i + 1 : i + 3]), batch)  # type: ignore[arg-type]
            for i in range(0, len(layers), 3)
        ]
        self.relative = CentredConvolution(embedding.relative, nn.Identity(), batch)
        self.waiting: list[Tensor] = []  # inputs of the residual connection

    def push(self, x: Tensor) -> Tensor | None:
        """Frame t (batch, features) -> the embedding of frame t - 5, (batch, width)."""
        return self._pass(x, 0)

    def finish(self) -> list[Tensor]:
        """The embeddings that are still missing when the sequence ends."""
        rest = []
        for i, stage in enumerate(self.stages):
            last = stage.finish()
            found = self._pass(last, i + 1) if last is not None else None
            if found is not None:
                rest.append(found)
        last = self.relative.finish()
        return rest if last is None else [*rest, self.waiting.pop(0) + last]

    def _pass(self, x: Tensor | None, first: int) -> Tensor | None:
        for stage in self.stages[first:]:
            x = stage.push(x) if x is not None else None
        if x is None:
            return None
        self.waiting.append(x)
        relative = self.relative.push(x)
        return None if relative is None else self.waiting.pop(0) + relative


class Stream:
    """Class scores of a sequence that is still arriving.

    What is kept does not grow with its length: two frames for each convolution, the LMU's memory
    and a running sum.
    """

    def __init__(self, model: LMUFormer, batch: int = 1) -> None:
        self.model = model.eval()
        self.embedding = StreamingEmbedding(model.embedding, batch)
        self.memory = model.frames.lmu.start(batch)
        self.total: Tensor | float = 0.0
        self.count = 0

    @torch.no_grad()
    def push(self, x: Tensor) -> Tensor | None:
        """Frame t (batch, features) -> logits on frames 0 to t - 5 (batch, classes), if any."""
        embedded = self.embedding.push(x)
        return None if embedded is None else self._score(embedded)

    @torch.no_grad()
    def finish(self) -> list[Tensor]:
        """Logits after each of the last frames."""
        return [self._score(embedded) for embedded in self.embedding.finish()]

    def _score(self, embedded: Tensor) -> Tensor:
        features, self.memory = self.model.step(embedded, self.memory)
        self.total = self.total + features
        self.count += 1
        logits: Tensor = self.model.head(self.total / self.count)
        return logits
