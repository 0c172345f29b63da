"""Leaky integrate-and-fire neurons over a whole sequence, with a surrogate gradient.

The membrane potential starts at 0 in every call: nothing is carried from a batch to the next.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class _Fire(torch.autograd.Function):
    """h_t = v_{t-1} + (x_t - v_{t-1}) / tau; s_t = [h_t >= threshold]; v_t = h_t (1 - s_t).

    Backwards the step is taken for a sigmoid of slope ``sharpness``, and the reset for a constant
    (it is detached), so that dh_{t+1}/dh_t = (1 - 1/tau)(1 - s_t).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, tau: float, threshold: float, sharpness: float) -> Tensor:
        charged = x / -tau  # with its sign turned, a reset is torch.threshold
        potential = torch.zeros_like(x[0])
        for now in charged.unbind(0):
            now.add_(potential, alpha=1 - 1 / tau)
            potential = torch.threshold(now, -threshold, 0.0)
        charged.neg_()
        ctx.save_for_backward(charged)
        ctx.settings = (tau, threshold, sharpness)
        return (charged >= threshold).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (charged,) = ctx.saved_tensors
        tau, threshold, sharpness = ctx.settings
        soft = (charged - threshold).mul_(sharpness).sigmoid_()
        through = torch.addcmul(soft, soft, soft, value=-1).mul_(grad).mul_(sharpness / tau)
        kept = (charged < threshold).mul(1 - 1 / tau)
        later = torch.zeros_like(grad[0])
        for now, keep in zip(reversed(through.unbind(0)), reversed(kept.unbind(0)), strict=True):
            later = now.addcmul_(keep, later)
        return through, None, None, None


class LIF(nn.Module):
    """Spikes of leaky integrate-and-fire neurons, along the first dimension.

    Hard reset to 0 after a spike, detached in the gradient; its surrogate is the derivative of
    sigmoid(sharpness * (potential - threshold)).

    Args:
        tau: time constant, in steps.
        threshold: potential at which a neuron fires.
        sharpness: slope of the surrogate.
    """

    def __init__(self, tau: float = 2.0, threshold: float = 1.0, sharpness: float = 4.0) -> None:
        super().__init__()
        self.tau = tau
        self.threshold = threshold
        self.sharpness = sharpness

    def forward(self, x: Tensor) -> Tensor:
        """Input currents (steps, …) -> spikes 0 or 1 of the same shape."""
        settings = (self.tau, self.threshold, self.sharpness)
        spikes: Tensor = _Fire.apply(x, *settings)  # type: ignore[no-untyped-call]
        return spikes

    def step(self, x: Tensor, potential: Tensor) -> tuple[Tensor, Tensor]:
        """One step: input current and potential before -> spikes, potential after."""
        charged = potential + (x - potential) / self.tau
        fires = charged >= self.threshold
        return fires.to(x.dtype), charged.masked_fill(fires, 0.0)
