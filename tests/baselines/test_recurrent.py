import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from baselines.recurrent import GATES, Recurrent, layer, reversed_in_time, units


def test_an_elman_layer_computes_its_equation():
    net = Recurrent(3, 5, "tanh").double()
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    w, u = net.forth.weight_ih_l0, net.forth.weight_hh_l0
    h = torch.zeros(2, 5, dtype=torch.float64)
    for t in range(4):
        h = torch.tanh(x[:, t] @ w.T + h @ u.T)
        torch.testing.assert_close(net(x)[:, t], h)


def test_an_lstm_computes_its_equations():
    net = Recurrent(3, 5, "lstm").double()
    x = torch.randn(2, 6, 3, dtype=torch.float64)
    units_ = net.forth
    h = c = torch.zeros(2, 5, dtype=torch.float64)
    for t in range(6):
        affine = x[:, t] @ units_.weight_ih_l0.T + h @ units_.weight_hh_l0.T
        i, f, g, o = affine.chunk(4, dim=-1)
        c = torch.sigmoid(f + 1) * c + i.sigmoid() * g.tanh()  # the forget gate starts open
        h = o.sigmoid() * c.tanh()
    torch.testing.assert_close(net(x)[:, -1], h)


def test_simple_networks_start_where_errors_neither_vanish_nor_explode():
    recurrent = layer(3, 6, "tanh").weight_hh_l0
    torch.testing.assert_close(recurrent @ recurrent.T, torch.eye(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(layer(3, 6, "relu").weight_hh_l0, torch.eye(6), atol=0, rtol=0)


@pytest.mark.parametrize("cell", ["tanh", "lstm", "gru"])
@pytest.mark.parametrize("both", [False, True])
def test_as_many_units_as_fit_the_parameters(cell, both):
    def count(hidden):
        return sum(p.numel() for p in Recurrent(7, hidden, cell, both).parameters())

    hidden = units(cell, 7, 5000, 1 + both)
    assert count(hidden) <= 5000 < count(hidden + 1)
    exact = (1 + both) * GATES[cell] * 10 * (7 + 10 + 2)
    assert units(cell, 7, exact, 1 + both) == 10
    with pytest.raises(ValueError, match="too few"):
        units(cell, 7, 5)


def test_a_backward_layer_does_not_see_padding():
    net = Recurrent(3, 4, "lstm", both_directions=True)
    library = nn.LSTM(3, 4, batch_first=True, bidirectional=True)
    with torch.no_grad():
        for direction, suffix in ((net.forth, ""), (net.back, "_reverse")):
            for name, parameter in direction.named_parameters():
                getattr(library, name + suffix).copy_(parameter)
    x, lengths = torch.randn(3, 6, 3), torch.tensor([6, 4, 1])
    packed = pack_padded_sequence(x, lengths, batch_first=True)
    expected, _ = pad_packed_sequence(library(packed)[0], batch_first=True)
    valid = torch.arange(6) < lengths[:, None]
    torch.testing.assert_close(net(x, lengths)[valid], expected[valid])
    torch.testing.assert_close(net(x), library(x)[0])


def test_reversing_twice_changes_nothing():
    x, lengths = torch.randn(4, 7, 2), torch.tensor([7, 1, 3, 5])
    once = reversed_in_time(x, lengths)
    assert torch.equal(once[2, :3], x[2, :3].flip(0)) and torch.equal(once[2, 3:], x[2, 3:])
    assert torch.equal(reversed_in_time(once, lengths), x)


@pytest.mark.parametrize("cell", ["tanh", "lstm"])
def test_a_window_cuts_gradients_and_nothing_else(cell):
    whole, cut = Recurrent(2, 4, cell), Recurrent(2, 4, cell, window=3)
    cut.load_state_dict(whole.state_dict())
    x = torch.randn(2, 7, 2, requires_grad=True)
    torch.testing.assert_close(cut(x), whole(x))
    (full,) = torch.autograd.grad(whole(x)[:, -1].sum(), x)
    (truncated,) = torch.autograd.grad(cut(x)[:, -1].sum(), x)
    assert (full.abs().sum(-1) > 0).all()
    assert (truncated[:, :6] == 0).all() and (truncated[:, 6] != 0).any()
