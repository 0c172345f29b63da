"""The Fourier neural operator, as ``neuralop`` has it (the extra ``operators``)."""

from __future__ import annotations

from typing import Any

from neuralop import models
from torch import Tensor, nn


class FNO(nn.Module):
    """Lifting, layers of spectral convolutions with pointwise maps beside them, projection.

    Reference: Li et al., "Fourier neural operator for parametric partial differential equations",
    ICLR 2021. The two coordinates of the unit square are channels beside the inputs.

    Args:
        modes: wave numbers kept along each axis, negative ones among them.
        width: channels of the layers; the lifting and projecting networks have twice as many.
        inputs, outputs: channels.
    """

    def __init__(
        self, modes: int, width: int, layers: int = 4, inputs: int = 1, outputs: int = 1
    ) -> None:
        super().__init__()
        self.network = models.FNO(
            n_modes=(modes, modes),
            in_channels=inputs,
            out_channels=outputs,
            hidden_channels=width,
            n_layers=layers,
        )

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, d, d) -> (batch, outputs, d, d)."""
        output: Tensor = self.network(x)
        return output

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Tensors alone: neuralop adds its constructor's arguments."""
        found = super().state_dict(*args, **kwargs)
        found.pop("_metadata", None)
        return found
