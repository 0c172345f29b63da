import numpy as np
import pytest
import torch
from scipy import integrate, signal, special

from baselines.lmu import (
    LMU,
    LegendreMemory,
    held,
    impulse_response,
    legendre_system,
    window_readout,
)


def test_the_step_is_scipys_zero_order_hold():
    a, b = legendre_system(12, 20.0)
    found = held(a, b)
    expected = signal.cont2discrete((a, b[:, None], np.eye(12), np.zeros((12, 1))), 1.0, "zoh")
    np.testing.assert_allclose(found[0], expected[0], atol=1e-12)
    np.testing.assert_allclose(found[1], expected[1][:, 0], atol=1e-12)


def test_a_small_system_is_the_one_of_the_definition():
    a, b = legendre_system(3, 2.0)
    np.testing.assert_allclose(a, [[-0.5, -0.5, -0.5], [1.5, -1.5, -1.5], [-2.5, 2.5, -2.5]])
    np.testing.assert_allclose(b, [0.5, -1.5, 2.5])


def test_the_readout_is_the_shifted_legendre_polynomials():
    delays = np.linspace(0, 1, 11)
    expected = np.stack([special.eval_sh_legendre(i, delays) for i in range(7)], axis=1)
    np.testing.assert_allclose(window_readout(7, delays), expected, atol=1e-12)


def test_a_polynomial_is_remembered_exactly():
    """The memory of a long-running u(t) = t² is its expansion over the window, up to order 3."""
    window = 2.0
    a, b = legendre_system(30, window)
    times = (0.0, 12.0)
    found = integrate.solve_ivp(
        lambda t, m: a @ m + b * t**2, times, np.zeros(30), rtol=1e-10, atol=1e-10
    ).y[:, -1]
    delays = np.linspace(0, 1, 9)
    np.testing.assert_allclose(
        window_readout(30, delays) @ found, (12 - delays * window) ** 2, rtol=1e-3
    )


@pytest.mark.parametrize("length", [1, 13, 24])
def test_parallel_and_recurrent_states_agree(length):
    torch.manual_seed(0)
    memory = LegendreMemory(order=10, window=16, steps=24)
    u = torch.randn(3, length)
    m, states = torch.zeros(3, 10), []
    for now in u.unbind(1):
        m = memory.step(now, m)
        states.append(m)
    torch.testing.assert_close(memory(u), torch.stack(states, dim=1), rtol=1e-5, atol=1e-5)


def test_parallel_states_are_a_convolution_with_the_impulse_response():
    memory = LegendreMemory(order=4, window=8, steps=10)
    response = impulse_response(*held(*legendre_system(4, 8)), 10)
    u = torch.randn(1, 10)
    expected = [np.convolve(u[0].numpy(), response[:, i])[:10] for i in range(4)]
    np.testing.assert_allclose(memory(u)[0].numpy(), np.stack(expected, 1), atol=1e-5)


def test_the_memory_refuses_sequences_that_would_wrap():
    with pytest.raises(ValueError, match="25 steps"):
        LegendreMemory(4, 8, 24)(torch.zeros(1, 25))


def test_the_cell_is_the_same_in_parallel_and_step_by_step():
    torch.manual_seed(1)
    cell = LMU(features=5, hidden=7, order=6, window=9, steps=9)
    x = torch.randn(2, 9, 5)
    m, states = cell.start(2), []
    for now in x.unbind(1):
        h, m = cell.step(now, m)
        states.append(h)
    torch.testing.assert_close(cell(x), torch.stack(states, dim=1), rtol=1e-4, atol=1e-5)


def test_hidden_states_depend_on_the_past_only():
    torch.manual_seed(2)
    cell = LMU(5, 7, 6, window=9, steps=9)
    x = torch.randn(1, 9, 5)
    changed = x.clone()
    changed[:, 6:] += 1
    before, after = cell(x), cell(changed)
    torch.testing.assert_close(before[:, :6], after[:, :6], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(before[:, 6], after[:, 6], atol=1e-3)


def test_nothing_in_the_memory_is_learned_or_stored():
    cell = LMU(5, 7, 6, window=9, steps=9)
    assert {name for name, _ in cell.named_parameters()} == set(cell.state_dict())
    assert sum(p.numel() for p in cell.parameters()) == (5 + 1) + (6 + 5 + 1) * 7
