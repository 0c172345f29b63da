import pytest
import torch
from torch.nn import functional as F

from experiments.flow_equivariant_rnn.rotation import (
    GroupConvolution,
    Lifting,
    RotationForecaster,
    spun,
    turned,
    turned_kernels,
)

QUARTERS = (-90, 0, 90, 180)


def network(velocities=QUARTERS, side=5):
    torch.manual_seed(0)
    return RotationForecaster(side, hidden=2, velocities=velocities, decoder_layers=1).double()


def noise(frames, side=5):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, frames, 1, side, side, generator=generator, dtype=torch.float64)


def quarter_turned(state, quarters):
    """The action on maps of eight orientations, by hand: pixels turn, orientations move by two."""
    maps = torch.rot90(state, quarters, (-2, -1)).unflatten(1, (-1, 8))
    return maps.roll(2 * quarters, 2).flatten(1, 2)


@pytest.mark.parametrize("side", [5, 6])
@pytest.mark.parametrize("moving", QUARTERS)
def test_the_state_of_a_turning_input_is_the_turned_state_at_the_relative_velocity(moving, side):
    model, x = network(side=side), noise(4, side)
    frames = [torch.rot90(f, t * moving // 90, (-2, -1)) for t, f in enumerate(x.unbind(1))]
    still, found = model.state(x), model.state(torch.stack(frames, 1))
    for index, velocity in enumerate(QUARTERS):
        relative = (velocity - moving + 90) % 360 - 90  # velocities are a group: none is missing
        other = QUARTERS.index(relative)
        expected = quarter_turned(still[:, other], 3 * moving // 90)
        torch.testing.assert_close(found[:, index], expected, rtol=0, atol=1e-12)
    assert float(still.detach().std()) > 0.005


def test_without_banks_the_state_of_a_turning_input_is_another():
    model, x = network((0,)), noise(4)
    frames = torch.stack([torch.rot90(f, t, (-2, -1)) for t, f in enumerate(x.unbind(1))], 1)
    difference = model.state(frames)[:, 0] - quarter_turned(model.state(x)[:, 0], 3)
    assert float(difference.detach().abs().max()) > 0.01


def test_every_quarter_of_a_turned_kernel_is_its_exact_rotation():
    kernel = torch.arange(9.0).view(3, 3)
    found = turned_kernels(kernel)
    for quarters in range(4):
        assert torch.equal(found[2 * quarters], torch.rot90(kernel, quarters))
    assert found[1].tolist() == [[1, 2, 5], [0, 4, 8], [3, 6, 7]]  # an eighth, anticlockwise


def test_group_convolutions_commute_with_quarter_turns():
    torch.manual_seed(0)
    lifting, convolution = Lifting(1, 3).double(), GroupConvolution(3, 2).double()
    frame = torch.rand(2, 1, 6, 6, dtype=torch.float64)
    maps = lifting(frame)
    torch.testing.assert_close(lifting(torch.rot90(frame, 1, (2, 3))), quarter_turned(maps, 1))
    found = convolution(quarter_turned(maps, 1))
    torch.testing.assert_close(found, quarter_turned(convolution(maps), 1))


def test_a_group_convolution_is_the_sum_over_orientations():
    torch.manual_seed(0)
    convolution = GroupConvolution(2, 3)
    maps = torch.rand(1, 2, 8, 5, 5)
    kernels = turned_kernels(convolution.weight)
    found = convolution(maps.flatten(1, 2)).unflatten(1, (3, 8))
    for theta in (0, 3):
        expected = sum(
            F.conv2d(maps[:, :, phi], kernels[theta][:, :, (phi - theta) % 8], padding=1)
            for phi in range(8)
        )
        torch.testing.assert_close(found[:, :, theta], expected)


def test_interpolated_turns_go_the_way_of_exact_ones():
    x, y = torch.meshgrid(*2 * [torch.linspace(-1, 1, 41)], indexing="ij")
    image = torch.exp(-8 * ((x - 0.3) ** 2 + (y + 0.2) ** 2))[None, None]
    torch.testing.assert_close(spun(image, 90.0), torch.rot90(image, 1, (2, 3)))
    twice = spun(spun(image, 30.0), 60.0)
    assert float((twice - torch.rot90(image, 1, (2, 3))).abs().max()) < 0.05
    each = spun(image.expand(2, -1, -1, -1), torch.tensor([0.0, 90.0]))
    torch.testing.assert_close(each[0], image[0])
    torch.testing.assert_close(each[1], torch.rot90(image[0], 1, (1, 2)))


def test_orientations_move_on_by_whole_eighths_towards_zero():
    maps = torch.zeros(1, 8, 3, 3)
    maps[:, 0] = 1.0
    for degrees, place in ((-40, 0), (40, 0), (90, 2), (-90, 6), (180, 4)):
        assert turned(maps, degrees)[0, :, 1, 1].argmax() == place


def test_banks_share_their_weights():
    counts = {sum(p.numel() for p in network(v).parameters()) for v in ((0,), QUARTERS)}
    assert counts == {2 * 9 + 2 * 2 * 8 * 9 + 16 * 16 * 9 + 16 * 9}
