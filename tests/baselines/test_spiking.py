import pytest
import torch

from baselines.spiking import LIF


def textbook(x, tau, threshold, sharpness):
    """The neuron by autograd: a straight-through surrogate, and a reset without gradient."""
    v, out = torch.zeros_like(x[0]), []
    for now in x:
        h = v + (now - v) / tau
        soft = torch.sigmoid(sharpness * (h - threshold))
        spike = (h >= threshold).to(x.dtype)
        out.append(spike.detach() + soft - soft.detach())
        v = h * (1 - spike.detach())
    return torch.stack(out)


@pytest.mark.parametrize(("tau", "threshold"), [(2.0, 1.0), (3.0, 0.5)])
def test_spikes_and_gradients_are_those_of_the_written_out_neuron(tau, threshold):
    torch.manual_seed(0)
    x = 2 * torch.randn(12, 3, 5, dtype=torch.float64)
    weights = torch.randn_like(x)
    found, expected = x.clone().requires_grad_(), x.clone().requires_grad_()
    spikes = LIF(tau, threshold)(found)
    reference = textbook(expected, tau, threshold, 4.0)
    assert 0.05 < float(spikes.detach().mean()) < 0.6
    torch.testing.assert_close(spikes, reference)
    (spikes * weights).sum().backward()
    (reference * weights).sum().backward()
    torch.testing.assert_close(found.grad, expected.grad)


def test_a_constant_current_charges_resets_and_fires_again():
    # v: 0.75, 1.125 -> fires at the second step, and from 0 again
    spikes = LIF(tau=2.0, threshold=1.0)(torch.full((6, 1), 1.5))
    assert spikes.flatten().tolist() == [0, 1, 0, 1, 0, 1]


def test_exactly_at_the_threshold_a_neuron_fires():
    assert LIF(tau=2.0, threshold=1.0)(torch.tensor([[2.0]])).item() == 1


def test_nothing_is_carried_from_one_call_to_the_next():
    neurons = LIF()
    x = torch.full((3, 2), 1.9)
    assert torch.equal(neurons(x), neurons(x))


def test_step_by_step_is_the_same():
    torch.manual_seed(1)
    neurons, x = LIF(threshold=0.5), torch.randn(20, 4)
    v, spikes = torch.zeros(4), []
    for now in x:
        spike, v = neurons.step(now, v)
        spikes.append(spike)
    torch.testing.assert_close(torch.stack(spikes), neurons(x))


def test_the_input_is_left_as_it_was():
    x = torch.randn(5, 2)
    kept = x.clone()
    LIF()(x)
    assert torch.equal(x, kept)
