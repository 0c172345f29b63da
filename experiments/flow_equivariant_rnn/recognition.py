"""Networks that tell actions apart, as in the authors' kth/train_kth_classification.py."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from experiments.flow_equivariant_rnn.model import Flow, TranslationCell


class Recogniser(nn.Module):
    """A recurrence on moving banks behind a convolutional encoder; the last state is classified.

    Args:
        side: of a frame, pixels.
        reach: fastest velocity of a bank along an axis; 0 is a G-RNN.
        flow: ``learned`` is the G-RNN+.
    """

    def __init__(
        self,
        side: int,
        classes: int,
        hidden: int = 128,
        reach: int = 2,
        flow: Flow = "constant",
        widths: tuple[int, int] = (32, 64),
    ) -> None:
        super().__init__()
        self.cell = TranslationCell(1, hidden, side, side, reach, flow)
        self.cell.activation = torch.tanh
        first, second = widths
        self.cell.inputs = nn.Sequential(
            *_normalised(nn.Conv2d(1, first, 5, padding=2, bias=False)),
            *_normalised(nn.Conv2d(first, second, 3, padding=1, bias=False)),
            *_normalised(nn.Conv2d(second, hidden, 3, padding=1, bias=False)),
        )
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of clips (batch, frames, 1, side, side)."""
        h = self.cell.initial(len(x), x)
        for step, frame in enumerate(x.unbind(1)):
            h = self.cell(frame, h, step)
        logits: Tensor = self.head(h.amax(dim=1).mean((-2, -1)))
        return logits


class Convolutional(nn.Module):
    """The 3D-CNN: five convolutions over space and time, averaged over both.

    Args:
        base: channels of the first layer, twice and four times as many of the later ones.
    """

    def __init__(self, classes: int, base: int = 16) -> None:
        super().__init__()
        shapes = [(1, base, 2, 1), (base, 2 * base, 1, 2), (2 * base, 2 * base, 1, 1)]
        shapes += [(2 * base, 4 * base, 1, 2), (4 * base, 4 * base, 1, 1)]
        self.layers = nn.Sequential(
            *(
                part
                for inputs, outputs, time, space in shapes
                for part in _normalised(
                    nn.Conv3d(
                        inputs, outputs, 3, stride=(time, space, space), padding=1, bias=False
                    )
                )
            )
        )
        self.head = nn.Linear(4 * base, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of clips (batch, frames, 1, side, side)."""
        logits: Tensor = self.head(self.layers(x.transpose(1, 2)).mean((-3, -2, -1)))
        return logits


def _normalised(convolution: nn.Conv2d | nn.Conv3d) -> list[nn.Module]:
    """With batch normalisation and ReLU."""
    normal = nn.BatchNorm2d if isinstance(convolution, nn.Conv2d) else nn.BatchNorm3d
    return [convolution, normal(convolution.out_channels), nn.ReLU()]
