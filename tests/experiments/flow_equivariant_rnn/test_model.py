import pytest
import torch
from torch.nn import functional as F

from experiments.flow_equivariant_rnn.model import (
    TranslationCell,
    TranslationForecaster,
    velocities,
)


def flowing(x, rows, columns):
    """Each frame of (batch, time, channels, height, width) moved on at a velocity, by hand."""
    return torch.stack(
        [torch.roll(f, (t * rows, t * columns), (-2, -1)) for t, f in enumerate(x.unbind(1))], 1
    )


def network(height=6, width=7, reach=2, hidden=4, **settings):
    torch.manual_seed(0)
    return TranslationForecaster(
        height, width, hidden=hidden, reach=reach, decoder_layers=1, **settings
    ).double()


def noise(frames, height=6, width=7):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, frames, 1, height, width, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("moving", velocities(2, 6, 7))
def test_the_state_of_a_moving_input_is_the_moved_state_at_the_relative_velocity(moving):
    model, x = network(), noise(5)
    still, moved = model.state(x), model.state(flowing(x, *moving))
    banks = {v: index for index, v in enumerate(model.cell.velocities)}
    compared = 0
    for (rows, columns), index in banks.items():
        other = banks.get((rows - moving[0], columns - moving[1]))
        if other is not None:
            last = x.shape[1] - 1
            expected = torch.roll(still[:, other], (last * moving[0], last * moving[1]), (-2, -1))
            torch.testing.assert_close(moved[:, index], expected, rtol=0, atol=1e-12)
            compared += 1
    assert compared == (5 - abs(moving[0])) * (5 - abs(moving[1]))
    assert float(still.detach().std()) > 0.01


def test_without_banks_or_with_shifts_to_and_fro_the_state_of_a_moving_input_is_another():
    x = noise(5)
    for model, bank in ((network(reach=0), 0), (network(flow="alternating"), None)):
        bank = bank if bank is not None else model.cell.velocities.index((0, 1))
        still = 0 if len(model.cell.velocities) == 1 else model.cell.velocities.index((0, 0))
        expected = torch.roll(model.state(x)[:, still], 4, -1)
        found = model.state(flowing(x, 0, 1))[:, bank]
        assert float((found - expected).detach().abs().max()) > 0.05


def test_a_bank_is_a_recurrent_network_that_is_carried_along():
    """In a frame of reference that moves with a bank nothing but the input moves."""
    model, x = network(), noise(6)
    h = torch.zeros(2, 4, 6, 7, dtype=torch.float64)
    rows, columns = 1, -2
    for t, frame in enumerate(x.unbind(1)):
        stabilised = torch.roll(frame, (-t * rows, -t * columns), (-2, -1))
        both = torch.cat([h, stabilised], 1)
        weights = torch.cat([model.cell.recurrent.weight, model.cell.inputs.weight], 1)
        h = F.relu(F.conv2d(F.pad(both, (1, 1, 1, 1), mode="circular"), weights))
    expected = torch.roll(h, (5 * rows, 5 * columns), (-2, -1))
    found = model.state(x)[:, model.cell.velocities.index((rows, columns))]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_predictions_move_with_a_still_shift_and_with_nothing_else_exactly():
    model, x = network(), noise(4)
    torch.testing.assert_close(
        model(x.roll((1, 3), (-2, -1)), 3), model(x, 3).roll((1, 3), (-2, -1)), rtol=0, atol=1e-12
    )


def test_velocities_are_those_of_a_square_or_on_a_ring_of_a_line():
    assert len(velocities(2, 5, 5)) == 25
    assert velocities(1, 1, 9) == [(0, -1), (0, 0), (0, 1)]
    assert velocities(0, 5, 5) == [(0, 0)]


def test_banks_share_their_weights_which_are_those_of_the_authors_network():
    """U 1*128*9, W and four decoder layers 128*128*9 each, 128*9: counted by hand."""
    with torch.device("meta"):
        counts = {
            sum(p.numel() for p in TranslationForecaster(28, 28, reach=reach).parameters())
            for reach in (0, 1, 2)
        }
    assert counts == {739_584}


def test_predictions_are_fed_back_without_gradient():
    model, frames = network(), []
    model.cell.register_forward_pre_hook(lambda _, inputs: frames.append(inputs[0]))
    predicted = model(noise(3), 4)
    assert len(frames) == 7 and predicted.requires_grad
    assert not any(frame.requires_grad for frame in frames)
    torch.testing.assert_close(torch.stack(frames[4:], 1), predicted[:, :3])


@pytest.mark.parametrize("flow", ["constant", "alternating"])
def test_a_prediction_is_fed_back_and_decoded_from_the_largest_bank(flow):
    model, x = network(flow=flow), noise(3)
    h = model.cell(x[:, -1], model.state(x), 3)
    first = model.decoder(h.max(dim=1).values)
    second = model.decoder(model.cell(first, h, 4).max(dim=1).values)
    torch.testing.assert_close(model(x, 2), torch.stack([first, second], 1), rtol=0, atol=0)


def test_learned_kernels_that_are_shifts_make_the_flow_of_the_authors_sign():
    torch.manual_seed(0)
    learned = TranslationCell(1, 3, 6, 7, 1, "learned")
    constant = TranslationCell(1, 3, 6, 7, 1)
    learned.kernels.data.zero_()
    for index, (rows, columns) in enumerate(constant.velocities):
        learned.kernels.data[index, 0, 1 - rows, 1 - columns] = 1.0  # correlation, not convolution
    h = torch.randn(2, 9, 3, 6, 7)
    torch.testing.assert_close(learned.carry(h, 0), constant.carry(h, 0))


def test_alternating_shifts_are_undone_by_the_next():
    cell = TranslationCell(1, 2, 5, 5, 1, "alternating")
    h = torch.randn(1, 9, 2, 5, 5)
    once = cell.carry(h, 0)
    torch.testing.assert_close(cell.carry(once, 1), h)
    assert torch.equal(cell.carry(h, 2), once)
    assert not torch.equal(once, h)
