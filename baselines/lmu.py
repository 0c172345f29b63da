"""Legendre Memory Units: a fixed linear memory of a sliding window, and the cell around it.

References: Voelker, Kajić, Eliasmith, "Legendre Memory Units", NeurIPS 2019 (the memory);
Chilkuri, Eliasmith, "Parallelizing Legendre Memory Unit Training", arXiv 2102.11417 (all steps at
once by Fourier transform).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import expm
from torch import Tensor, nn

Floats = npt.NDArray[np.float64]


def legendre_system(order: int, window: float) -> tuple[Floats, Floats]:
    """The delay line dm/dt = A m + B u that holds the last ``window`` time units of u.

    Its state holds the coefficients of u over the window in shifted Legendre polynomials. With
    R_i = (2i + 1) / window: A_ij = R_i * (-1 if i < j else (-1)^(i-j+1)), B_i = R_i (-1)^i.

    Returns:
        A of shape (order, order), B of shape (order,).
    """
    i = np.arange(order)
    row, column = i[:, None], i[None, :]
    rate = (2 * i + 1) / window
    a = rate[:, None] * np.where(row < column, -1.0, (-1.0) ** (row - column + 1))
    return a, rate * (-1.0) ** i


def held(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """One step of length 1 of dm/dt = A m + B u while u is held: m' = A' m + B' u.

    Both come out of one matrix exponential, exp([[A, B], [0, 0]]) = [[A', B'], [0, 1]].
    """
    order = len(b)
    joint = np.zeros((order + 1, order + 1))
    joint[:order, :order], joint[:order, order] = a, b
    step = expm(joint)
    return step[:order, :order], step[:order, order]


def impulse_response(a: Floats, b: Floats, steps: int) -> Floats:
    """The state after an impulse, B', A'B', A'²B', …: shape (steps, order)."""
    rows = [b]
    for _ in range(steps - 1):
        rows.append(a @ rows[-1])
    return np.stack(rows)


def window_readout(order: int, delay: Floats) -> Floats:
    """Weights c with u(t - delay * window) ≈ c @ m(t), for delays in [0, 1]: (delays, order).

    These are the shifted Legendre polynomials at the delays.
    """
    weights: Floats = np.polynomial.legendre.legvander(2 * delay - 1, order - 1).astype(np.float64)
    return weights


class LegendreMemory(nn.Module):
    """The memory of a scalar signal, in parallel or step by step; nothing in it is learned.

    Args:
        order: size d of the state.
        window: steps that are remembered (theta).
        steps: longest sequence of the parallel form.
    """

    transition: Tensor
    drive: Tensor
    spectrum: Tensor

    def __init__(self, order: int, window: float, steps: int) -> None:
        super().__init__()
        self.order = order
        self.steps = steps
        a, b = held(*legendre_system(order, window))
        response = torch.from_numpy(impulse_response(a, b, steps).T.copy())
        spectrum = torch.fft.rfft(response, n=2 * steps)  # twice as long: no wrapping around
        self._keep("transition", torch.from_numpy(a))
        self._keep("drive", torch.from_numpy(b))
        self._keep("spectrum", torch.view_as_real(spectrum))

    def _keep(self, name: str, value: Tensor) -> None:
        """Computed in double precision, kept in the default one; not part of a checkpoint."""
        self.register_buffer(name, value.to(torch.get_default_dtype()), persistent=False)

    def forward(self, u: Tensor) -> Tensor:
        """All states at once: u (batch, steps) -> m (batch, steps, order).

        A linear recurrence is a convolution with its impulse response, here by Fourier transform.

        Raises:
            ValueError: the sequence is longer than ``steps``.
        """
        length = u.shape[1]
        if length > self.steps:
            raise ValueError(f"{length} steps, but this memory is made for {self.steps}")
        signal = torch.fft.rfft(u, n=2 * self.steps)
        product = signal[:, None] * torch.view_as_complex(self.spectrum)
        states: Tensor = torch.fft.irfft(product, n=2 * self.steps)[..., :length]
        return states.transpose(1, 2)

    def step(self, u: Tensor, m: Tensor) -> Tensor:
        """One step: u (batch,) and the state before (batch, order) -> the state after."""
        return m @ self.transition.T + u[:, None] * self.drive


class LMU(nn.Module):
    """u = f(W_u x), m = memory of u, h = f(W_h [m; x]); f is ReLU.

    However wide the input, one number a step is written to the memory.
    """

    def __init__(self, features: int, hidden: int, order: int, window: float, steps: int) -> None:
        super().__init__()
        self.write = nn.Linear(features, 1)
        self.memory = LegendreMemory(order, window, steps)
        self.read = nn.Linear(order + features, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, steps, features) -> hidden states (batch, steps, hidden), in parallel."""
        m = self.memory(torch.relu(self.write(x)).squeeze(-1))
        return torch.relu(self.read(torch.cat([m, x], dim=-1)))

    def start(self, batch: int) -> Tensor:
        """The memory before the first step: zeros (batch, order)."""
        return self.memory.drive.new_zeros(batch, self.memory.order)

    def step(self, x: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
        """One step: x (batch, features), m (batch, order) -> hidden state, memory after."""
        m = self.memory.step(torch.relu(self.write(x)).squeeze(-1), m)
        return torch.relu(self.read(torch.cat([m, x], dim=-1))), m
