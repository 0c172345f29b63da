import pytest
import torch

from experiments.rnn_review.model import SequenceModel, Translator


def test_outputs_after_the_last_step_and_after_each():
    x = torch.randint(5, (3, 7))
    assert SequenceModel(4, symbols=5, hidden=6)(x).shape == (3, 4)
    assert SequenceModel(1, symbols=5, hidden=6)(x).shape == (3,)
    model = SequenceModel(4, symbols=5, hidden=6, every_step=True)
    assert model(x).shape == (3, 4, 7)
    last = SequenceModel(4, symbols=5, hidden=6)
    last.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(x)[..., -1], last(x))
    assert SequenceModel(2, features=3, hidden=6)(torch.randn(2, 5, 3)).shape == (2, 2)


@pytest.mark.parametrize(("cell", "sees"), [("tanh", "past"), ("lstm", "past"), ("none", "now")])
def test_a_network_sees_the_past_and_a_feedforward_one_its_own_step(cell, sees):
    model = SequenceModel(2, cell, features=1, hidden=4, every_step=True)
    x = torch.randn(1, 6, 1, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(x)[0, 0, 3], x)
    seen = (gradient[0, :, 0] != 0).tolist()
    assert seen == [sees == "past"] * 3 + [True, False, False]


def test_in_both_directions_it_sees_the_future_but_no_padding():
    model = SequenceModel(2, features=1, hidden=4, both_directions=True, every_step=True)
    x = torch.randn(1, 6, 1, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(x, lengths=torch.tensor([5]))[0, 0, 3], x)
    assert (gradient[0, :, 0] != 0).tolist() == [True] * 5 + [False]


def test_networks_of_equal_parameters():
    sizes = {
        cell: sum(
            p.numel() for p in SequenceModel(4, cell, symbols=6, parameters=5000).layer.parameters()
        )
        for cell in ("tanh", "relu", "lstm", "gru", "none")
    }
    both = SequenceModel(4, symbols=6, parameters=5000, both_directions=True)
    sizes["both"] = sum(p.numel() for p in both.layer.parameters())
    assert all(0.93 * 5000 < size <= 5000 for size in sizes.values()), sizes


def test_words_and_endings_are_embedded_beside_each_other():
    model = SequenceModel(2, symbols=9, suffixes=4, embedding=8, hidden=3, every_step=True)
    x, suffix = torch.tensor([[1, 2]]), torch.tensor([[3, 0]])
    embedded = model._embedded(x, suffix)
    torch.testing.assert_close(embedded[..., :8], model.embedding(x))
    torch.testing.assert_close(embedded[..., 8:], model.suffix(suffix))


def test_dropout_is_off_in_evaluation():
    model = SequenceModel(2, symbols=9, embedding=8, hidden=3, every_step=True, dropout=0.5)
    x = torch.tensor([[1, 2, 3]])
    assert torch.equal(model.eval()(x), model(x))
    assert not torch.equal(model.train()(x), model(x))


def test_a_translator_reads_its_source_from_the_end():
    forward, backward = Translator(5, 6), Translator(5, 6, reverse_source=True)
    backward.load_state_dict(forward.state_dict())
    x, before = torch.randint(5, (2, 4)), torch.randint(5, (2, 4))
    torch.testing.assert_close(backward(x, before), forward(x.flip(1), before))
    assert not torch.allclose(backward(x, before), forward(x, before))


def test_a_translator_sees_no_later_target():
    model = Translator(5, 6)
    x, before = torch.randint(5, (1, 4)), torch.tensor([[5, 0, 1, 2]])
    later = torch.tensor([[5, 0, 3, 4]])
    torch.testing.assert_close(model(x, before)[..., :2], model(x, later)[..., :2])
    assert not torch.allclose(model(x, before)[..., 2:], model(x, later)[..., 2:])
