import pytest
import torch
from torch import Tensor, nn

from experiments.pointer_networks import recurrence

LENGTHS = torch.tensor([4, 1, 6, 4, 2])


@pytest.fixture
def lstm() -> nn.LSTM:
    torch.manual_seed(0)
    return nn.LSTM(3, 7, batch_first=True).double()


def start(seed: int = 1) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(5, 9, 7, generator=generator, dtype=torch.float64)
    inputs, hidden, cell = drawn[:, :7, :3].clone(), drawn[:, 7].clone(), drawn[:, 8].clone()
    return inputs.requires_grad_(), (hidden.requires_grad_(), cell.requires_grad_())


def one_by_one(
    lstm: nn.LSTM, inputs: Tensor, state: tuple[Tensor, Tensor], lengths: Tensor
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Each sequence through torch's layer by itself."""
    runs = [
        lstm(x[None, :n], (h[None, None], c[None, None]))
        for x, h, c, n in zip(inputs, *state, lengths.tolist(), strict=True)
    ]
    states = [found[0] for found, _ in runs]
    return states, torch.cat([h[0] for _, (h, _) in runs]), torch.cat([c[0] for _, (_, c) in runs])


@pytest.mark.parametrize("lengths", [LENGTHS, torch.full((5,), 7)])
def test_every_sequence_is_run_as_if_alone_with_the_same_gradients(
    lstm: nn.LSTM, lengths: Tensor
) -> None:
    inputs, state = start()
    weights = list(lstm.parameters())
    states, hidden, cell = recurrence.run(lstm, inputs, state, lengths)
    rows = [row[:n] for row, n in zip(states, lengths.tolist(), strict=True)]
    expected, last, memory = one_by_one(lstm, inputs, state, lengths)
    for found, wanted in zip(rows, expected, strict=True):
        torch.testing.assert_close(found, wanted)
    torch.testing.assert_close((hidden, cell), (last, memory))
    ours = sum((r**2).sum() for r in rows) + (hidden * cell).sum()
    theirs = sum((r**2).sum() for r in expected) + (last * memory).sum()
    of = [inputs, *state, *weights]
    torch.testing.assert_close(torch.autograd.grad(ours, of), torch.autograd.grad(theirs, of))


@pytest.mark.parametrize("lengths", [LENGTHS, torch.tensor([1, 1, 7, 2, 1])])
def test_states_alone_are_those_of_a_run(lstm: nn.LSTM, lengths: Tensor) -> None:
    inputs, state = start()
    found = recurrence.hidden_states(lstm, inputs, state, lengths)
    expected = recurrence.run(lstm, inputs, state, lengths)[0]
    for ours, theirs, n in zip(found, expected, lengths.tolist(), strict=True):
        torch.testing.assert_close(ours[:n], theirs[:n])


def test_one_step_is_the_layer_s_with_the_same_gradients(lstm: nn.LSTM) -> None:
    inputs, state = start()
    x, of = inputs[:, 0], [*state, *lstm.parameters()]
    hidden, cell = recurrence.cell(recurrence.weights(lstm), x, *state)
    _, (last, memory) = lstm(x.unsqueeze(1), (state[0][None], state[1][None]))
    torch.testing.assert_close((hidden, cell), (last[0], memory[0]))
    ours = torch.autograd.grad((hidden**2).sum() + (cell**3).sum(), of)
    theirs = torch.autograd.grad((last**2).sum() + (memory**3).sum(), of)
    torch.testing.assert_close(ours, theirs)


def test_the_gradient_is_that_of_finite_differences(lstm: nn.LSTM) -> None:
    inputs, state = start()
    small = (inputs[:, :3], *state)
    lengths = torch.tensor([2, 1, 3, 3, 1])
    run = lambda x, h, c: recurrence.run(lstm, x, (h, c), lengths)[1:]  # noqa: E731
    assert torch.autograd.gradcheck(run, small)
