"""CORnet-S and VGG-16, whose layers are compared with people and with brains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.vision import VGG

Layers = dict[str, Tensor]


class Layered(Protocol):
    """A network whose layers can be looked at; ``low`` and ``high`` are those that are searched."""

    @property
    def low(self) -> str: ...

    @property
    def high(self) -> str: ...

    def layers(self, x: Tensor) -> Layers: ...


class RecurrentBlock(nn.Module):
    """An area of CORnet-S: a bottleneck that is run several times with the same weights.

    After a 1x1 convolution each step adds what it started from; the first step halves the side,
    and carries its start over by a 1x1 convolution of stride 2. Each step has batch
    normalisations of its own.

    Args:
        inputs, outputs: channels.
        times: steps.
        scale: channels inside the bottleneck, in multiples of ``outputs``.
    """

    def __init__(self, inputs: int, outputs: int, times: int, scale: int = 4) -> None:
        super().__init__()
        inner = scale * outputs
        self.conv_input = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.skip = nn.Conv2d(outputs, outputs, 1, stride=2, bias=False)
        self.norm_skip = nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(outputs, inner, 1, bias=False)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.norms = nn.ModuleList(
            nn.ModuleList(nn.BatchNorm2d(width) for width in (inner, inner, outputs))
            for _ in range(times)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """From (b, inputs, h, w) to the states (b, outputs, h/2, w/2) after each step."""
        x = self.conv_input(x)
        states: list[Tensor] = []
        for step, norms in enumerate(self.norms):
            norm1, norm2, norm3 = cast(nn.ModuleList, norms)
            stride = 1 if step else 2
            start = x if step else self.norm_skip(self.skip(x))
            x = F.relu(norm1(self.conv1(x)))
            x = F.relu(norm2(F.conv2d(x, self.conv2.weight, stride=stride, padding=1)))
            x = F.relu(norm3(self.conv3(x)) + start)
            states.append(x)
        return states


class CORnetS(nn.Module):
    """CORnet-S (official code, ``cornet_s.py``): four areas, three of them recurrent.

    Args:
        classes: of the linear decoder.
        widths: channels of V1, V2, V4 and IT.
        times: steps of V2, V4 and IT.
        scale: of the bottlenecks.
        kernel, pool: V1's first kernel (stride 2) and whether it pools; without, and with a
            smaller kernel, the network fits images of 32 x 32.
    """

    @property
    def low(self) -> str:
        """V2's last step: the released search's example of an intermediate layer."""
        return f"V2.{len(self.areas['V2'].norms) - 1}"  # type: ignore[arg-type]

    @property
    def high(self) -> str:
        return f"IT.{len(self.areas['IT'].norms) - 1}"  # type: ignore[arg-type]

    def __init__(
        self,
        classes: int = 1000,
        widths: Sequence[int] = (64, 128, 256, 512),
        times: Sequence[int] = (2, 4, 2),
        scale: int = 4,
        kernel: int = 7,
        pool: bool = True,
    ) -> None:
        super().__init__()
        first = widths[0]
        self.conv1 = nn.Conv2d(3, first, kernel, stride=2, padding=kernel // 2, bias=False)
        self.norm1 = nn.BatchNorm2d(first)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1) if pool else nn.Identity()
        self.conv2 = nn.Conv2d(first, first, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(first)
        blocks = zip(widths[:-1], widths[1:], times, strict=True)
        self.areas = nn.ModuleDict(
            {
                area: RecurrentBlock(inputs, outputs, steps, scale)
                for area, (inputs, outputs, steps) in zip(("V2", "V4", "IT"), blocks, strict=True)
            }
        )
        self.linear = nn.Linear(widths[-1], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def layers(self, x: Tensor) -> Layers:
        """Images (b, 3, h, w) to what each layer makes of them, in the order of the layers."""
        x = F.relu(self.norm1(self.conv1(x)))
        found = {"V1.0": x}
        x = F.relu(self.norm2(self.conv2(self.pool(x))))
        found["V1.1"] = x
        for area, block in self.areas.items():
            states = block(x)
            found |= {f"{area}.{step}": state for step, state in enumerate(states)}
            x = states[-1]
        found["decoder"] = self.linear(x.mean((2, 3)))
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Scores (b, classes)."""
        return self.layers(x)["decoder"]


class LayeredVGG(VGG):
    """VGG whose layers have the names of torchvision's: ``features.27``, ``classifier.4``.

    With 3 channels, 1,000 classes, ``hidden: [4096, 4096]`` and ``side: 7`` it is VGG-16 with batch
    normalisation.
    """

    @property
    def low(self) -> str:
        """The pooling three fifths up: Pool3 of VGG-16."""
        pools = [i for i, part in enumerate(self) if isinstance(part, nn.MaxPool2d)]
        return f"features.{pools[-(-3 * len(pools) // 5) - 1]}"

    @property
    def high(self) -> str:
        """The last pooling, ``features.43`` of VGG-16."""
        return f"features.{len(self) - 3}"

    def forward(self, x: Tensor) -> Tensor:
        """Scores (b, classes)."""
        scores: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return scores

    def layers(self, x: Tensor) -> Layers:
        """Images (b, 3, h, w) to what each layer makes of them, in the order of the layers.

        Of those before pooling or a score these are what comes after the ReLU.
        """
        found: Layers = {}
        features, mean, head = list(self)[:-2], self[-2], cast(nn.Sequential, self[-1])
        for index, part in enumerate(features):
            x = part(x)
            if isinstance(part, nn.ReLU | nn.MaxPool2d):
                found[f"features.{index}"] = x
        x = mean(x)
        for index, part in enumerate(head):
            x = part(x)
            if isinstance(part, nn.ReLU) or part is head[-1]:
                found[f"classifier.{index}"] = x
        return found


@torch.inference_mode()
def activations(
    model: Layered, images: Tensor, names: Sequence[str] | None = None, batch: int = 256
) -> Mapping[str, Tensor]:
    """Flattened activations (n, features) of layers, of all if none are named.

    As in the released code these are what the layer gives for each image, nothing pooled. The
    model is to be in evaluation mode.
    """
    found: dict[str, list[Tensor]] = {}
    for part in torch.split(images, batch):
        for name, values in model.layers(part).items():
            if names is None or name in names:
                found.setdefault(name, []).append(values.flatten(1))
    return {name: torch.cat(parts) for name, parts in found.items()}
